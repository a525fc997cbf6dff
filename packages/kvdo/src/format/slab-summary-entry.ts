/**
 * An entry of the slab summary: 16 bits per slab, handled as a number.
 *
 * ```
 * bits 7-0   position in the slab's journal where the next block goes
 * bits 13-8  fullness hint
 * bit 14     load: the reference counts on disk must be read
 * bit 15     dirty: the journal may hold changes that the counts do not
 * ```
 */
import { SUMMARY_ENTRY_SIZE } from "../constants.ts";

/** An entry as an object, where speed does not matter. */
export interface SlabSummaryEntry {
  /** 0 to 223. */
  tailOffset: number;
  /** 0 to 63. */
  fullnessHint: number;
  loadCounts: boolean;
  isDirty: boolean;
}

/** Packs an entry into 16 bits. `tailOffset` is 0 to 255, `hint` 0 to 63. */
export function packSummaryEntry(tailOffset: number, hint: number, loadCounts: boolean, isDirty: boolean): number {
  return tailOffset | (hint << 8) | (loadCounts ? 0x4000 : 0) | (isDirty ? 0x8000 : 0);
}

export function summaryTailOffset(entry: number): number {
  return entry & 0xff;
}

export function summaryFullnessHint(entry: number): number {
  return (entry >> 8) & 0x3f;
}

export function summaryLoadsCounts(entry: number): boolean {
  return (entry & 0x4000) !== 0;
}

export function summaryIsDirty(entry: number): boolean {
  return (entry & 0x8000) !== 0;
}

/** The entry of a slab that was never used. */
export function defaultSummaryEntry(fullnessHint: number): SlabSummaryEntry {
  return { tailOffset: 0, fullnessHint, loadCounts: false, isDirty: false };
}

/** Byte in one zone's part of the summary at which the entry of slab `slab` starts. */
export function summaryEntryAt(slab: number): number {
  return slab * SUMMARY_ENTRY_SIZE;
}

/** Reads the entry at byte `at`. */
export function readSummaryEntry(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

/** Writes an entry at byte `at`. */
export function writeSummaryEntry(bytes: Uint8Array, at: number, entry: number): void {
  bytes[at] = entry;
  bytes[at + 1] = entry >> 8;
}

/** The entry at byte `at` as an object. */
export function decodeSummaryEntry(bytes: Uint8Array, at: number): SlabSummaryEntry {
  const entry = readSummaryEntry(bytes, at);
  return {
    tailOffset: summaryTailOffset(entry),
    fullnessHint: summaryFullnessHint(entry),
    loadCounts: summaryLoadsCounts(entry),
    isDirty: summaryIsDirty(entry),
  };
}

/** Writes an entry at byte `at`. */
export function encodeSummaryEntry(bytes: Uint8Array, at: number, entry: SlabSummaryEntry): void {
  const { tailOffset, fullnessHint, loadCounts, isDirty } = entry;
  writeSummaryEntry(bytes, at, packSummaryEntry(tailOffset, fullnessHint, loadCounts, isDirty));
}
