/**
 * Insertion, with the kernel's policy: nodes are shadowed and split from the top down, so a child that must be split always
 * has a parent with a free slot. (Linux 6.12, dm-btree: btree_insert_raw, rebalance_or_split, btree_split_beneath.)
 */
import { setU64 } from "@vdo/base";
import {
  addressAt,
  CHILD_BYTES,
  copyEntries,
  entriesMax,
  entryCount,
  initLike,
  initNode,
  isLeaf,
  keyAt,
  lowerBound,
  NODE_KIND,
  nodeCapacity,
  openSlot,
  setAddress,
  setEntryCount,
  setKey,
  valueOffset,
} from "../format/node.ts";
import type { Block } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";
import { redistribute2, redistribute3 } from "./redistribute.ts";
import {
  addressType,
  type BlockStore,
  checkAddress,
  checkSiblings,
  freeSlots,
  shadowNode,
  type TreeContext,
  TreePath,
  type ValueType,
} from "./tree-context.ts";

/** A sibling takes part in making room if it has at least this many free slots. */
const SPACE_THRESHOLD = 8;

/** Where a key is, or where it goes. */
interface Slot {
  leaf: Block;
  index: number;
}

/** An empty leaf for values of `size` bytes, as a tree's root. */
export function* newLeaf(store: BlockStore, size: number): Steps<number> {
  const block = yield* store.newBlock(NODE_KIND);
  initNode(block, { leaf: true, valueSize: size });
  return block.number;
}

/** Inserts or overwrites. The root given is dead afterwards unless its count was raised before. */
export function* insertEntry<V>(
  tree: TreeContext<V>,
  root: number,
  { keys, value }: { keys: readonly number[]; value: V },
): Steps<{ root: number; inserted: boolean }> {
  const { store, levels, type } = tree;
  const path = new TreePath(tree.name);
  const upper = levels > 1 ? addressType(store) : undefined;
  let newRoot = -1;
  let parent: Slot | undefined;
  let next = root;
  for (let level = 0; level < levels - 1; level++) {
    const place: Placing = { store, type: upper as ValueType<unknown>, key: keys[level] as number, path };
    const slot = yield* descend(place, next, parent);
    if (newRoot < 0) newRoot = place.root as number;
    if (!holds(slot, place.key)) {
      const below = yield* newLeaf(store, level + 1 < levels - 1 ? CHILD_BYTES : type.codec.size);
      setU64(slot.leaf.view, openSlot(slot.leaf, slot.index, place.key), below, true);
    }
    next = addressAt(slot.leaf, slot.index);
    path.push(slot.leaf.number, slot.index);
    parent = slot;
  }
  const place: Placing = { store, type: type as ValueType<unknown>, key: keys[levels - 1] as number, path };
  const slot = yield* descend(place, next, parent);
  if (newRoot < 0) newRoot = place.root as number;
  const inserted = !holds(slot, place.key);
  if (inserted) type.codec.set(slot.leaf.view, openSlot(slot.leaf, slot.index, place.key), value);
  else yield* overwrite(slot, type, value);
  return { root: newRoot, inserted };
}

function holds({ leaf, index }: Slot, key: number): boolean {
  return index < entryCount(leaf) && keyAt(leaf, index) === key;
}

function* overwrite<V>({ leaf, index }: Slot, type: ValueType<V>, value: V): Steps<void> {
  const at = valueOffset(leaf, index);
  if (type.decrement !== undefined) {
    const old = type.codec.get(leaf.view, at);
    if (!(type.equal?.(old, value) ?? false)) yield* type.decrement({ view: leaf.view, at, count: 1 });
  }
  type.codec.set(leaf.view, at, value);
}

/** One level's descent. `root` is set to the address of the shadowed root. */
interface Placing {
  store: BlockStore;
  type: ValueType<unknown>;
  key: number;
  path: TreePath;
  root?: number;
}

/** Goes down to the leaf for `key`, shadowing and making room on the way. */
function* descend(place: Placing, root: number, from: Slot | undefined): Steps<Slot> {
  const { store, type, key, path } = place;
  let parent = from?.leaf;
  let index = from?.index ?? 0;
  let number = root;
  let isTop = true;
  let pushed = 0;
  for (;;) {
    // A lower level's root has no keys to agree with.
    const above = isTop ? undefined : parent;
    let node = yield* shadowNode(store, { number, type, parent: above, index, path });
    if (parent !== undefined) setAddress(parent, index, node.number);
    if (isTop) place.root = node.number;
    if (entryCount(node) === entriesMax(node) && !hasKey(node, key)) {
      if (isTop || parent === undefined) yield* splitBeneath(store, node);
      else node = yield* makeRoom(place, { parent, index, node });
    }
    let i = lowerBound(node, key);
    if (isLeaf(node)) {
      for (; pushed > 0; pushed--) path.pop();
      if (i < 0 || keyAt(node, i) !== key) i++;
      return { leaf: node, index: i };
    }
    if (i < 0) {
      setKey(node, 0, key);
      i = 0;
    }
    path.push(node.number, i);
    pushed++;
    parent = node;
    index = i;
    number = addressAt(node, i);
    isTop = false;
  }
}

/** A full leaf that has the key already needs no room. */
function hasKey(node: Block, key: number): boolean {
  if (!isLeaf(node)) return false;
  const i = lowerBound(node, key);
  return i >= 0 && keyAt(node, i) === key;
}

/** The root keeps its address and becomes the parent of two new nodes that share its entries. */
function* splitBeneath(store: BlockStore, root: Block): Steps<void> {
  const left = yield* store.newBlock(NODE_KIND);
  const right = yield* store.newBlock(NODE_KIND);
  const count = entryCount(root);
  const half = Math.floor(count / 2);
  initLike(left, root);
  initLike(right, root);
  copyEntries(root, 0, { target: left, to: 0, count: half });
  setEntryCount(left, half);
  copyEntries(root, half, { target: right, to: 0, count: count - half });
  setEntryCount(right, count - half);
  initNode(root, { leaf: false, valueSize: CHILD_BYTES });
  setEntryCount(root, 2);
  setKey(root, 0, keyAt(left, 0));
  setKey(root, 1, keyAt(right, 0));
  setAddress(root, 0, left.number);
  setAddress(root, 1, right.number);
}

/** A full node and where it hangs. */
interface Crowded {
  parent: Block;
  index: number;
  node: Block;
}

/** Makes room in a node that is not a root; returns the node that has the range of the key now. */
function* makeRoom(place: Placing, crowded: Crowded): Steps<Block> {
  const { store, key } = place;
  const { parent, index, node } = crowded;
  const last = entryCount(parent) - 1;
  let isSiblingShared = false;
  if (index > 0) {
    const left = yield* sibling(place, crowded, index - 1);
    if (left === undefined) isSiblingShared = true;
    else if (freeSlots(left) >= SPACE_THRESHOLD) {
      const shadow = yield* shadowSibling(place, crowded, index - 1);
      redistribute2(shadow, node);
      setKey(parent, index, keyAt(node, 0));
      return key < keyAt(node, 0) ? shadow : node;
    }
  }
  if (index < last) {
    const right = yield* sibling(place, crowded, index + 1);
    if (right === undefined) isSiblingShared = true;
    else if (freeSlots(right) >= SPACE_THRESHOLD) {
      const shadow = yield* shadowSibling(place, crowded, index + 1);
      redistribute2(node, shadow);
      setKey(parent, index + 1, keyAt(shadow, 0));
      return key < keyAt(shadow, 0) ? node : shadow;
    }
  }
  if (isSiblingShared || last < 2 || index === 0 || index === last) return yield* splitInTwo(store, crowded, key);
  return yield* splitTwoInThree(place, crowded);
}

/** The sibling, for a look at how full it is; undefined if it is shared. */
function* sibling({ store, path }: Placing, { parent, node }: Crowded, index: number): Steps<Block | undefined> {
  const number = addressAt(parent, index);
  checkAddress(store, number, path);
  if (yield* store.isShared(number)) return undefined;
  const found = store.cached(number, NODE_KIND) ?? (yield* store.load(number, NODE_KIND, path.toString()));
  checkSiblings(node, found, path);
  return found;
}

function* shadowSibling({ store, type, path }: Placing, { parent }: Crowded, index: number): Steps<Block> {
  const number = addressAt(parent, index);
  const shadow = yield* shadowNode(store, { number, type, parent, index, path });
  setAddress(parent, index, shadow.number);
  return shadow;
}

function addChild(parent: Block, index: number, child: Block): void {
  setU64(parent.view, openSlot(parent, index, keyAt(child, 0)), child.number, true);
}

function* splitInTwo(store: BlockStore, { parent, index, node }: Crowded, key: number): Steps<Block> {
  const right = yield* store.newBlock(NODE_KIND);
  initLike(right, node);
  redistribute2(node, right);
  addChild(parent, index + 1, right);
  return key < keyAt(right, 0) ? node : right;
}

function* splitTwoInThree(place: Placing, crowded: Crowded): Steps<Block> {
  const { parent, index, node } = crowded;
  const left = yield* shadowSibling(place, crowded, index - 1);
  const middle = yield* place.store.newBlock(NODE_KIND);
  initLike(middle, left);
  const total = entryCount(left) + entryCount(node);
  const leftTarget = Math.floor(total / 3);
  redistribute3([left, middle, node], { leftTarget, centreTarget: Math.floor((total - leftTarget) / 2) });
  setKey(parent, index, keyAt(node, 0));
  addChild(parent, index, middle);
  if (place.key < keyAt(middle, 0)) return left;
  return place.key < keyAt(node, 0) ? middle : node;
}

/** Shadows the way to an existing key, for changing its value in place (single level). Undefined if the key is absent. */
export function* overwriteLeaf<V>(
  tree: TreeContext<V>,
  root: number,
  key: number,
): Steps<{ root: number; leaf: Block; index: number } | undefined> {
  const { store } = tree;
  const type = tree.type as ValueType<unknown>;
  const path = new TreePath(tree.name);
  let node = yield* shadowNode(store, { number: root, type, parent: undefined, index: 0, path });
  const newRoot = node.number;
  for (;;) {
    const index = lowerBound(node, key);
    if (index < 0) return undefined;
    if (isLeaf(node)) return keyAt(node, index) === key ? { root: newRoot, leaf: node, index } : undefined;
    const parent = node;
    path.push(parent.number, index);
    node = yield* shadowNode(store, { number: addressAt(parent, index), type, parent, index, path });
    setAddress(parent, index, node.number);
  }
}

/** Entries that a leaf of `tree` holds. */
export function leafCapacity<V>(tree: TreeContext<V>): number {
  return nodeCapacity(tree.type.codec.size);
}
