/** A place in a single-level tree that moves forward and back. It sees the tree as it was when the cursor came there. */
import {
  addressAt,
  CHILD_BYTES,
  entryCount,
  isLeaf,
  keyAt,
  lowerBound,
  upperBound,
  valueOffset,
} from "../format/node.ts";
import type { Block } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";
import { loadChild, loadRoot, type TreeContext, TreePath } from "./tree-context.ts";

interface Frame {
  node: Block;
  index: number;
}

/**
 * Made by `BTree.cursor`. Begins nowhere: move it with `first`, `last`, `seek` or `seekBack`; each returns whether it stands
 * on an entry. Changing the tree ends its usefulness; nothing breaks, but what it shows is the old tree.
 */
export class Cursor<V> {
  readonly #tree: TreeContext<V>;
  readonly #root: number;
  #stack: Frame[] = [];
  #path: TreePath;

  constructor(tree: TreeContext<V>, root: number) {
    this.#tree = tree;
    this.#root = root;
    this.#path = new TreePath(tree.name);
  }

  /** True while the cursor stands on an entry. */
  get valid(): boolean {
    return this.#stack.length > 0;
  }

  /** Key of the entry. Only while `valid`. */
  get key(): number {
    const { node, index } = this.#stack.at(-1) as Frame;
    return keyAt(node, index);
  }

  /** Value of the entry, decoded. Only while `valid`. */
  get value(): V {
    const { node, index } = this.#stack.at(-1) as Frame;
    return this.#tree.type.codec.get(node.view, valueOffset(node, index));
  }

  /** Bytes of the block that holds the entry: for decoding without allocation, at `valueAt`. Read only. */
  get valueView(): DataView {
    return (this.#stack.at(-1) as Frame).node.view;
  }

  get valueAt(): number {
    const { node, index } = this.#stack.at(-1) as Frame;
    return valueOffset(node, index);
  }

  /** To the lowest key. */
  *first(): Steps<boolean> {
    yield* this.#start();
    yield* this.#descend(() => 0);
    return yield* this.#settle(1);
  }

  /** To the highest key. */
  *last(): Steps<boolean> {
    yield* this.#start();
    yield* this.#descend((node) => entryCount(node) - 1);
    return yield* this.#settle(-1);
  }

  /** To the least key that is at least `key`. */
  *seek(key: number): Steps<boolean> {
    yield* this.#start();
    yield* this.#descend((node) => (isLeaf(node) ? upperBound(node, key) : Math.max(lowerBound(node, key), 0)));
    return yield* this.#settle(1);
  }

  /** To the greatest key that is at most `key` (lower bound). */
  *seekBack(key: number): Steps<boolean> {
    yield* this.#start();
    yield* this.#descend((node) => (isLeaf(node) ? lowerBound(node, key) : Math.max(lowerBound(node, key), 0)));
    return yield* this.#settle(-1);
  }

  *next(): Steps<boolean> {
    return yield* this.#move(1);
  }

  *previous(): Steps<boolean> {
    return yield* this.#move(-1);
  }

  /** `count` times `next`, whole leaves at a time. */
  *skip(count: number): Steps<boolean> {
    let left = count;
    while (left > 0 && this.#stack.length > 0) {
      const top = this.#stack.at(-1) as Frame;
      const inLeaf = Math.min(left, entryCount(top.node) - 1 - top.index);
      top.index += inLeaf;
      left -= inLeaf;
      if (left > 0) {
        left--;
        yield* this.next();
      }
    }
    return this.valid;
  }

  /** One step within the leaf needs no generator: true if it was possible. */
  nextInLeaf(): boolean {
    const top = this.#stack.at(-1);
    if (top === undefined || top.index + 1 >= entryCount(top.node)) return false;
    top.index++;
    return true;
  }

  *#move(by: 1 | -1): Steps<boolean> {
    const top = this.#stack.at(-1);
    if (top === undefined) return false;
    top.index += by;
    return yield* this.#settle(by);
  }

  /** While the top frame's index is outside its node (which may be empty): on to the neighbour. */
  *#settle(by: 1 | -1): Steps<boolean> {
    for (let top = this.#stack.at(-1); top !== undefined; top = this.#stack.at(-1)) {
      if (top.index < 0 || top.index >= entryCount(top.node)) {
        this.#stack.pop();
        const above = this.#stack.at(-1);
        if (above === undefined) return false;
        this.#path.pop();
        above.index += by;
      } else if (isLeaf(top.node)) return true;
      else yield* this.#descend((node) => (by === 1 ? 0 : entryCount(node) - 1));
    }
    return false;
  }

  *#start(): Steps<void> {
    this.#stack = [];
    this.#path = new TreePath(this.#tree.name);
    const { store, type } = this.#tree;
    const node = yield* loadRoot(store, { root: this.#root, size: type.codec.size, path: this.#path });
    this.#stack.push({ node, index: -1 });
  }

  /** From the top frame, whose index is to be chosen if it is the root's, down to a leaf. */
  *#descend(choose: (node: Block) => number): Steps<void> {
    let frame = this.#stack.at(-1) as Frame;
    if (this.#stack.length === 1 && frame.index < 0) frame.index = choose(frame.node);
    const { store, type } = this.#tree;
    while (!isLeaf(frame.node)) {
      const { node, index } = frame;
      this.#prefetch(node, index);
      const child = yield* loadChild(store, { node, index, size: type.codec.size, path: this.#path });
      frame = { node: child, index: choose(child) };
      this.#stack.push(frame);
    }
  }

  /** The next children will be wanted too. */
  #prefetch(node: Block, from: number): void {
    if (from % 16 !== 0) return;
    const numbers: number[] = [];
    const end = Math.min(entryCount(node), from + 32);
    for (let i = from; i < end; i++) numbers.push(addressAt(node, i));
    this.#tree.store.prefetch(numbers);
  }
}

/** Value size of the leaves of level `level` of a tree. */
export function leafValueSize<V>({ levels, type }: TreeContext<V>, level: number): number {
  return level < levels - 1 ? CHILD_BYTES : type.codec.size;
}
