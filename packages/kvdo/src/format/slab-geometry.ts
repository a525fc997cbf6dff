/**
 * The shape of a slab: data blocks, then reference counts, then the journal.
 *
 * ```
 * slab n at first + n × slabBlocks
 * ┌────────────────────┬──────────────────────┬───────────────────┐
 * │ data (dataBlocks)  │ referenceCountBlocks │ slabJournalBlocks │
 * └────────────────────┴──────────────────────┴───────────────────┘
 * ```
 */
import { VdoError } from "@vdo/base";
import {
  COUNTS_PER_BLOCK,
  DEFAULT_SLAB_JOURNAL_BLOCKS,
  FULLNESS_HINT_BITS,
  MAXIMUM_SLAB_BLOCKS,
  slabJournalThresholds,
} from "../constants.ts";
import type {} from "../errors.ts";
import type { SlabConfig } from "./slab-depot-component.ts";

const ceilDiv = (a: number, b: number): number => Math.ceil(a / b);

function bad(field: string, expected: unknown, actual: unknown): never {
  throw new VdoError("VDO_BAD_CONFIGURATION", `slab configuration: ${field} is ${actual}, ${expected} is needed`, {
    structure: "SlabConfig",
    field,
    expected,
    actual,
  });
}

/**
 * The configuration that the formatter stores for slabs of `slabBlocks` blocks (a power of two).
 * Throws `VDO_BAD_CONFIGURATION` when nothing would be left for data.
 */
export function computeSlabConfig(slabBlocks: number, slabJournalBlocks = DEFAULT_SLAB_JOURNAL_BLOCKS): SlabConfig {
  if (!isPowerOfTwo(slabBlocks) || slabBlocks > MAXIMUM_SLAB_BLOCKS) {
    bad("slabBlocks", `a power of two up to ${MAXIMUM_SLAB_BLOCKS}`, slabBlocks);
  }
  if (slabJournalBlocks < 2 || slabJournalBlocks >= slabBlocks) {
    bad("slabJournalBlocks", `2 to ${slabBlocks - 1}`, slabJournalBlocks);
  }
  const rest = slabBlocks - slabJournalBlocks;
  const referenceCountBlocks = ceilDiv(rest, COUNTS_PER_BLOCK);
  let dataBlocks = rest - referenceCountBlocks;
  if (dataBlocks < 1) bad("dataBlocks", "at least 1", dataBlocks);
  // Small slabs exist in tests only; they are rounded down so that their data can be addressed by a mask.
  if (slabBlocks < 1024) dataBlocks = 2 ** Math.floor(Math.log2(dataBlocks));
  const thresholds = slabJournalThresholds(slabJournalBlocks);
  return {
    slabBlocks,
    dataBlocks,
    referenceCountBlocks,
    slabJournalBlocks,
    flushingThreshold: thresholds.flushing,
    blockingThreshold: thresholds.blocking,
    scrubbingThreshold: thresholds.scrubbing,
  };
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}

/** Reference blocks that are really used: one less than reserved from slab bits 20 on. */
export function usedReferenceBlocks({ dataBlocks }: { dataBlocks: number }): number {
  return ceilDiv(dataBlocks, COUNTS_PER_BLOCK);
}

/** Bits by which a number of free blocks is shifted to give a fullness hint. */
export function fullnessHintShift(slabBlocks: number): number {
  return Math.max(0, Math.round(Math.log2(slabBlocks)) - FULLNESS_HINT_BITS);
}

/** The fullness hint of a slab with `freeBlocks` unreferenced data blocks: 0 only when there is none. */
export function fullnessHint(freeBlocks: number, shift: number): number {
  return freeBlocks === 0 ? 0 : Math.max(1, freeBlocks >> shift);
}
