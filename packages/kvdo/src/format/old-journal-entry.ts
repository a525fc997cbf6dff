/**
 * An entry of the recovery journal as 6.2 and 8.2 wrote it (metadata type 1): one reference change of one slot.
 *
 * ```
 * 0  u16    bits 1-0 operation, bits 11-2 slot, bits 15-12 page number bits 35-32
 * 2  u32    page number bits 31-0
 * 6  5      mapping: the one removed by a decrement, the new one of an increment
 * ```
 * 46 entries in each of the sectors 1 to 6, 35 in sector 7. Slot and page are read as in the present format.
 */
import { JOURNAL_SECTOR_HEADER_SIZE, SECTOR_SIZE } from "../constants.ts";

export const OLD_JOURNAL_OPERATION = {
  dataDecrement: 0,
  dataIncrement: 1,
  blockMapDecrement: 2,
  blockMapIncrement: 3,
} as const;

export const OLD_JOURNAL_ENTRY_SIZE = 11;
export const OLD_JOURNAL_ENTRIES_PER_SECTOR = 46;
export const OLD_JOURNAL_ENTRIES_PER_BLOCK = 311;
export const OLD_JOURNAL_MAPPING_AT = 6;

/** Entries that sector `sector` (1 to 7) can hold. */
export function oldJournalSectorCapacity(sector: number): number {
  return Math.min(
    OLD_JOURNAL_ENTRIES_PER_SECTOR,
    OLD_JOURNAL_ENTRIES_PER_BLOCK - (sector - 1) * OLD_JOURNAL_ENTRIES_PER_SECTOR,
  );
}

/** Byte in an old recovery journal block at which entry `index` (0 to 310) starts. */
export function oldJournalEntryAt(index: number): number {
  const sector = 1 + Math.floor(index / OLD_JOURNAL_ENTRIES_PER_SECTOR);
  const place = index % OLD_JOURNAL_ENTRIES_PER_SECTOR;
  return sector * SECTOR_SIZE + JOURNAL_SECTOR_HEADER_SIZE + place * OLD_JOURNAL_ENTRY_SIZE;
}
