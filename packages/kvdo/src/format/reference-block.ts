/**
 * A block of reference counts: eight sectors, each a commit point and 504 counts of one byte.
 *
 * The commit point is the last slab journal entry that the slab's counts reflected when the block was written; all
 * sectors of a block are written with the same one, so different ones reveal a torn write.
 */
import { bytes, struct, type ValueOf } from "@vdo/base";
import { COUNTS_PER_BLOCK, COUNTS_PER_SECTOR, SECTOR_SIZE } from "../constants.ts";
import { journalPoint } from "./journal-point.ts";

export const referenceSector = struct("ReferenceSector", SECTOR_SIZE, {
  /** Point in the slab's journal; not expanded. */
  commitPoint: journalPoint,
  counts: bytes(COUNTS_PER_SECTOR),
});
export type ReferenceSector = ValueOf<typeof referenceSector>;

/** Byte in a sector at which its counts start. */
export const REFERENCE_COUNTS_AT = referenceSector.at.counts.offset;

/** Reference block of the slab that holds the count of slab block `sbn`. */
export function referenceBlockOf(sbn: number): number {
  return Math.floor(sbn / COUNTS_PER_BLOCK);
}

/** Where {@link readCommitPoint} puts what it reads: one place per sector. */
export interface CommitPoints {
  sequences: Float64Array | number[];
  entries: Uint16Array | Int32Array | number[];
}

/** Reads the commit point of the sector that starts at byte `at` into place `place` of `points`. */
export function readCommitPoint(block: Uint8Array, at: number, points: CommitPoints, place: number): void {
  const low = block[at + 2]! | (block[at + 3]! << 8) | (block[at + 4]! << 16);
  const high = block[at + 5]! | (block[at + 6]! << 8) | (block[at + 7]! << 16);
  points.entries[place] = block[at]! | (block[at + 1]! << 8);
  points.sequences[place] = high * 0x100_0000 + low;
}

/** Writes the commit point of the sector that starts at byte `at`. `sequence` is below 2^48. */
export function writeCommitPoint(block: Uint8Array, at: number, sequence: number, entry: number): void {
  const high = Math.floor(sequence / 0x100_0000);
  block[at] = entry;
  block[at + 1] = entry >>> 8;
  block[at + 2] = sequence;
  block[at + 3] = sequence >>> 8;
  block[at + 4] = sequence >>> 16;
  block[at + 5] = high;
  block[at + 6] = high >>> 8;
  block[at + 7] = high >>> 16;
}
