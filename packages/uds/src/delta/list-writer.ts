/** Writes entries of a delta list; the reverse of {@link ListCursor}. */
import { setBits, setName } from "./bits.ts";
import type { DeltaCode } from "./delta-code.ts";

/** Writes payload and delta at `bit`; returns the bit behind them. */
export function writeEntry(
  view: DataView,
  base: number,
  bit: number,
  code: DeltaCode,
  valueBits: number,
  value: number,
  delta: number,
): number {
  setBits(view, base, bit, valueBits, value);
  let at = bit + valueBits;
  if (delta < code.minKeys) {
    setBits(view, base, at, code.minBits, delta);
    return at + code.minBits;
  }
  const rest = delta - code.minKeys;
  let zeros = (rest / code.increment) | 0;
  setBits(view, base, at, code.minBits, code.minKeys + rest - zeros * code.increment);
  at += code.minBits;
  while (zeros >= 24) {
    setBits(view, base, at, 24, 0);
    at += 24;
    zeros -= 24;
  }
  setBits(view, base, at, zeros + 1, 1 << zeros);
  return at + zeros + 1;
}

/** Writes a collision entry at `bit`; returns the bit behind it. */
export function writeCollision(
  view: DataView,
  base: number,
  bit: number,
  code: DeltaCode,
  valueBits: number,
  value: number,
  name: Uint8Array,
): number {
  setBits(view, base, bit, valueBits, value);
  setBits(view, base, bit + valueBits, code.minBits, 0);
  setName(view, base, bit + valueBits + code.minBits, name);
  return bit + valueBits + code.minBits + 128;
}
