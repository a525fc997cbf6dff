/**
 * The code in which differences of addresses are stored (Linux 6.12, delta index): a truncated Golomb code.
 *
 * A delta below `minKeys` is `minBits` bits. A larger one is `minKeys + t mod increment` in `minBits` bits, where
 * t = delta - minKeys, then ⌊t / increment⌋ zero bits, then a one bit. The bits of a stream go from the least significant
 * bit of each byte upwards.
 */
import { bitsFor } from "../arithmetic.ts";

export interface DeltaCode {
  readonly increment: number;
  readonly minBits: number;
  readonly minKeys: number;
}

/** The constants for a mean delta of 1 to 2^32: the increment is ln 2 times the mean, as an integer fraction. */
export function deltaCode(meanDelta: number): DeltaCode {
  const increment = Math.floor((836158 * meanDelta + 603160) / 1206321);
  const minBits = bitsFor(increment + 1);
  return { increment, minBits, minKeys: 2 ** minBits - increment };
}

/** Bits that the code of `delta` takes. */
export function codeBits(code: DeltaCode, delta: number): number {
  if (delta < code.minKeys) return code.minBits;
  return code.minBits + 1 + Math.floor((delta - code.minKeys) / code.increment);
}

/** Bits that `entries` entries with `valueBits` bits of payload are expected to take. */
export function expectedBits(entries: number, meanDelta: number, valueBits: number): number {
  return entries * (valueBits + deltaCode(meanDelta).minBits + 1) + Math.floor(entries / 2);
}
