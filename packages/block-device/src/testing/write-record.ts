/** Writes as the simulated disk keeps them: immutable blocks, put whole or torn into maps of blocks. */
import type { Random } from "@vdo/base";

/** 512 bytes: what a disk writes whole or not at all. */
export const SECTOR_BYTES = 512;

/** Content by block number; missing blocks are zeros. */
export type Blocks = Map<number, Uint8Array>;

/** A write since the last flush, or one in flight. */
export interface WriteRecord {
  start: number;
  /** One immutable array per block; undefined zeroes `count` blocks. */
  blocks: Uint8Array[] | undefined;
  count: number;
  /** Survives every crash (fua). */
  durable: boolean;
  /** A flush that failed lost it: it is read back, but no later flush makes it durable. */
  lost: boolean;
}

export function putAll(target: Blocks, { start, count, blocks }: WriteRecord): void {
  for (let i = 0; i < count; i++) {
    const block = blocks?.[i];
    if (block === undefined) target.delete(start + i);
    else target.set(start + i, block);
  }
}

/** Puts any subset of the sectors of a write. */
export function tear(target: Blocks, { start, count, blocks }: WriteRecord, random: Random, blockSize: number): void {
  for (let i = 0; i < count; i++) {
    const block = new Uint8Array(blockSize);
    const old = target.get(start + i);
    if (old !== undefined) block.set(old);
    const fresh = blocks?.[i];
    for (let at = 0; at < blockSize; at += SECTOR_BYTES) {
      if (random.chance(0.5)) continue;
      if (fresh === undefined) block.fill(0, at, at + SECTOR_BYTES);
      else block.set(fresh.subarray(at, at + SECTOR_BYTES), at);
    }
    target.set(start + i, block);
  }
}

/** The blocks of `record` as `content` has them, as a write. */
export function difference(content: Blocks, { start, count }: WriteRecord): WriteRecord {
  const blocks = Array.from({ length: count }, (_, i) => content.get(start + i) as Uint8Array);
  return { start, count, blocks, durable: false, lost: false };
}
