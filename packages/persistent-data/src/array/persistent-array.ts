/**
 * Arrays: a tree from block index to array block, fully populated. The application keeps the root and the length.
 * (Linux 6.12, dm-array.)
 */
import { invariant, u64le, VdoError } from "@vdo/base";
import { BTree } from "../btree/btree.ts";
import { type BlockStore, forRuns, type ValueRun, type ValueType } from "../btree/tree-context.ts";
import { corrupt } from "../errors.ts";
import {
  ARRAY_KIND,
  arrayCapacity,
  arrayCount,
  arrayValueAt,
  arrayValueSize,
  initArrayBlock,
  setArrayCount,
} from "../format/array-block.ts";
import type { Block } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";

/** Where a value lies. Read only unless it came from `change`. */
export interface ValuePlace {
  view: DataView;
  at: number;
}

/** All methods are steps. Throws `VDO_CORRUPT` with the path to a block that is not as it must be. */
export class PersistentArray<V> {
  /** Values in a block. */
  readonly perBlock: number;
  readonly #store: BlockStore;
  readonly #type: ValueType<V>;
  readonly #name: string;
  readonly #tree: BTree<number>;
  /** The same tree for replacing a block by its shadow: the values went along, so none is dropped. */
  readonly #moving: BTree<number>;

  constructor(store: BlockStore, { type, name = "array" }: { type: ValueType<V>; name?: string }) {
    this.#store = store;
    this.#type = type;
    this.#name = name;
    this.perBlock = arrayCapacity(type.codec.size);
    invariant(this.perBlock >= 1, "a value fits in a block");
    const increment = (values: ValueRun): Steps<void> => forRuns(values, (begin, end) => store.increment(begin, end));
    const decrement = (values: ValueRun): Steps<void> => this.#dropBlocks(values);
    this.#tree = new BTree(store, { type: { codec: u64le, increment, decrement }, name: `${name}, blocks` });
    this.#moving = new BTree(store, { type: { codec: u64le, increment }, name: `${name}, blocks` });
  }

  /** Root of a new array of length 0. */
  *empty(): Steps<number> {
    return yield* this.#tree.empty();
  }

  /** A value; undefined past the end. */
  *get(root: number, index: number): Steps<V | undefined> {
    const place = yield* this.place(root, index);
    return place === undefined ? undefined : this.#type.codec.get(place.view, place.at);
  }

  /** Where a value lies; undefined past the end. */
  *place(root: number, index: number): Steps<ValuePlace | undefined> {
    const number = yield* this.#tree.lookup(root, [Math.floor(index / this.perBlock)]);
    if (number === undefined) return undefined;
    const block = yield* this.#load(number, Math.floor(index / this.perBlock));
    const within = index % this.perBlock;
    return within < arrayCount(block) ? { view: block.view, at: arrayValueAt(block, within) } : undefined;
  }

  /** Replaces a value. Its own reference is the caller's, the old value's is dropped. Throws `VDO_OUT_OF_RANGE`. */
  *set(root: number, index: number, value: V): Steps<number> {
    const changed = yield* this.change(root, index);
    const { codec, decrement, equal } = this.#type;
    if (decrement !== undefined) {
      const old = codec.get(changed.view, changed.at);
      if (!(equal?.(old, value) ?? false)) yield* decrement({ view: changed.view, at: changed.at, count: 1 });
    }
    codec.set(changed.view, changed.at, value);
    return changed.root;
  }

  /** A place to change in, before the next step is run. Throws `VDO_OUT_OF_RANGE`. */
  *change(root: number, index: number): Steps<ValuePlace & { root: number }> {
    const { block, root: newRoot } = yield* this.#shadow(root, Math.floor(index / this.perBlock));
    const within = index % this.perBlock;
    if (within >= arrayCount(block)) throw this.#pastEnd(index);
    return { root: newRoot, view: block.view, at: arrayValueAt(block, within) };
  }

  /** Makes an array of length `from` one of length `to`; new values are `value`, which gets a reference for each. */
  *resize(root: number, { from, to, value }: { from: number; to: number; value: V }): Steps<number> {
    return to < from ? yield* this.#shrink(root, from, to) : yield* this.#grow(root, { from, to, value });
  }

  /** Drops one holder of the array. */
  *drop(root: number): Steps<void> {
    yield* this.#tree.drop(root);
  }

  /** Values of `from` to `to` - 1. */
  *range(root: number, { from = 0, to }: { from?: number; to: number }): Steps<V[]> {
    const values: V[] = [];
    const cursor = this.#tree.cursor(root);
    let more = yield* cursor.seek(Math.floor(from / this.perBlock));
    while (more && cursor.key * this.perBlock < to) {
      const first = cursor.key * this.perBlock;
      const block = yield* this.#load(cursor.value, cursor.key);
      const stop = Math.min(arrayCount(block), to - first);
      for (let i = Math.max(0, from - first); i < stop; i++) {
        values.push(this.#type.codec.get(block.view, arrayValueAt(block, i)));
      }
      more = yield* cursor.next();
    }
    return values;
  }

  *#shrink(root: number, from: number, to: number): Steps<number> {
    let current = root;
    const blocks = Math.ceil(to / this.perBlock);
    for (let index = Math.ceil(from / this.perBlock) - 1; index >= blocks; index--) {
      current = (yield* this.#tree.remove(current, [index])).root;
    }
    const tail = to % this.perBlock;
    if (tail === 0) return current;
    const { block, root: newRoot } = yield* this.#shadow(current, blocks - 1);
    const count = arrayCount(block) - tail;
    if (this.#type.decrement !== undefined && count > 0) {
      yield* this.#type.decrement({ view: block.view, at: arrayValueAt(block, tail), count });
    }
    setArrayCount(block, tail);
    return newRoot;
  }

  *#grow(root: number, { from, to, value }: { from: number; to: number; value: V }): Steps<number> {
    let current = root;
    for (let length = from; length < to; ) {
      const index = Math.floor(length / this.perBlock);
      const stop = Math.min(to, (index + 1) * this.perBlock);
      let block: Block;
      if (length % this.perBlock === 0) {
        block = yield* this.#store.newBlock(ARRAY_KIND);
        initArrayBlock(block, this.#type.codec.size);
        current = (yield* this.#tree.insert(current, [index], block.number)).root;
      } else ({ block, root: current } = yield* this.#shadow(current, index));
      yield* this.#fill(block, stop - index * this.perBlock, value);
      length = stop;
    }
    return current;
  }

  *#fill(block: Block, count: number, value: V): Steps<void> {
    const { codec, increment } = this.#type;
    for (let i = arrayCount(block); i < count; i++) {
      codec.set(block.view, arrayValueAt(block, i), value);
      if (increment !== undefined) yield* increment({ view: block.view, at: arrayValueAt(block, i), count: 1 });
    }
    setArrayCount(block, count);
  }

  *#load(number: number, index: number): Steps<Block> {
    const path = `${this.#name}, block ${index}`;
    if (number >= this.#store.blockCount || number === 0) {
      throw corrupt(path, "address", { expected: `1 to ${this.#store.blockCount - 1}`, actual: number });
    }
    const block = this.#store.cached(number, ARRAY_KIND) ?? (yield* this.#store.load(number, ARRAY_KIND, path));
    const expected = this.#type.codec.size;
    if (arrayValueSize(block) === expected) return block;
    throw corrupt(`${path} (at ${number})`, "value size", { expected, actual: arrayValueSize(block) });
  }

  /** The changeable block `index`, hung into the tree. */
  *#shadow(root: number, index: number): Steps<{ block: Block; root: number }> {
    const number = yield* this.#tree.lookup(root, [index]);
    if (number === undefined) throw this.#pastEnd(index * this.perBlock);
    // A tree that is shared keeps its block: its nodes are copied first, which raises the block's count.
    const held = yield* this.#moving.insert(root, [index], number);
    yield* this.#load(number, index);
    const { block, shared } = yield* this.#store.shadow(number, ARRAY_KIND, this.#name);
    if (shared && this.#type.increment !== undefined) {
      yield* this.#type.increment({ view: block.view, at: arrayValueAt(block, 0), count: arrayCount(block) });
    }
    if (block.number === number) return { block, root: held.root };
    return { block, root: (yield* this.#moving.insert(held.root, [index], block.number)).root };
  }

  /** Array blocks that lost a holder; the last holder drops the values. */
  *#dropBlocks({ view, at, count }: ValueRun): Steps<void> {
    for (let i = 0; i < count; i++) {
      const number = u64le.get(view, at + 8 * i);
      if (this.#type.decrement !== undefined && (yield* this.#store.count(number)) === 1) {
        const block = yield* this.#load(number, -1);
        const values = { view: block.view, at: arrayValueAt(block, 0), count: arrayCount(block) };
        if (values.count > 0) yield* this.#type.decrement(values);
      }
      yield* this.#store.decrement(number, number + 1);
    }
  }

  #pastEnd(index: number): VdoError<"VDO_OUT_OF_RANGE"> {
    const text = `${this.#name}: entry ${index} is past the end; resize the array first`;
    return new VdoError("VDO_OUT_OF_RANGE", text, { start: index, count: 1, blockCount: 0 });
  }
}
