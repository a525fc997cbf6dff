/** What was on a disk before the volume. */
import { Random } from "@vdo/base";
import { type TinyOptions, tinyBlocks } from "@vdo/kvdo/testing";
import { BLOCK_BYTES } from "./content.ts";

/** Blocks at the start and at the end of each slab that are not zeros on a used disk. */
const LEFTOVERS_AT_START = 400;
const LEFTOVERS_AT_END = 24;
/** Blocks of the slab summary, after the journal. */
export const SUMMARY_BLOCKS = 64;

/** What a used disk holds where the slabs of a new volume are: nobody clears them. */
export function leftovers(tiny: TinyOptions): Map<number, Uint8Array> {
  const blocks = new Map<number, Uint8Array>();
  const garbage = new Random(tiny.slabBits).fill(new Uint8Array(BLOCK_BYTES));
  const size = 2 ** tiny.slabBits;
  const first = tinyBlocks(tiny) - SUMMARY_BLOCKS - tiny.recoveryJournalBlocks - tiny.slabs * size;
  for (let slab = 0; slab < tiny.slabs; slab++) {
    for (let i = 0; i < LEFTOVERS_AT_START; i++) blocks.set(first + slab * size + i, garbage);
    for (let i = size - LEFTOVERS_AT_END; i < size; i++) blocks.set(first + slab * size + i, garbage);
  }
  return blocks;
}
