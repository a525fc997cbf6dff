/**
 * An entry of the recovery journal: one slot of one block map page, what it now holds and what it held.
 *
 * ```
 * 0  u16    bits 1-0 operation, bits 11-2 slot, bits 15-12 page number bits 35-32
 * 2  u32    page number bits 31-0
 * 6  5      new mapping: its block gains a reference
 * 11 5      old mapping: its block loses one
 * ```
 */
import {
  JOURNAL_ENTRIES_PER_SECTOR,
  JOURNAL_ENTRY_SIZE,
  JOURNAL_SECTOR_HEADER_SIZE,
  SECTOR_SIZE,
} from "../constants.ts";
import { writeMapping } from "./mapping.ts";

/** A logical block was written, zeroed or discarded. */
export const JOURNAL_OPERATION_DATA = 0;
/** A block map page was allocated. */
export const JOURNAL_OPERATION_BLOCK_MAP = 1;

/** Offsets in an entry; read the mappings there with `readMappingPbn` and `readMappingState`. */
export const JOURNAL_NEW_MAPPING_AT = 6;
export const JOURNAL_OLD_MAPPING_AT = 11;

/** Byte in a recovery journal block at which entry `index` (0 to 216) starts: 31 in each of the sectors 1 to 7. */
export function journalEntryAt(index: number): number {
  const sector = 1 + Math.floor(index / JOURNAL_ENTRIES_PER_SECTOR);
  const place = index % JOURNAL_ENTRIES_PER_SECTOR;
  return sector * SECTOR_SIZE + JOURNAL_SECTOR_HEADER_SIZE + place * JOURNAL_ENTRY_SIZE;
}

/**
 * Writes an entry at byte `at`. `slotPbn` is the number of the block map page, `slot` 0 to 811; then the mapping that the
 * slot held, and the one that it now holds. Nothing is checked here.
 */
export function writeJournalEntry(
  bytes: Uint8Array,
  at: number,
  operation: number,
  slotPbn: number,
  slot: number,
  oldPbn: number,
  oldState: number,
  newPbn: number,
  newState: number,
): void {
  const word = operation | (slot << 2) | (Math.floor(slotPbn / 0x1_0000_0000) << 12);
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = slotPbn;
  bytes[at + 3] = slotPbn >>> 8;
  bytes[at + 4] = slotPbn >>> 16;
  bytes[at + 5] = slotPbn >>> 24;
  writeMapping(bytes, at + JOURNAL_NEW_MAPPING_AT, newPbn, newState);
  writeMapping(bytes, at + JOURNAL_OLD_MAPPING_AT, oldPbn, oldState);
}

/** Operation of the entry at byte `at`: 0 to 3, of which 2 and 3 occur in old journals only. */
export function readJournalEntryOperation(bytes: Uint8Array, at: number): number {
  return bytes[at]! & 3;
}

/** Slot of the entry at byte `at`: 0 to 1023, of which up to 811 are valid. */
export function readJournalEntrySlot(bytes: Uint8Array, at: number): number {
  return (bytes[at]! >> 2) | ((bytes[at + 1]! & 15) << 6);
}

/** Number of the block map page of the entry at byte `at`. */
export function readJournalEntrySlotPbn(bytes: Uint8Array, at: number): number {
  const low = bytes[at + 2]! | (bytes[at + 3]! << 8) | (bytes[at + 4]! << 16);
  return (bytes[at + 1]! >> 4) * 0x1_0000_0000 + (bytes[at + 5]! * 0x100_0000 + low);
}
