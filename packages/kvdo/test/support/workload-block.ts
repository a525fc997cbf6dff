/**
 * Blocks with known content, by number: the generator of the worked workloads, splitmix64 over a stream of its own.
 *
 * 64-bit arithmetic is done in 32-bit halves, so that tens of thousands of blocks are a matter of moments.
 */
import { BLOCK_SIZE } from "../../src/constants.ts";

/** A 64-bit number, in halves, each unsigned. */
interface Wide {
  high: number;
  low: number;
}

/** High half of a × b for unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + Math.floor((a0 * b0) / 0x10000);
  const cross = a0 * b1 + (middle % 0x10000);
  return a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000);
}

/** value := (value xor (value >> shift)) × factor, modulo 2^64. `shift` is below 32. */
function scramble(value: Wide, shift: number, factorHigh: number, factorLow: number): void {
  const low = (value.low ^ ((value.low >>> shift) | (value.high << (32 - shift)))) >>> 0;
  const high = (value.high ^ (value.high >>> shift)) >>> 0;
  value.low = Math.imul(low, factorLow) >>> 0;
  value.high = (multiplyHigh(low, factorLow) + Math.imul(low, factorHigh) + Math.imul(high, factorLow)) >>> 0;
}

/** B(n, m): 4096 bytes of which the first `streamBytes` (default all) are the stream of number `n`, the rest zero. */
export function fillWorkloadBlock(target: Uint8Array, n: number, streamBytes = BLOCK_SIZE): Uint8Array {
  const view = new DataView(target.buffer, target.byteOffset, BLOCK_SIZE);
  let stateHigh = n >>> 0;
  let stateLow = 0;
  const value: Wide = { high: 0, low: 0 };
  for (let at = 0; at < streamBytes; at += 8) {
    const sum = stateLow + 0x7f4a7c15;
    stateLow = sum >>> 0;
    stateHigh = (stateHigh + 0x9e3779b9 + (sum > 0xffffffff ? 1 : 0)) >>> 0;
    value.high = stateHigh;
    value.low = stateLow;
    scramble(value, 30, 0xbf58476d, 0x1ce4e5b9);
    scramble(value, 27, 0x94d049bb, 0x133111eb);
    view.setUint32(at, value.low ^ ((value.low >>> 31) | (value.high << 1)), true);
    view.setUint32(at + 4, value.high ^ (value.high >>> 31), true);
  }
  target.fill(0, streamBytes, BLOCK_SIZE);
  return target;
}

/** B(n, m) as a new block. */
export function workloadBlock(n: number, streamBytes = BLOCK_SIZE): Uint8Array {
  return fillWorkloadBlock(new Uint8Array(BLOCK_SIZE), n, streamBytes);
}
