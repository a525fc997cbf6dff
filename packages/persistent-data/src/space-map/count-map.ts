/**
 * Counts of blocks: bitmaps for 0, 1 and 2, a tree for more. What both kinds of space maps share.
 * (Linux 6.12, dm-space-map-common.)
 */
import { u32le, VdoError } from "@vdo/base";
import { BTree } from "../btree/btree.ts";
import { overwriteLeaf } from "../btree/insert.ts";
import type { BlockStore } from "../btree/tree-context.ts";
import { corrupt } from "../errors.ts";
import { BITMAP_KIND, ENTRIES_PER_BITMAP, findFree, OVERFLOW_COUNT, pairAt, setPair } from "../format/bitmap.ts";
import { valueOffset } from "../format/node.ts";
import { spaceMapRoot } from "../format/space-map-root.ts";
import type { Block } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";
import type { BitmapIndex, IndexEntry } from "./bitmap-index.ts";

/** What a map is made of, besides its index. */
export interface CountMapParts {
  store: BlockStore;
  index: BitmapIndex;
  blockCount: number;
  allocatedCount: number;
  overflowRoot: number;
  /** For error messages: "data space map". */
  name: string;
}

export class CountMap {
  readonly name: string;
  blockCount: number;
  /** Blocks with a count above zero. */
  allocatedCount: number;
  /** Something of the index differs from what is committed. */
  changed = false;
  readonly #store: BlockStore;
  readonly #index: BitmapIndex;
  readonly #overflow: BTree<number>;
  #overflowRoot: number;

  constructor({ store, index, blockCount, allocatedCount, overflowRoot, name }: CountMapParts) {
    this.#store = store;
    this.#index = index;
    this.name = name;
    this.blockCount = blockCount;
    this.allocatedCount = allocatedCount;
    this.#overflowRoot = overflowRoot;
    this.#overflow = new BTree(store, { type: { codec: u32le }, name: `${name}, overflow` });
  }

  /** The root record, 32 bytes. True to the last `commit`. */
  rootRecord(): Uint8Array {
    return spaceMapRoot.encode({
      blockCount: this.blockCount,
      allocatedCount: this.allocatedCount,
      bitmapRoot: this.#index.root,
      overflowRoot: this.#overflowRoot,
    });
  }

  /** The map as it is now, unaffected by later changes of this one. */
  copy(): CountMap {
    return new CountMap({
      store: this.#store,
      index: this.#index.copy(),
      blockCount: this.blockCount,
      allocatedCount: this.allocatedCount,
      overflowRoot: this.#overflowRoot,
      name: this.name,
    });
  }

  /** The entry of a block's bitmap: 0 to 3 (3: see the overflow tree). */
  *pair(block: number): Steps<number> {
    this.#check(block, block + 1);
    const bitmap = yield* this.#bitmap(Math.floor(block / ENTRIES_PER_BITMAP));
    return pairAt(bitmap, block % ENTRIES_PER_BITMAP);
  }

  /** `pair` without waiting; -1 if something must be read first. */
  cachedPair(block: number): number {
    if (!(block >= 0 && block < this.blockCount)) return -1;
    const entry = this.#index.cached(Math.floor(block / ENTRIES_PER_BITMAP));
    if (entry === undefined) return -1;
    const bitmap = this.#store.cached(entry.blockNumber, BITMAP_KIND);
    return bitmap === undefined ? -1 : pairAt(bitmap, block % ENTRIES_PER_BITMAP);
  }

  /** The exact count. */
  *count(block: number): Steps<number> {
    const pair = yield* this.pair(block);
    if (pair < OVERFLOW_COUNT) return pair;
    const count = yield* this.#overflow.lookup(this.#overflowRoot, [block]);
    if (count === undefined) throw this.#noOverflow(block);
    return count;
  }

  /** Raises the counts of [begin, end); returns how many were zero. */
  *increment(begin: number, end: number): Steps<number> {
    let net = 0;
    for (let block = begin; block < end; ) {
      const { bitmap, entry, stop } = yield* this.#open(block, end);
      for (; block < stop; block++) {
        const position = block % ENTRIES_PER_BITMAP;
        const pair = pairAt(bitmap, position);
        if (pair < OVERFLOW_COUNT) setPair(bitmap, position, pair + 1);
        if (pair === 0) net += this.#taken(entry, position);
        else if (pair === OVERFLOW_COUNT - 1) yield* this.#insertOverflow(block, OVERFLOW_COUNT);
        else if (pair === OVERFLOW_COUNT) yield* this.#changeOverflow(block, 1);
      }
      yield* this.#index.set(Math.floor((stop - 1) / ENTRIES_PER_BITMAP), entry);
    }
    return net;
  }

  /** Lowers the counts of [begin, end); returns, negative, how many became zero. Throws `PD_BAD_COUNT` below zero. */
  *decrement(begin: number, end: number): Steps<number> {
    let net = 0;
    for (let block = begin; block < end; ) {
      const { bitmap, entry, stop } = yield* this.#open(block, end);
      for (; block < stop; block++) {
        const position = block % ENTRIES_PER_BITMAP;
        const pair = pairAt(bitmap, position);
        if (pair === 0) throw this.#belowZero(block);
        if (pair < OVERFLOW_COUNT) setPair(bitmap, position, pair - 1);
        if (pair === 1) net += this.#freed(entry, position);
        else if (pair === OVERFLOW_COUNT && (yield* this.#changeOverflow(block, -1)) < OVERFLOW_COUNT) {
          setPair(bitmap, position, OVERFLOW_COUNT - 1);
        }
      }
      yield* this.#index.set(Math.floor((stop - 1) / ENTRIES_PER_BITMAP), entry);
    }
    return net;
  }

  /** Sets a count; returns 1 if the block was free and is not any more, -1 for the reverse. */
  *set(block: number, count: number): Steps<number> {
    const { bitmap, entry } = yield* this.#open(block, block + 1);
    const position = block % ENTRIES_PER_BITMAP;
    const old = pairAt(bitmap, position);
    setPair(bitmap, position, Math.min(count, OVERFLOW_COUNT));
    if (count >= OVERFLOW_COUNT) yield* this.#insertOverflow(block, count);
    else if (old === OVERFLOW_COUNT) yield* this.#removeOverflow(block);
    let net = 0;
    if (old === 0 && count > 0) net = this.#taken(entry, position);
    if (old > 0 && count === 0) net = this.#freed(entry, position);
    yield* this.#index.set(Math.floor(block / ENTRIES_PER_BITMAP), entry);
    return net;
  }

  /** First free block in [begin, end); -1 if there is none. Hints of the index are believed. */
  *findFree(begin: number, end: number): Steps<number> {
    let first = begin % ENTRIES_PER_BITMAP;
    for (let number = Math.floor(begin / ENTRIES_PER_BITMAP); number * ENTRIES_PER_BITMAP < end; number++) {
      const entry = this.#index.cached(number) ?? (yield* this.#index.get(number));
      const from = Math.max(first, entry.noneFreeBefore);
      first = 0;
      if (entry.freeCount === 0) continue;
      const bitmap = yield* this.#bitmap(number);
      const found = findFree(bitmap, from, Math.min(ENTRIES_PER_BITMAP, end - number * ENTRIES_PER_BITMAP));
      if (found >= 0) return number * ENTRIES_PER_BITMAP + found;
    }
    return -1;
  }

  /** First block in [begin, end) that is free here and in `committed`; -1 if there is none. */
  *findCommonFree(committed: CountMap, begin: number, end: number): Steps<number> {
    let from = begin;
    while (from < end) {
      const block = yield* this.findFree(from, end);
      if (block < 0 || block >= committed.blockCount) return block;
      const pair = committed.cachedPair(block);
      if ((pair < 0 ? yield* committed.pair(block) : pair) === 0) return block;
      from = block + 1;
    }
    return -1;
  }

  /** Describes `extra` more blocks. Throws `PD_MAP_TOO_LARGE`. */
  *extend(extra: number): Steps<void> {
    const blockCount = this.blockCount + extra;
    const bitmaps = bitmapCount(blockCount);
    if (bitmaps > this.#index.bitmapsMax) {
      const blocksMax = this.#index.bitmapsMax * ENTRIES_PER_BITMAP;
      const text = `${this.name}: ${blockCount} blocks are too many, at most ${blocksMax} can be described`;
      throw new VdoError("PD_MAP_TOO_LARGE", text, { blocks: blockCount, blocksMax });
    }
    const old = bitmapCount(this.blockCount);
    this.blockCount = blockCount;
    for (let number = old; number < bitmaps; number++) {
      const bitmap = yield* this.#store.newBlock(BITMAP_KIND);
      const entry = { blockNumber: bitmap.number, freeCount: ENTRIES_PER_BITMAP, noneFreeBefore: 0 };
      yield* this.#index.set(number, entry);
    }
    this.changed = true;
  }

  /** Makes `rootRecord` true. */
  *commit(): Steps<void> {
    if (!this.changed) return;
    yield* this.#index.commit();
    this.changed = false;
  }

  *#bitmap(number: number): Steps<Block> {
    const entry = this.#index.cached(number) ?? (yield* this.#index.get(number));
    const held = this.#store.cached(entry.blockNumber, BITMAP_KIND);
    if (held !== undefined) return held;
    this.#checkEntry(number, entry);
    return yield* this.#store.load(entry.blockNumber, BITMAP_KIND, `${this.name}, bitmap ${number}`);
  }

  #checkEntry(number: number, { blockNumber }: IndexEntry): void {
    if (blockNumber > 0 && blockNumber < this.#store.blockCount) return;
    const expected = `1 to ${this.#store.blockCount - 1}`;
    throw corrupt(`${this.name}, bitmap ${number}`, "address", { expected, actual: blockNumber });
  }

  /** The changeable bitmap of `block`, and where its part of a range that ends at `end` stops. */
  *#open(block: number, end: number): Steps<{ bitmap: Block; entry: IndexEntry; stop: number }> {
    this.#check(block, end);
    this.changed = true;
    const number = Math.floor(block / ENTRIES_PER_BITMAP);
    const entry = this.#index.cached(number) ?? (yield* this.#index.get(number));
    const stop = Math.min(end, (number + 1) * ENTRIES_PER_BITMAP);
    const inPlace = this.#store.shadowInPlace(entry.blockNumber, BITMAP_KIND);
    if (inPlace !== undefined) return { bitmap: inPlace, entry, stop };
    this.#checkEntry(number, entry);
    const path = `${this.name}, bitmap ${number}`;
    const { block: bitmap } = yield* this.#store.shadow(entry.blockNumber, BITMAP_KIND, path);
    entry.blockNumber = bitmap.number;
    return { bitmap, entry, stop };
  }

  *#insertOverflow(block: number, count: number): Steps<void> {
    this.#overflowRoot = (yield* this.#overflow.insert(this.#overflowRoot, [block], count)).root;
  }

  *#removeOverflow(block: number): Steps<void> {
    const { root, removed } = yield* this.#overflow.remove(this.#overflowRoot, [block]);
    this.#overflowRoot = root;
    if (!removed) throw this.#noOverflow(block);
  }

  /** Adds `by`; a count that falls below three leaves the tree. Returns the new count. */
  *#changeOverflow(block: number, by: 1 | -1): Steps<number> {
    const found = yield* overwriteLeaf(this.#overflow, this.#overflowRoot, block);
    if (found === undefined) throw this.#noOverflow(block);
    this.#overflowRoot = found.root;
    const at = valueOffset(found.leaf, found.index);
    const count = found.leaf.view.getUint32(at, true) + by;
    if (count < OVERFLOW_COUNT) yield* this.#removeOverflow(block);
    else found.leaf.view.setUint32(at, count, true);
    return count;
  }

  #noOverflow(block: number): VdoError<"VDO_CORRUPT"> {
    const expected = `a count of ${OVERFLOW_COUNT} or more`;
    return corrupt(`${this.name}, overflow`, `count of block ${block}`, { expected, actual: "missing" });
  }

  #belowZero(block: number): VdoError<"PD_BAD_COUNT"> {
    const text = `${this.name}: block ${block} is free, its count cannot be lowered; check the metadata`;
    return new VdoError("PD_BAD_COUNT", text, { map: this.name, block });
  }

  #check(begin: number, end: number): void {
    if (begin >= 0 && begin <= end && end <= this.blockCount) return;
    const text = `${this.name}: block ${begin >= 0 ? end - 1 : begin} is outside the ${this.blockCount} blocks described`;
    throw new VdoError("PD_BAD_COUNT", text, { map: this.name, block: begin });
  }

  #taken(entry: IndexEntry, position: number): number {
    this.allocatedCount++;
    entry.freeCount--;
    if (entry.noneFreeBefore === position) entry.noneFreeBefore = position + 1;
    return 1;
  }

  #freed(entry: IndexEntry, position: number): number {
    this.allocatedCount--;
    entry.freeCount++;
    entry.noneFreeBefore = Math.min(entry.noneFreeBefore, position);
    return -1;
  }
}

/** Bitmaps that describe `blockCount` blocks. */
export function bitmapCount(blockCount: number): number {
  return Math.floor((blockCount + ENTRIES_PER_BITMAP - 1) / ENTRIES_PER_BITMAP);
}
