/** What the parts of the B-tree share: the store they work on, value types, and the way to a node for error messages. */
import { type Field, invariant, u64le } from "@vdo/base";
import { corrupt } from "../errors.ts";
import {
  addressAt,
  entriesMax,
  entryCount,
  isLeaf,
  keyAt,
  NODE_KIND,
  nodeCapacity,
  valueOffset,
  valueSize,
} from "../format/node.ts";
import type { Block, BlockKind } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";

/** Deepest tree of nodes that is followed, per level. Full binary trees of 4 million blocks are 22 deep; real ones 5. */
export const DEPTH_MAX = 24;

/** What trees, arrays and space maps need of the store. */
export interface BlockStore {
  /** Blocks that the metadata space map manages: every address is below. */
  readonly blockCount: number;
  /** The block if it is cached and validated. */
  cached(number: number, kind: BlockKind): Block | undefined;
  /** The block, loaded if need be. */
  load(number: number, kind: BlockKind, path?: string): Steps<Block>;
  /** A new block, zeroed and changeable, with count 1. */
  newBlock(kind: BlockKind): Steps<Block>;
  /** The changeable copy of `number`, whose pointer the caller replaces; see {@link Shadow}. */
  shadow(number: number, kind: BlockKind, path?: string): Steps<Shadow>;
  /** The block itself, if it may be changed in place. */
  shadowInPlace(number: number, kind: BlockKind): Block | undefined;
  /** The operation will not change this block any more: it may be written and leave memory before the operation ends. */
  release(block: Block): void;
  /** True if more than one pointer leads to the block. Cautious: may be true when it is not. */
  isShared(number: number): Steps<boolean>;
  /** Raises the counts of blocks [begin, end). */
  increment(begin: number, end: number): Steps<void>;
  /** Lowers the counts of blocks [begin, end). */
  decrement(begin: number, end: number): Steps<void>;
  /** Exact count of a block. */
  count(number: number): Steps<number>;
  prefetch(numbers: readonly number[]): void;
}

/** Result of shadowing. If `shared`, whatever the block points at has one more pointer now: raise the counts. */
export interface Shadow {
  block: Block;
  shared: boolean;
}

/** The values of a run of slots: `count` values of the type's size, one after the other from `at`. Read only. */
export interface ValueRun {
  view: DataView;
  at: number;
  count: number;
}

/** What a tree stores, and what it means for other structures that a value is copied or dropped. */
export interface ValueType<V> {
  /** Size and codec; any field or struct of `@vdo/base`. */
  readonly codec: Field<V>;
  /** A node was copied: all these values have one more holder. */
  increment?(values: ValueRun): Steps<void>;
  /** These values lost a holder. */
  decrement?(values: ValueRun): Steps<void>;
  /** When a value is overwritten by an equal one, nothing is decremented. */
  equal?(a: V, b: V): boolean;
}

/** A tree without its root. */
export interface TreeContext<V> {
  readonly store: BlockStore;
  /** 1: a map from key to value. 2: a map of maps, and so on. */
  readonly levels: number;
  readonly type: ValueType<V>;
  /** For error messages, for example "mapping tree". */
  readonly name: string;
}

/** Calls `apply` for each run of consecutive block numbers among u64 values. */
export function* forRuns(
  { view, at, count }: ValueRun,
  apply: (begin: number, end: number) => Steps<void>,
): Steps<void> {
  let begin = 0;
  let end = 0;
  for (let i = 0; i < count; i++) {
    const number = view.getUint32(at + 8 * i + 4, true) * 0x1_0000_0000 + view.getUint32(at + 8 * i, true);
    if (number === end && i > 0) end++;
    else {
      if (end > begin) yield* apply(begin, end);
      begin = number;
      end = number + 1;
    }
  }
  if (end > begin) yield* apply(begin, end);
}

/** Values that are addresses of metadata blocks, each holding one count: children of nodes, roots in upper levels. */
export function addressType(store: BlockStore): ValueType<number> & Required<Pick<ValueType<number>, "increment">> {
  return {
    codec: u64le,
    increment: (values) => forRuns(values, (begin, end) => store.increment(begin, end)),
    decrement: (values) => forRuns(values, (begin, end) => store.decrement(begin, end)),
    equal: (a, b) => a === b,
  };
}

/** The values of `node` as a run. */
export function valuesOf(node: Block): ValueRun {
  return { view: node.view, at: valueOffset(node, 0), count: entryCount(node) };
}

/** After copying a shared node: counts of everything it points at. `type` is that of the leaves at this level. */
export function* incrementChildren(store: BlockStore, node: Block, type: ValueType<unknown>): Steps<void> {
  if (!isLeaf(node)) yield* forRuns(valuesOf(node), (begin, end) => store.increment(begin, end));
  else if (type.increment !== undefined) yield* type.increment(valuesOf(node));
}

/** Where in a tree an operation is. Kept cheap: only what an error message needs. */
export class TreePath {
  readonly #name: string;
  readonly #steps: number[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  get depth(): number {
    return this.#steps.length / 2;
  }

  /** The operation is at block `number` and goes on to its child `index`. */
  push(number: number, index: number): void {
    this.#steps.push(number, index);
  }

  pop(): void {
    this.#steps.length -= 2;
  }

  includes(number: number): boolean {
    for (let i = 0; i < this.#steps.length; i += 2) if (this.#steps[i] === number) return true;
    return false;
  }

  toString(): string {
    let text = this.#name;
    for (let i = 0; i < this.#steps.length; i += 2) text += `, block ${this.#steps[i]} entry ${this.#steps[i + 1]}`;
    return text;
  }
}

/** Refuses an address that no block can have, or that closes a circle, before anything is read. */
export function checkAddress(store: BlockStore, number: number, path: TreePath): void {
  if (number <= 0 || number >= store.blockCount) {
    throw corrupt(path.toString(), "address", { expected: `1 to ${store.blockCount - 1}`, actual: number });
  }
  if (path.includes(number)) throw corrupt(path.toString(), "address", { expected: "no ancestor", actual: number });
  if (path.depth > DEPTH_MAX * 2) {
    throw corrupt(path.toString(), "depth", { expected: `at most ${DEPTH_MAX}`, actual: path.depth });
  }
}

/** What must hold for a node in its place. `size` is the value size of leaves at this level. */
export function checkPlace(
  node: Block,
  { size, parent, index }: { size: number; parent: Block | undefined; index: number },
  path: TreePath,
): void {
  if (isLeaf(node) && valueSize(node) !== size) {
    throw corrupt(`${path}: block ${node.number}`, "value size", { expected: size, actual: valueSize(node) });
  }
  const count = entryCount(node);
  if (parent === undefined || count === 0) return;
  const low = keyAt(parent, index);
  if (keyAt(node, 0) < low) {
    throw corrupt(`${path}: block ${node.number}`, "key 0", { expected: `at least ${low}`, actual: keyAt(node, 0) });
  }
  const last = keyAt(node, count - 1);
  if (index + 1 < entryCount(parent) && last >= keyAt(parent, index + 1)) {
    const expected = `less than ${keyAt(parent, index + 1)}`;
    throw corrupt(`${path}: block ${node.number}`, "last key", { expected, actual: last });
  }
}

/** Like `checkPlace`, as a question: for paths that have no names at hand. */
export function isInPlace(
  node: Block,
  { size, parent, index }: { size: number; parent: Block | undefined; index: number },
): boolean {
  if (isLeaf(node) && valueSize(node) !== size) return false;
  const count = entryCount(node);
  if (parent === undefined || count === 0) return true;
  if (keyAt(node, 0) < keyAt(parent, index)) return false;
  return index + 1 >= entryCount(parent) || keyAt(node, count - 1) < keyAt(parent, index + 1);
}

/** The child of `node` at `index`, checked; `path` gets the step. */
export function* loadChild(
  store: BlockStore,
  { node, index, size, path }: { node: Block; index: number; size: number; path: TreePath },
): Steps<Block> {
  const number = addressAt(node, index);
  path.push(node.number, index);
  checkAddress(store, number, path);
  const child = store.cached(number, NODE_KIND) ?? (yield* store.load(number, NODE_KIND, path.toString()));
  checkPlace(child, { size, parent: node, index }, path);
  return child;
}

/** The root of a tree (or of a lower level's tree), checked. */
export function* loadRoot(
  store: BlockStore,
  { root, size, path }: { root: number; size: number; path: TreePath },
): Steps<Block> {
  checkAddress(store, root, path);
  const node = store.cached(root, NODE_KIND) ?? (yield* store.load(root, NODE_KIND, path.toString()));
  checkPlace(node, { size, parent: undefined, index: 0 }, path);
  return node;
}

/** A shadow of `number`, counts of what it points at adjusted, its place checked. */
export function* shadowNode(
  store: BlockStore,
  {
    number,
    type,
    parent,
    index,
    path,
  }: { number: number; type: ValueType<unknown>; parent: Block | undefined; index: number; path: TreePath },
): Steps<Block> {
  checkAddress(store, number, path);
  const inPlace = store.shadowInPlace(number, NODE_KIND);
  const size = type.codec.size;
  if (inPlace !== undefined) {
    checkPlace(inPlace, { size, parent, index }, path);
    return inPlace;
  }
  const original = store.cached(number, NODE_KIND) ?? (yield* store.load(number, NODE_KIND, path.toString()));
  checkPlace(original, { size, parent, index }, path);
  const { block, shared } = yield* store.shadow(number, NODE_KIND, path.toString());
  if (shared) yield* incrementChildren(store, block, type);
  return block;
}

/** Facts about a tree's parameters that hold before anything is done. */
export function checkContext({ levels, type }: TreeContext<unknown>): void {
  invariant(levels >= 1, "a tree has at least one level");
  invariant(nodeCapacity(type.codec.size) >= 3, "three values fit in a node");
}

/** Free slots of a node. */
export function freeSlots(node: Block): number {
  return entriesMax(node) - entryCount(node);
}

/** What must hold for a node that exchanges entries with others. */
export function checkSort(node: Block, { size, max }: { size: number; max: number }, path: TreePath): void {
  const place = `${path}: block ${node.number}`;
  if (valueSize(node) !== size) throw corrupt(place, "value size", { expected: size, actual: valueSize(node) });
  if (entriesMax(node) !== max) throw corrupt(place, "entries max", { expected: max, actual: entriesMax(node) });
}

/** Siblings must be of one sort, or entries cannot move between them. */
export function checkSiblings(first: Block, other: Block, path: TreePath): void {
  checkSort(other, { size: valueSize(first), max: entriesMax(first) }, path);
  if (isLeaf(first) !== isLeaf(other)) {
    const name = (node: Block): string => (isLeaf(node) ? "leaf" : "internal");
    throw corrupt(`${path}: block ${other.number}`, "flags", { expected: name(first), actual: name(other) });
  }
}
