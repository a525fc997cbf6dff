/**
 * Two blocks with one record name. MurmurHash3 takes 16 bytes at a time into a state of 128 bits, and each step can be
 * undone: after the first 16 bytes are changed, the second 16 are solved for so that the state is what it was.
 */
import { BLOCK_SIZE, RECORD_NAME_SEED } from "../../src/constants.ts";

const MASK = (1n << 64n) - 1n;
const C1 = 0x87c37b91114253d5n;
const C2 = 0x4cf5ad432745937fn;

const rotate = (value: bigint, by: bigint): bigint => ((value << by) | (value >> (64n - by))) & MASK;
const times = (a: bigint, b: bigint): bigint => (a * b) & MASK;
const minus = (a: bigint, b: bigint): bigint => (a - b) & MASK;

/** The inverse of an odd number modulo 2^64: each step doubles the bits that are right. */
function inverse(odd: bigint): bigint {
  let x = odd;
  for (let i = 0; i < 6; i++) x = times(x, minus(2n, times(odd, x)));
  return x;
}

interface State {
  a: bigint;
  b: bigint;
}

const mixA = (k: bigint): bigint => times(rotate(times(k, C1), 31n), C2);
const mixB = (k: bigint): bigint => times(rotate(times(k, C2), 33n), C1);
const unmixA = (k: bigint): bigint => times(rotate(times(k, inverse(C2)), 33n), inverse(C1));
const unmixB = (k: bigint): bigint => times(rotate(times(k, inverse(C1)), 31n), inverse(C2));

function step({ a, b }: State, k1: bigint, k2: bigint): State {
  const nextA = (times(rotate(a ^ mixA(k1), 27n) + b, 5n) + 0x52dce729n) & MASK;
  const nextB = (times((rotate(b ^ mixB(k2), 31n) + nextA) & MASK, 5n) + 0x38495ab5n) & MASK;
  return { a: nextA, b: nextB };
}

/** The 16 bytes, as two numbers, that lead from `from` to `to`. */
function solve(from: State, to: State): [bigint, bigint] {
  const fifth = inverse(5n);
  const a = minus(times(minus(to.a, 0x52dce729n), fifth), from.b);
  const b = minus(times(minus(to.b, 0x38495ab5n), fifth), to.a);
  return [unmixA(rotate(a, 37n) ^ from.a), unmixB(rotate(b, 33n) ^ from.b)];
}

/** A block that differs from `block` in its first 32 bytes, and has the same record name. `salt` picks one of many. */
export function sameName(block: Uint8Array, salt = 1n): Uint8Array {
  const other = block.slice(0, BLOCK_SIZE);
  const view = new DataView(other.buffer);
  const word = (index: number): bigint => view.getBigUint64(index * 8, true);
  const seed = BigInt(RECORD_NAME_SEED);
  const start = { a: seed, b: seed };
  const target = step(step(start, word(0), word(1)), word(2), word(3));
  view.setBigUint64(0, word(0) ^ salt, true);
  const [k1, k2] = solve(step(start, word(0), word(1)), target);
  view.setBigUint64(16, k1, true);
  view.setBigUint64(24, k2, true);
  return other;
}
