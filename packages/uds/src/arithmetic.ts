/** Integer helpers. All arguments are whole numbers of 0 to 2^53 - 1. */

/** ⌈a / b⌉. */
export function ceilDiv(a: number, b: number): number {
  return Math.floor((a + b - 1) / b);
}

/** Bits needed to write `n` in binary; 1 for 0 and 1. */
export function bitsFor(n: number): number {
  let bits = 1;
  for (let rest = Math.floor(n / 2); rest > 0; rest = Math.floor(rest / 2)) bits++;
  return bits;
}

export function roundUp(n: number, unit: number): number {
  return ceilDiv(n, unit) * unit;
}

/** Exact `a mod b` for 0 <= a < 2^53 and 1 <= b < 2^31, several times faster than `%` on values above 2^31. */
export function modulo(a: number, b: number): number {
  let rest = a - Math.floor(a / b) * b;
  if (rest < 0) rest += b;
  else if (rest >= b) rest -= b;
  return rest;
}
