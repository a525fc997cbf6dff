/**
 * A point in a journal: a block's sequence number and an entry in it. Packed into a u64 as `(sequence << 16) | entry`,
 * which in little-endian bytes is a 16-bit entry and then a 48-bit sequence number: so no 64-bit arithmetic is needed.
 *
 * An expanded point names one of the two reference changes of a recovery journal entry: its entry part is twice the
 * entry's index, plus one for the decrement.
 */
import { type Field, struct, u16le, type ValueOf, VdoError } from "@vdo/base";
import { SEQUENCE_LIMIT } from "../constants.ts";
import type {} from "../errors.ts";

/** A sequence number below 2^48. Writing a larger one throws `VDO_JOURNAL_OVERFLOW`. */
export const u48le: Field<number> = {
  size: 6,
  kind: "u48le",
  get: (view, at) => view.getUint16(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true),
  set: (view, at, value) => {
    if (!(value >= 0 && value < SEQUENCE_LIMIT)) {
      throw new VdoError("VDO_JOURNAL_OVERFLOW", `sequence number ${value} is not below 2^48`, { sequence: value });
    }
    view.setUint32(at, value >>> 0, true);
    view.setUint16(at + 4, Math.floor(value / 0x1_0000_0000), true);
  },
};

export const journalPoint = struct("JournalPoint", 8, { entry: u16le, sequence: u48le });
export type JournalPoint = ValueOf<typeof journalPoint>;

/** True when point (sequence, entry) comes before the other one. */
export function isBefore(sequence: number, entry: number, otherSequence: number, otherEntry: number): boolean {
  return sequence < otherSequence || (sequence === otherSequence && entry < otherEntry);
}

/** Entry part of the expanded point of entry `index`: of its increment, or of its decrement. */
export function expandedEntry(index: number, isIncrement: boolean): number {
  return 2 * index + (isIncrement ? 0 : 1);
}
