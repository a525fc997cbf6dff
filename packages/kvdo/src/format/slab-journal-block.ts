/**
 * A block of a slab's journal: header, then 3-byte entries; with block map increments among them, a bit map at the end
 * that tells which entries those are. Bytes after the last entry, outside the bit map, are undefined.
 */
import { struct, u8, u16le, u64le, u64leBig, type ValueOf } from "@vdo/base";
import { SLAB_JOURNAL_HEADER_SIZE } from "../constants.ts";
import { journalPoint } from "./journal-point.ts";

export const slabJournalHeader = struct("SlabJournalHeader", SLAB_JOURNAL_HEADER_SIZE, {
  /** Oldest sequence number still needed, as known when the block was written. */
  head: u64le,
  sequence: u64le,
  /** Expanded point in the recovery journal of the last entry. */
  recoveryPoint: journalPoint,
  nonce: u64leBig,
  /** `METADATA_TYPE.slabJournal`. */
  metadataType: u8,
  /** 1 when the payload ends with a bit map. */
  hasBlockMapIncrements: u8,
  entryCount: u16le,
});
export type SlabJournalHeader = ValueOf<typeof slabJournalHeader>;

const at = slabJournalHeader.at;
const POINT_AT = at.recoveryPoint.offset;

/** Sequence part of the block's recovery point; nothing is allocated. */
export function readRecoveryPointSequence(view: DataView): number {
  return journalPoint.at.sequence.get(view, POINT_AT);
}

/** Entry part (expanded) of the block's recovery point. */
export function readRecoveryPointEntry(view: DataView): number {
  return journalPoint.at.entry.get(view, POINT_AT);
}

export function writeRecoveryPoint(view: DataView, sequence: number, entry: number): void {
  journalPoint.at.sequence.set(view, POINT_AT, sequence);
  journalPoint.at.entry.set(view, POINT_AT, entry);
}
