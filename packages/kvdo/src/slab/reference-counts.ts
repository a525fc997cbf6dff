/**
 * Reference counts of one slab: a byte per data block, in blocks of 4032 (Linux 6.12, reference block).
 *
 * | count | meaning |
 * |---|---|
 * | 0 | free |
 * | 1 to 254 | that many references; 254 is the most, and the fixed count of block map pages |
 * | 255 | provisional: allocated or being verified, not referenced yet; read from the storage as 0 |
 *
 * A dirty reference block keeps locked the oldest slab journal block whose entries it has not saved.
 */
import { invariant, VdoError } from "@vdo/base";
import { BLOCK_SIZE, COUNTS_PER_BLOCK, COUNTS_PER_SECTOR, SECTOR_SIZE, SECTORS_PER_BLOCK } from "../constants.ts";
import { readCommitPoint, writeCommitPoint } from "../format/index.ts";
import { MAXIMUM_REFERENCES, type PbnLock } from "./pbn-locks.ts";

export const PROVISIONAL = 255;

/** State of one 4 KiB block of counts. */
export class ReferenceBlock {
  readonly index: number;
  isDirty = false;
  isWriting = false;
  /** Slab journal block this one needs until it is written; 0 for none. */
  slabJournalLock = 0;

  constructor(index: number) {
    this.index = index;
  }
}

/** Commit points of the eight sectors of each reference block: needed only while the slab journal is replayed. */
export interface CommitPoints {
  sequences: Float64Array;
  entries: Uint16Array;
}

export class ReferenceCounts {
  readonly dataBlocks: number;
  readonly blocks: readonly ReferenceBlock[];
  /** Blocks with count 0. */
  freeBlocks: number;
  /** Point of the last slab journal entry applied. */
  pointSequence = 0;
  pointEntry = 0;
  /** Dirty blocks, the one dirtied first in front. */
  readonly #dirty = new Set<ReferenceBlock>();
  #counts: Uint8Array | null = null;
  /** Runs of free blocks that nobody may use for a while: provisional in memory, free on the storage. */
  readonly #held = new Map<number, number>();
  #heldBlocks = 0;

  constructor(dataBlocks: number) {
    this.dataBlocks = dataBlocks;
    this.freeBlocks = dataBlocks;
    this.blocks = Array.from(
      { length: Math.ceil(dataBlocks / COUNTS_PER_BLOCK) },
      (_, index) => new ReferenceBlock(index),
    );
  }

  /** The counts; taken from memory when first asked for, all zero. */
  get counts(): Uint8Array {
    this.#counts ??= new Uint8Array(this.dataBlocks);
    return this.#counts;
  }

  /** True once memory for the counts was taken. */
  get isResident(): boolean {
    return this.#counts !== null;
  }

  get dirtyCount(): number {
    return this.#dirty.size;
  }

  /** Count of data block `sbn`. */
  get(sbn: number): number {
    return this.#counts === null ? 0 : (this.#counts[sbn] as number);
  }

  /** Index of the first free block at or after `cursor`, or -1. */
  findFree(cursor: number): number {
    return this.counts.indexOf(0, cursor);
  }

  /** 0 becomes provisional. */
  makeProvisional(sbn: number): void {
    invariant(this.get(sbn) === 0, "only a free block gets a provisional reference");
    this.counts[sbn] = PROVISIONAL;
    this.freeBlocks--;
  }

  /** Provisional becomes 0. */
  dropProvisional(sbn: number): void {
    invariant(this.get(sbn) === PROVISIONAL, "only a provisional reference is dropped");
    this.counts[sbn] = 0;
    this.freeBlocks++;
  }

  /** True when `count` blocks from `first` are all free. */
  areFree(first: number, count: number): boolean {
    for (let sbn = first; sbn < first + count; sbn++) if (this.get(sbn) !== 0) return false;
    return true;
  }

  /** Free blocks, held ones included: what is free on the storage. */
  get unusedBlocks(): number {
    return this.freeBlocks + this.#heldBlocks;
  }

  /** Keeps a run of free blocks from being allocated or shared. */
  hold(first: number, count: number): void {
    invariant(this.areFree(first, count), "only free blocks are held");
    this.counts.fill(PROVISIONAL, first, first + count);
    this.#held.set(first, count);
    this.#heldBlocks += count;
    this.freeBlocks -= count;
  }

  /** Ends a {@link hold}. */
  release(first: number): void {
    const count = this.#held.get(first);
    invariant(count !== undefined, "a run that is released was held");
    this.#held.delete(first);
    this.counts.fill(0, first, first + count);
    this.#heldBlocks -= count;
    this.freeBlocks += count;
  }

  /** Adds a reference. `replay`: the block may be free, as after a crash. Throws `VDO_REF_COUNT` outside the range. */
  increment(sbn: number, isBlockMap: boolean, lock: PbnLock | null, replay = false): void {
    const count = this.get(sbn);
    if (isBlockMap) {
      if (count !== PROVISIONAL && !(replay && count === 0)) throw countError(sbn, count, "block map increment");
      this.counts[sbn] = MAXIMUM_REFERENCES;
      if (count === 0) this.freeBlocks--;
    } else if (count === 0 || count === PROVISIONAL) {
      this.counts[sbn] = 1;
      if (count === 0) this.freeBlocks--;
    } else if (count < MAXIMUM_REFERENCES) this.counts[sbn] = count + 1;
    else throw countError(sbn, count, "increment");
    if (lock !== null) lock.hasProvisionalReference = false;
  }

  /** Takes a reference away; with a `lock` on the block, the last one becomes provisional. Throws `VDO_REF_COUNT` at 0. */
  decrement(sbn: number, lock: PbnLock | undefined): void {
    const count = this.get(sbn);
    if (count === 0) throw countError(sbn, count, "decrement");
    if (count === 1 || count === PROVISIONAL) {
      if (lock !== undefined) {
        this.counts[sbn] = PROVISIONAL;
        lock.hasProvisionalReference = true;
        lock.wasReferenced = true;
      } else {
        this.counts[sbn] = 0;
        this.freeBlocks++;
      }
    } else this.counts[sbn] = count - 1;
  }

  blockOf(sbn: number): ReferenceBlock {
    return this.blocks[Math.floor(sbn / COUNTS_PER_BLOCK)] as ReferenceBlock;
  }

  /** Marks `block` dirty; true if it was not. */
  dirty(block: ReferenceBlock): boolean {
    if (block.isDirty) return false;
    block.isDirty = true;
    this.#dirty.add(block);
    return true;
  }

  /** Takes the block dirtied first off the dirty list, to be written; null when none is dirty or free to be written. */
  takeDirty(): ReferenceBlock | null {
    for (const block of this.#dirty) {
      if (block.isWriting) continue;
      this.#dirty.delete(block);
      block.isDirty = false;
      return block;
    }
    return null;
  }

  /** Encodes block `index` into `target` with the slab's present point as commit point. */
  encode(index: number, target: Uint8Array): void {
    const first = index * COUNTS_PER_BLOCK;
    const counts = this.counts;
    const held = [...this.#held];
    target.fill(0, 0, BLOCK_SIZE);
    for (let sector = 0; sector < SECTORS_PER_BLOCK; sector++) {
      const at = sector * SECTOR_SIZE;
      writeCommitPoint(target, at, this.pointSequence, this.pointEntry);
      const from = first + sector * COUNTS_PER_SECTOR;
      if (from < counts.length)
        target.set(counts.subarray(from, Math.min(from + COUNTS_PER_SECTOR, counts.length)), at + 8);
      for (const [start, count] of held) {
        const begin = Math.max(start - from, 0);
        const end = Math.min(start + count - from, COUNTS_PER_SECTOR);
        if (begin < end) target.fill(0, at + 8 + begin, at + 8 + end);
      }
    }
  }

  /** Takes the counts of block `index` from its stored form; provisional ones become 0. Commit points go to `points`. */
  decode(index: number, source: Uint8Array, points: CommitPoints): void {
    const counts = this.counts;
    for (let sector = 0; sector < SECTORS_PER_BLOCK; sector++) {
      const at = sector * SECTOR_SIZE;
      const place = index * SECTORS_PER_BLOCK + sector;
      readCommitPoint(source, at, points, place);
      const from = index * COUNTS_PER_BLOCK + sector * COUNTS_PER_SECTOR;
      const length = Math.min(COUNTS_PER_SECTOR, counts.length - from);
      if (length > 0) counts.set(source.subarray(at + 8, at + 8 + length), from);
      this.#raisePoint(points.sequences[place] as number, points.entries[place] as number);
    }
  }

  #raisePoint(sequence: number, entry: number): void {
    if (sequence < this.pointSequence || (sequence === this.pointSequence && entry <= this.pointEntry)) return;
    this.pointSequence = sequence;
    this.pointEntry = entry;
  }

  /** Turns provisional counts to 0 and counts the free blocks: after all blocks were decoded. */
  settle(): void {
    const counts = this.counts;
    let free = 0;
    for (let i = 0; i < counts.length; i++) {
      if (counts[i] === PROVISIONAL) counts[i] = 0;
      if (counts[i] === 0) free++;
    }
    this.freeBlocks = free;
  }
}

function countError(sbn: number, count: number, operation: string): VdoError<"VDO_REF_COUNT"> {
  return new VdoError("VDO_REF_COUNT", `${operation} of slab block ${sbn}, whose reference count is ${count}`, {
    block: sbn,
    count,
    operation,
  });
}
