/**
 * A bounded write-back cache of metadata blocks over a device.
 *
 * - Clean blocks are evicted by a clock. Dirty blocks leave by being copied into a write (adjacent ones together), so a block
 *   may be changed again while its copy is on its way; rounds of writes never overlap, so the newest content wins.
 * - Only {@link BlockManager.flush} orders anything. What is dirty may be written at any time before it: the blocks are free
 *   in the committed state.
 * - A write that failed is reported by the next flush.
 */
import { invariant } from "@vdo/base";
import { type BlockDevice, zeroBlocks } from "@vdo/block-device";
import { corrupt } from "../errors.ts";
import { BLOCK_BYTES, Block, type BlockKind, sealBlock, validateBlock } from "./block.ts";
import type { Steps } from "./steps.ts";

/** Most blocks in one device request: 256 KiB. */
const RUN_BLOCKS_MAX = 64;
/** Most requests in flight in a round of writes or prefetches. */
const IN_FLIGHT_MAX = 8;
/** Most blocks that one call of `prefetch` asks for. */
const PREFETCH_MAX = 256;

/** Device traffic since the start, in blocks of 4096 bytes. */
export interface TrafficCounters {
  blocksRead: number;
  blocksWritten: number;
  flushes: number;
}

export class BlockManager {
  readonly traffic: TrafficCounters = { blocksRead: 0, blocksWritten: 0, flushes: 0 };
  readonly #device: BlockDevice;
  readonly #perBlock: number;
  readonly #capacity: number;
  readonly #blocks = new Map<number, Block>();
  readonly #ring: Block[] = [];
  readonly #loading = new Map<number, Promise<void>>();
  readonly #dirty = new Set<Block>();
  #hand = 0;
  #round: Promise<void> | undefined;
  #writeError: { error: unknown } | undefined;
  /** Number of the operation that is under way: the blocks it changes stay in memory until it is done. */
  #operation = 0;

  /** `cacheBlocks`: blocks kept when nothing is going on, at least 16. */
  constructor(device: BlockDevice, cacheBlocks: number) {
    this.#device = device;
    this.#perBlock = BLOCK_BYTES / device.blockSize;
    invariant(Number.isInteger(this.#perBlock), "device blocks are not larger than metadata blocks");
    this.#capacity = Math.max(16, cacheBlocks);
  }

  /** Blocks of 4096 bytes on the device. */
  get deviceBlocks(): number {
    return Math.floor(this.#device.blockCount / this.#perBlock);
  }

  get cachedCount(): number {
    return this.#blocks.size;
  }

  get dirtyCount(): number {
    return this.#dirty.size;
  }

  /** The block, if it is cached and of this kind or not yet judged and sound. */
  cached(number: number, kind: BlockKind): Block | undefined {
    const block = this.#blocks.get(number);
    if (block === undefined || block.kind !== kind) return undefined;
    block.used = true;
    return block;
  }

  /** The block, read and validated if need be. `path` tells in an error how it was reached. */
  *load(number: number, kind: BlockKind, path = ""): Steps<Block> {
    let block = this.#blocks.get(number);
    while (block === undefined) {
      yield number;
      block = this.#blocks.get(number);
    }
    block.used = true;
    if (block.kind === kind) return block;
    if (block.kind !== undefined) {
      const place = `${path === "" ? "" : `${path}: `}block ${number}`;
      throw corrupt(place, "kind", { expected: kind.name, actual: block.kind.name });
    }
    try {
      validateBlock(block, kind, path);
    } catch (error) {
      this.#remove(block);
      throw error;
    }
    return block;
  }

  /** A zeroed block, dirty; whatever was cached for the address is forgotten. */
  fresh(number: number, kind: BlockKind): Block {
    const old = this.#blocks.get(number);
    if (old !== undefined) this.#remove(old);
    this.#loading.delete(number);
    const block = new Block(number, kind);
    this.#insert(block);
    this.change(block);
    return block;
  }

  /** To be called before a cached block is changed. */
  change(block: Block): void {
    block.operation = this.#operation;
    if (block.dirty) return;
    invariant(this.#blocks.get(block.number) === block, "a block that is changed is cached");
    block.dirty = true;
    this.#dirty.add(block);
  }

  /** An operation begins that may change blocks. */
  beginOperation(): void {
    this.#operation++;
  }

  /** The operation under way has finished with a block that it changed. */
  release(block: Block): void {
    block.operation = 0;
  }

  /** Asks for blocks that will soon be needed. Errors show when they are. */
  prefetch(numbers: readonly number[]): void {
    const wanted = numbers
      .slice(0, PREFETCH_MAX)
      .filter((number) => !this.#blocks.has(number) && !this.#loading.has(number) && number < this.deviceBlocks)
      .sort((a, b) => a - b);
    for (let at = 0; at < wanted.length; ) {
      let end = at + 1;
      while (end < wanted.length && wanted[end] === (wanted[end - 1] as number) + 1 && end - at < RUN_BLOCKS_MAX) end++;
      this.#read(wanted[at] as number, end - at).catch(() => undefined);
      at = end;
    }
  }

  /** Reads a block into the cache, unvalidated. Rejects with the device's error. */
  async fetch(number: number): Promise<void> {
    if (this.#blocks.has(number)) return;
    const loading = this.#loading.get(number);
    if (loading === undefined) return this.#read(number, 1);
    await loading;
  }

  #read(start: number, count: number): Promise<void> {
    const buffer = new Uint8Array(count * BLOCK_BYTES);
    const work: Promise<void> = this.#device.read(start * this.#perBlock, buffer).then(
      () => {
        this.traffic.blocksRead += count;
        for (let i = 0; i < count; i++) {
          // What was made anew, or forgotten, since the read began is not replaced by what was there before.
          if (!this.#endLoading(start + i, work) || this.#blocks.has(start + i)) continue;
          const block = new Block(start + i);
          block.bytes.set(buffer.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES));
          this.#insert(block);
        }
        this.evict();
      },
      (error: unknown) => {
        for (let i = 0; i < count; i++) this.#endLoading(start + i, work);
        throw error;
      },
    );
    for (let i = 0; i < count; i++) this.#loading.set(start + i, work);
    return work;
  }

  /** True if `work` is what the block was being read by still. */
  #endLoading(number: number, work: Promise<void>): boolean {
    return this.#loading.get(number) === work && this.#loading.delete(number);
  }

  /** Brings the cache back to its size as far as clean blocks allow. Blocks just loaded survive a turn of the clock. */
  evict(): void {
    let tries = this.#ring.length;
    while (this.#blocks.size > this.#capacity && tries-- > 0) {
      if (this.#hand >= this.#ring.length) this.#hand = 0;
      const block = this.#ring[this.#hand] as Block;
      if (block.dirty || block.writing) this.#hand++;
      else if (block.used) {
        block.used = false;
        this.#hand++;
      } else this.#remove(block);
    }
  }

  /**
   * Keeps the number of dirty blocks bounded: starts writing at half the capacity, and makes the caller wait (a promise)
   * when the cache is full of them. In the middle of an operation the blocks that it changed are left alone.
   */
  relieve({ midway }: { midway: boolean }): Promise<void> | undefined {
    if (this.#blocks.size > this.#capacity) this.evict();
    if (this.#dirty.size <= this.#capacity / 2) return undefined;
    const held = midway ? this.#operation : -1;
    if (this.#round === undefined) {
      const blocks = [...this.#dirty].filter((block) => block.operation !== held);
      if (blocks.length < RUN_BLOCKS_MAX && midway) return undefined;
      void this.#startRound(blocks);
    }
    return this.#blocks.size > 1.25 * this.#capacity ? this.#round : undefined;
  }

  /** Writes everything that is dirty, waits, and flushes the device. Throws the first failure since the last flush. */
  async flush(): Promise<void> {
    if (this.#round !== undefined) await this.#round;
    if (this.#dirty.size > 0) await this.#startRound([...this.#dirty]);
    const failure = this.#writeError;
    this.#writeError = undefined;
    if (failure !== undefined) throw failure.error;
    this.traffic.flushes++;
    await this.#device.flush();
  }

  /** Writes one block now, past the cache (the superblock). */
  async writeThrough(block: Block): Promise<void> {
    sealBlock(block.bytes, block.view, { number: block.number, kind: block.kind as BlockKind });
    this.traffic.blocksWritten++;
    await this.#device.write(block.number * this.#perBlock, block.bytes);
    this.traffic.flushes++;
    await this.#device.flush();
  }

  /** Reads one block past the cache. */
  async readThrough(number: number): Promise<Block> {
    const block = new Block(number);
    await this.#device.read(number * this.#perBlock, block.bytes);
    this.traffic.blocksRead++;
    return block;
  }

  /** Zeroes one block on the device (a superblock that is to be invalid). */
  async clear(number: number): Promise<void> {
    await zeroBlocks(this.#device, number * this.#perBlock, this.#perBlock);
    await this.#device.flush();
  }

  /** Waits for writes in flight and forgets every block, dirty ones included. */
  async reset(): Promise<void> {
    this.#loading.clear();
    this.#dirty.clear();
    await this.#round;
    this.#writeError = undefined;
    this.#blocks.clear();
    this.#ring.length = 0;
    this.#hand = 0;
  }

  #insert(block: Block): void {
    this.#blocks.set(block.number, block);
    block.slot = this.#ring.length;
    this.#ring.push(block);
  }

  #remove(block: Block): void {
    this.#blocks.delete(block.number);
    this.#dirty.delete(block);
    block.dirty = false;
    const last = this.#ring.pop() as Block;
    if (last === block) return;
    this.#ring[block.slot] = last;
    last.slot = block.slot;
  }

  #startRound(blocks: Block[]): Promise<void> {
    const round = this.#writeRound(blocks).finally(() => {
      this.#round = undefined;
    });
    this.#round = round;
    return round;
  }

  /** Writes dirty blocks, adjacent ones together. Never rejects: failures wait for the flush. */
  async #writeRound(blocks: Block[]): Promise<void> {
    blocks.sort((a, b) => a.number - b.number);
    for (const block of blocks) {
      block.dirty = false;
      block.writing = true;
      this.#dirty.delete(block);
    }
    const inFlight = new Set<Promise<void>>();
    for (let at = 0; at < blocks.length; ) {
      let end = at + 1;
      while (end < blocks.length && end - at < RUN_BLOCKS_MAX) {
        if ((blocks[end] as Block).number !== (blocks[end - 1] as Block).number + 1) break;
        end++;
      }
      const work: Promise<void> = this.#writeRun(blocks.slice(at, end)).finally(() => inFlight.delete(work));
      inFlight.add(work);
      if (inFlight.size >= IN_FLIGHT_MAX) await Promise.race(inFlight);
      at = end;
    }
    await Promise.all(inFlight);
  }

  async #writeRun(blocks: readonly Block[]): Promise<void> {
    const buffer = new Uint8Array(blocks.length * BLOCK_BYTES);
    blocks.forEach((block, i) => {
      const copy = buffer.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
      copy.set(block.bytes);
      const view = new DataView(buffer.buffer, i * BLOCK_BYTES, BLOCK_BYTES);
      sealBlock(copy, view, { number: block.number, kind: block.kind as BlockKind });
    });
    this.traffic.blocksWritten += blocks.length;
    try {
      await this.#device.write((blocks[0] as Block).number * this.#perBlock, buffer);
    } catch (error) {
      this.#writeError ??= { error };
    }
    for (const block of blocks) block.writing = false;
  }
}
