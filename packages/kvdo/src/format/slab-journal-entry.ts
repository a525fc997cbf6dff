/**
 * An entry of a slab journal: a block of the slab gains or loses a reference.
 *
 * ```
 * 0-1  slab block number bits 15-0
 * 2    bits 6-0: bits 22-16; bit 7: 1 for an increment
 * ```
 * Entry numbers count from 0; `block` is the whole 4096-byte block.
 */
import {
  BLOCK_SIZE,
  SLAB_JOURNAL_BITMAP_SIZE,
  SLAB_JOURNAL_ENTRY_SIZE,
  SLAB_JOURNAL_HEADER_SIZE,
} from "../constants.ts";

/** Byte at which the bit map of block map increments starts, when the block has one. */
export const SLAB_JOURNAL_BITMAP_OFFSET = BLOCK_SIZE - SLAB_JOURNAL_BITMAP_SIZE;

/** Byte at which entry `index` starts. */
export function slabJournalEntryAt(index: number): number {
  return SLAB_JOURNAL_HEADER_SIZE + index * SLAB_JOURNAL_ENTRY_SIZE;
}

/** Writes entry `index`: slab block number `offset` (0 to 2^23 - 1), and whether it gains a reference. */
export function writeSlabJournalEntry(block: Uint8Array, index: number, offset: number, increment: boolean): void {
  const at = slabJournalEntryAt(index);
  block[at] = offset;
  block[at + 1] = offset >>> 8;
  block[at + 2] = (offset >>> 16) | (increment ? 0x80 : 0);
}

/** Slab block number of entry `index`. */
export function readSlabJournalOffset(block: Uint8Array, index: number): number {
  const at = slabJournalEntryAt(index);
  return block[at]! | (block[at + 1]! << 8) | ((block[at + 2]! & 0x7f) << 16);
}

/** True when entry `index` is an increment. */
export function isSlabJournalIncrement(block: Uint8Array, index: number): boolean {
  return (block[slabJournalEntryAt(index) + 2]! & 0x80) !== 0;
}

/** Clears the bit map: at the moment a block gets its first block map increment. */
export function clearSlabJournalBlockMapEntries(block: Uint8Array): void {
  block.fill(0, SLAB_JOURNAL_BITMAP_OFFSET, BLOCK_SIZE);
}

/** Marks entry `index` as a block map increment. */
export function markSlabJournalBlockMapEntry(block: Uint8Array, index: number): void {
  const at = SLAB_JOURNAL_BITMAP_OFFSET + (index >> 3);
  block[at] = block[at]! | (1 << (index & 7));
}

/** True when entry `index` is marked as a block map increment. Only meaningful when the header says there is a bit map. */
export function isSlabJournalBlockMapEntry(block: Uint8Array, index: number): boolean {
  return (block[SLAB_JOURNAL_BITMAP_OFFSET + (index >> 3)]! & (1 << (index & 7))) !== 0;
}
