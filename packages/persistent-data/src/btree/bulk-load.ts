/** Building a tree from sorted entries, from the leaves up: every block is written once, and full. */
import { VdoError } from "@vdo/base";
import {
  CHILD_BYTES,
  initNode,
  keyAt,
  NODE_KIND,
  nodeCapacity,
  setAddress,
  setEntryCount,
  setKey,
} from "../format/node.ts";
import type { Block } from "../store/block.ts";
import { SAFE_POINT, type Steps } from "../store/steps.ts";
import { redistribute2 } from "./redistribute.ts";
import { type BlockStore, type TreeContext, valuesOf } from "./tree-context.ts";

/** A finished node. */
interface Built {
  key: number;
  number: number;
}

/** Root of a new single-level tree of `entries`, whose keys rise. Throws `VDO_BAD_ARGUMENT` where they do not. */
export function* bulkLoad<V>(tree: TreeContext<V>, entries: Iterable<readonly [number, V]>): Steps<number> {
  const { store, type, name } = tree;
  const leaves = new Row(store, { leaf: true, size: type.codec.size });
  let previous = -1;
  for (const [key, value] of entries) {
    if (!Number.isSafeInteger(key) || key <= previous) {
      const text = `${name}: key ${key} cannot follow ${previous}; keys must be integers and rise`;
      throw new VdoError("VDO_BAD_ARGUMENT", text, { argument: "entries", value: key });
    }
    previous = key;
    const node = leaves.open ?? (yield* leaves.add());
    const index = leaves.filled++;
    setKey(node, index, key);
    type.codec.set(node.view, valuesOf(node).at + index * type.codec.size, value);
    if (leaves.filled === leaves.capacity) {
      leaves.close();
      yield SAFE_POINT;
    }
  }
  let row = yield* leaves.finish();
  if (row.length === 0) {
    yield* leaves.add();
    row = yield* leaves.finish();
  }
  while (row.length > 1) {
    const parents = new Row(store, { leaf: false, size: CHILD_BYTES });
    for (const { key, number } of row) {
      const node = parents.open ?? (yield* parents.add());
      const index = parents.filled++;
      setKey(node, index, key);
      setAddress(node, index, number);
      if (parents.filled === parents.capacity) parents.close();
    }
    row = yield* parents.finish();
  }
  return (row[0] as Built).number;
}

/** The nodes of one depth, from left to right. */
class Row {
  readonly capacity: number;
  /** The node being filled. */
  open: Block | undefined;
  /** Entries in it so far. */
  filled = 0;
  readonly #store: BlockStore;
  readonly #leaf: boolean;
  readonly #size: number;
  readonly #built: Built[] = [];

  constructor(store: BlockStore, { leaf, size }: { leaf: boolean; size: number }) {
    this.#store = store;
    this.#leaf = leaf;
    this.#size = size;
    this.capacity = nodeCapacity(size);
  }

  *add(): Steps<Block> {
    const node = yield* this.#store.newBlock(NODE_KIND);
    initNode(node, { leaf: this.#leaf, valueSize: this.#size });
    this.open = node;
    this.filled = 0;
    return node;
  }

  close(): void {
    const node = this.open as Block;
    setEntryCount(node, this.filled);
    this.#built.push({ key: this.filled > 0 ? keyAt(node, 0) : 0, number: node.number });
    this.open = undefined;
    this.#store.release(node);
  }

  /** Ends the row: a last node that is too empty shares with the one before. */
  *finish(): Steps<Built[]> {
    const node = this.open;
    const before = this.#built.at(-1);
    if (node === undefined) return this.#built;
    this.close();
    if (before !== undefined && this.filled < this.capacity / 3) {
      // Written out by now, perhaps, but of this transaction: its address stays.
      const { block: left } = yield* this.#store.shadow(before.number, NODE_KIND);
      redistribute2(left, node);
      (this.#built.at(-1) as Built).key = keyAt(node, 0);
    }
    return this.#built;
  }
}
