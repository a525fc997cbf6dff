/**
 * Copy-on-write B-trees: maps from numbers to values of fixed size, or maps of maps.
 *
 * A tree has no state but its root, the address of a block, which the caller keeps. Every change returns a new root; the
 * old one is dead unless it was `clone`d before, which is what a snapshot is. (Linux 6.12, dm-btree.)
 */
import { VdoError } from "@vdo/base";
import {
  addressAt,
  entryCount,
  isLeaf,
  keyAt,
  lowerBound,
  NODE_KIND,
  upperBound,
  valueOffset,
} from "../format/node.ts";
import type { Block } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";
import { bulkLoad } from "./bulk-load.ts";
import { Cursor, leafValueSize } from "./cursor.ts";
import { dropTree } from "./drop.ts";
import { insertEntry, newLeaf } from "./insert.ts";
import { removeEntry, removeRun } from "./remove.ts";
import {
  type BlockStore,
  checkContext,
  DEPTH_MAX,
  isInPlace,
  loadChild,
  loadRoot,
  type TreeContext,
  TreePath,
  type ValueType,
} from "./tree-context.ts";
import { type TreeVisitor, walkTree } from "./walk.ts";

/** Returned by {@link BTree.peek} when a block of the way is not in memory (or needs a closer look). */
export const NOT_CACHED: unique symbol = Symbol("not cached");

export interface BTreeOptions<V> {
  type: ValueType<V>;
  /** 1 (default): key → value. 2: key → key → value, and so on. */
  levels?: number;
  /** For error messages. Default "B-tree". */
  name?: string;
}

/**
 * Keys are integers of 0 to 2^53 - 1, one per level. All methods but `peek` and `cursor` are steps to be run by
 * `Store.read` or `Store.write`. Throws `VDO_CORRUPT` with the path to a node that is not as it must be.
 */
export class BTree<V> implements TreeContext<V> {
  readonly store: BlockStore;
  readonly levels: number;
  readonly type: ValueType<V>;
  readonly name: string;

  constructor(store: BlockStore, { type, levels = 1, name = "B-tree" }: BTreeOptions<V>) {
    this.store = store;
    this.levels = levels;
    this.type = type;
    this.name = name;
    checkContext(this);
  }

  /** Root of a new empty tree. */
  *empty(): Steps<number> {
    return yield* newLeaf(this.store, leafValueSize(this, 0));
  }

  /** Root of a new single-level tree of entries whose keys rise: several times faster than inserting them. */
  *load(entries: Iterable<readonly [number, V]>): Steps<number> {
    return yield* bulkLoad(this.#lastLevel(), entries);
  }

  /** The value, or undefined. */
  *lookup(root: number, keys: readonly number[]): Steps<V | undefined> {
    this.#checkKeys(keys);
    const path = new TreePath(this.name);
    let next = root;
    for (let level = 0; level < this.levels; level++) {
      const size = leafValueSize(this, level);
      const key = keys[level] as number;
      let node = yield* loadRoot(this.store, { root: next, size, path });
      let index = lowerBound(node, key);
      while (index >= 0 && !isLeaf(node)) {
        node = yield* loadChild(this.store, { node, index, size, path });
        index = lowerBound(node, key);
      }
      if (index < 0 || keyAt(node, index) !== key) return undefined;
      if (level === this.levels - 1) return this.type.codec.get(node.view, valueOffset(node, index));
      next = addressAt(node, index);
      path.push(node.number, index);
    }
    return undefined;
  }

  /** `lookup` without waiting: {@link NOT_CACHED} if a block is missing. For paths where a promise would cost too much. */
  peek(root: number, keys: readonly number[]): V | undefined | typeof NOT_CACHED {
    let next = root;
    for (let level = 0; level < this.levels; level++) {
      const leaf = this.#peekLevel(next, keys[level] as number, leafValueSize(this, level));
      if (leaf === undefined) return NOT_CACHED;
      const index = lowerBound(leaf, keys[level] as number);
      if (!isLeaf(leaf) || index < 0 || keyAt(leaf, index) !== keys[level]) return undefined;
      if (level === this.levels - 1) return this.type.codec.get(leaf.view, valueOffset(leaf, index));
      next = addressAt(leaf, index);
    }
    return undefined;
  }

  /** The leaf of a key, or the internal node all of whose keys are greater; undefined if something is missing or wrong. */
  #peekLevel(root: number, key: number, size: number): Block | undefined {
    let node = this.store.cached(root, NODE_KIND);
    if (node === undefined || !isInPlace(node, { size, parent: undefined, index: 0 })) return undefined;
    for (let depth = 0; !isLeaf(node) && depth < DEPTH_MAX; depth++) {
      const index = lowerBound(node, key);
      if (index < 0) return node;
      const child: Block | undefined = this.store.cached(addressAt(node, index), NODE_KIND);
      if (child === undefined || !isInPlace(child, { size, parent: node, index })) return undefined;
      node = child;
    }
    return isLeaf(node) ? node : undefined;
  }

  /** The entry with the least key of the last level that is at least the last of `keys`; upper keys are exact. */
  *lookupNext(root: number, keys: readonly number[]): Steps<{ key: number; value: V } | undefined> {
    this.#checkKeys(keys);
    const lastRoot = yield* this.lastRoot(root, keys);
    if (lastRoot === undefined) return undefined;
    const cursor = new Cursor<V>(this.#lastLevel(), lastRoot);
    if (!(yield* cursor.seek(keys[this.levels - 1] as number))) return undefined;
    return { key: cursor.key, value: cursor.value };
  }

  /** Root of the last level's tree for the upper ones of `keys`; `root` itself for a single-level tree. */
  *lastRoot(root: number, keys: readonly number[]): Steps<number | undefined> {
    const path = new TreePath(this.name);
    let next = root;
    for (let level = 0; level < this.levels - 1; level++) {
      const size = leafValueSize(this, level);
      const key = keys[level] as number;
      let node = yield* loadRoot(this.store, { root: next, size, path });
      while (!isLeaf(node)) {
        const index = lowerBound(node, key);
        if (index < 0) return undefined;
        node = yield* loadChild(this.store, { node, index, size, path });
      }
      const index = upperBound(node, key);
      if (index >= entryCount(node) || keyAt(node, index) !== key) return undefined;
      path.push(node.number, index);
      next = addressAt(node, index);
    }
    return next;
  }

  /** Inserts or overwrites. The value's own reference is the caller's; an overwritten value's is dropped. */
  *insert(root: number, keys: readonly number[], value: V): Steps<{ root: number; inserted: boolean }> {
    this.#checkKeys(keys);
    return yield* insertEntry(this, root, { keys, value });
  }

  /** Removes an entry of the last level. The new root counts also when nothing was removed. */
  *remove(root: number, keys: readonly number[]): Steps<{ root: number; removed: boolean }> {
    this.#checkKeys(keys);
    return yield* removeEntry(this, root, keys);
  }

  /** Removes the run of consecutive keys that starts at the last of `keys`, up to `end`; it stops at the first gap. */
  *removeRun(
    root: number,
    keys: readonly number[],
    end: number,
  ): Steps<{ root: number; removed: number; next: number }> {
    this.#checkKeys(keys);
    return yield* removeRun(this, root, { keys, end });
  }

  /** Lowest key of the first level, or undefined. */
  *lowest(root: number): Steps<number | undefined> {
    const cursor = new Cursor<unknown>(this.#firstLevel(), root);
    return (yield* cursor.first()) ? cursor.key : undefined;
  }

  /** Highest key of the first level, or undefined. */
  *highest(root: number): Steps<number | undefined> {
    const cursor = new Cursor<unknown>(this.#firstLevel(), root);
    return (yield* cursor.last()) ? cursor.key : undefined;
  }

  /** A cursor over a single-level tree. */
  cursor(root: number): Cursor<V> {
    return new Cursor<V>(this.#lastLevel(), root);
  }

  /** Entries with keys of `from` to `to` (inclusive) of a single-level tree, `limit` at most. */
  *range(
    root: number,
    { from = 0, to = Number.MAX_SAFE_INTEGER, limit = Number.POSITIVE_INFINITY }: RangeOptions = {},
  ): Steps<{ key: number; value: V }[]> {
    const cursor = this.cursor(root);
    const entries: { key: number; value: V }[] = [];
    let more = yield* cursor.seek(from);
    while (more && cursor.key <= to && entries.length < limit) {
      entries.push({ key: cursor.key, value: cursor.value });
      more = cursor.nextInLeaf() || (yield* cursor.next());
    }
    return entries;
  }

  /** One more holder of the tree: the O(1) snapshot. */
  *clone(root: number): Steps<void> {
    yield* this.store.increment(root, root + 1);
  }

  /** One holder less; what nobody else holds is freed. */
  *drop(root: number): Steps<void> {
    yield* dropTree(this, root);
  }

  /**
   * Walks the whole of a single-level tree (the upper levels of others are walked as trees of addresses), checking it:
   * order, ranges, depth. Damage goes to the visitor, with the keys that are lost, or is thrown.
   */
  *walk(root: number, visitor: TreeVisitor): Steps<void> {
    yield* walkTree(this.#lastLevel(), root, visitor);
  }

  #lastLevel(): TreeContext<V> {
    return this.levels === 1 ? this : { store: this.store, levels: 1, type: this.type, name: this.name };
  }

  #firstLevel(): TreeContext<unknown> {
    const type = this.levels === 1 ? (this.type as ValueType<unknown>) : { codec: { size: 8 } };
    return { store: this.store, levels: 1, type: type as ValueType<unknown>, name: this.name };
  }

  #checkKeys(keys: readonly number[]): void {
    if (keys.length !== this.levels) {
      throw new VdoError(
        "VDO_BAD_ARGUMENT",
        `${this.name}: ${keys.length} keys were given, ${this.levels} are needed`,
        {
          argument: "keys",
          value: keys.length,
        },
      );
    }
    for (const key of keys) {
      if (!Number.isSafeInteger(key) || key < 0) {
        throw new VdoError("VDO_BAD_ARGUMENT", `${this.name}: key ${key} is not an integer of 0 to 2^53 - 1`, {
          argument: "keys",
          value: key,
        });
      }
    }
  }
}

export interface RangeOptions {
  from?: number;
  to?: number;
  limit?: number;
}
