/**
 * Removal, with the kernel's policy: at every internal node on the way the children around the key are rebalanced, whether
 * they are nearly empty or not. (Linux 6.12, dm-btree-remove.)
 */
import {
  addressAt,
  copyEntries,
  deleteEntry,
  entriesMax,
  entryCount,
  isLeaf,
  keyAt,
  lowerBound,
  NODE_KIND,
  setAddress,
  setEntryCount,
  setKey,
  shiftEntries,
  valueOffset,
  valueSize,
} from "../format/node.ts";
import type { Block } from "../store/block.ts";
import type { Steps } from "../store/steps.ts";
import { redistribute2, redistribute3 } from "./redistribute.ts";
import {
  addressType,
  type BlockStore,
  checkAddress,
  checkSiblings,
  checkSort,
  incrementChildren,
  shadowNode,
  type TreeContext,
  TreePath,
  type ValueType,
} from "./tree-context.ts";

/** One level's descent. */
interface Removing {
  store: BlockStore;
  type: ValueType<unknown>;
  key: number;
  path: TreePath;
  /** Take the entry before an absent key too. */
  nearest: boolean;
  /** Address of the shadowed root, once it is known. */
  root: number;
}

interface Slot {
  leaf: Block;
  index: number;
}

/** Removes an entry of the last level. The new root is valid also when the key was not there. */
export function* removeEntry<V>(
  tree: TreeContext<V>,
  root: number,
  keys: readonly number[],
): Steps<{ root: number; removed: boolean }> {
  const { root: newRoot, slot } = yield* descendLevels(tree, root, { keys, nearest: false });
  if (slot === undefined) return { root: newRoot, removed: false };
  yield* dropEntry(tree.type, slot);
  return { root: newRoot, removed: true };
}

/**
 * Removes the run of keys that starts at the last of `keys` and has no gap, up to but not including `end`. `next` is the
 * first key that was not removed.
 */
export function* removeRun<V>(
  tree: TreeContext<V>,
  root: number,
  { keys, end }: { keys: readonly number[]; end: number },
): Steps<{ root: number; removed: number; next: number }> {
  const way = [...keys];
  let current = root;
  let removed = 0;
  for (;;) {
    const { root: newRoot, slot } = yield* descendLevels(tree, current, { keys: way, nearest: true });
    current = newRoot;
    const key = way[way.length - 1] as number;
    if (slot === undefined || slot.index >= entryCount(slot.leaf)) return { root: current, removed, next: key };
    const found = keyAt(slot.leaf, slot.index);
    if (found < key || found >= end) return { root: current, removed, next: key };
    yield* dropEntry(tree.type, slot);
    removed++;
    way[way.length - 1] = found + 1;
  }
}

function* dropEntry<V>(type: ValueType<V>, { leaf, index }: Slot): Steps<void> {
  if (type.decrement !== undefined) {
    yield* type.decrement({ view: leaf.view, at: valueOffset(leaf, index), count: 1 });
  }
  deleteEntry(leaf, index);
}

function* descendLevels<V>(
  tree: TreeContext<V>,
  root: number,
  { keys, nearest }: { keys: readonly number[]; nearest: boolean },
): Steps<{ root: number; slot: Slot | undefined }> {
  const { store, levels } = tree;
  const path = new TreePath(tree.name);
  let newRoot = -1;
  let next = root;
  let slot: Slot | undefined;
  for (let level = 0; level < levels; level++) {
    const isLast = level === levels - 1;
    const type = (isLast ? tree.type : addressType(store)) as ValueType<unknown>;
    const state: Removing = { store, type, key: keys[level] as number, path, nearest: nearest && isLast, root: -1 };
    slot = yield* descend(state, next, slot);
    if (newRoot < 0) newRoot = state.root;
    if (slot === undefined) break;
    if (!isLast) {
      next = addressAt(slot.leaf, slot.index);
      path.push(slot.leaf.number, slot.index);
    }
  }
  return { root: newRoot, slot };
}

/** Goes down one level to the leaf of the key; undefined if the key is not there. */
function* descend(state: Removing, root: number, from: Slot | undefined): Steps<Slot | undefined> {
  const { store, type, key, path } = state;
  let parent = from?.leaf;
  let index = from?.index ?? 0;
  let number = root;
  let pushed = 0;
  for (;;) {
    const above = pushed === 0 ? undefined : parent;
    const node = yield* shadowNode(store, { number, type, parent: above, index, path });
    if (parent !== undefined) setAddress(parent, index, node.number);
    if (state.root < 0) state.root = node.number;
    const isThere = isLeaf(node) || (yield* rebalanceChildren(state, node));
    if (isLeaf(node)) {
      for (; pushed > 0; pushed--) path.pop();
      return slotOf(state, node);
    }
    index = isThere ? lowerBound(node, key) : -1;
    if (index < 0) return undefined;
    path.push(node.number, index);
    pushed++;
    parent = node;
    number = addressAt(node, index);
  }
}

function slotOf({ key, nearest }: Removing, leaf: Block): Slot | undefined {
  const index = lowerBound(leaf, key);
  if (nearest) return { leaf, index: Math.max(index, 0) };
  return index >= 0 && keyAt(leaf, index) === key ? { leaf, index } : undefined;
}

/** False when the key is smaller than everything below `node`. */
function* rebalanceChildren(state: Removing, node: Block): Steps<boolean> {
  const count = entryCount(node);
  if (count === 1) {
    yield* collapse(state, node);
    return true;
  }
  const index = lowerBound(node, state.key);
  if (index < 0) return false;
  if (index === 0) yield* rebalance2(state, node, 0);
  else if (index === count - 1) yield* rebalance2(state, node, index - 1);
  else yield* rebalance3(state, node, index - 1);
  return true;
}

/** A node with one child takes over the child's content; its address stays. */
function* collapse({ store, type, path }: Removing, node: Block): Steps<void> {
  const number = addressAt(node, 0);
  path.push(node.number, 0);
  checkAddress(store, number, path);
  const child = store.cached(number, NODE_KIND) ?? (yield* store.load(number, NODE_KIND, path.toString()));
  checkSort(child, { size: isLeaf(child) ? type.codec.size : valueSize(child), max: entriesMax(child) }, path);
  path.pop();
  if (yield* store.isShared(number)) yield* incrementChildren(store, child, type);
  node.bytes.set(child.bytes);
  yield* store.decrement(number, number + 1);
}

function* takePart({ store, type, path }: Removing, node: Block, index: number): Steps<Block> {
  path.push(node.number, index);
  const child = yield* shadowNode(store, { number: addressAt(node, index), type, parent: node, index, path });
  path.pop();
  setAddress(node, index, child.number);
  return child;
}

function* rebalance2(state: Removing, node: Block, index: number): Steps<void> {
  const left = yield* takePart(state, node, index);
  const right = yield* takePart(state, node, index + 1);
  checkSiblings(left, right, state.path);
  yield* rebalancePair(state.store, node, { left, right, rightIndex: index + 1 });
}

/** Joins two siblings if they fit well into one node, else halves their entries. */
function* rebalancePair(
  store: BlockStore,
  node: Block,
  { left, right, rightIndex }: { left: Block; right: Block; rightIndex: number },
): Steps<void> {
  const leftCount = entryCount(left);
  const rightCount = entryCount(right);
  const threshold = 2 * (Math.floor(entriesMax(left) / 3) + 1);
  if (leftCount + rightCount < threshold) {
    copyEntries(right, 0, { target: left, to: leftCount, count: rightCount });
    setEntryCount(left, leftCount + rightCount);
    deleteEntry(node, rightIndex);
    yield* store.decrement(right.number, right.number + 1);
    return;
  }
  redistribute2(left, right);
  setKey(node, rightIndex, keyAt(right, 0));
}

function* rebalance3(state: Removing, node: Block, index: number): Steps<void> {
  const { store, path } = state;
  const left = yield* takePart(state, node, index);
  const centre = yield* takePart(state, node, index + 1);
  const right = yield* takePart(state, node, index + 2);
  checkSiblings(left, centre, path);
  checkSiblings(left, right, path);
  const total = entryCount(left) + entryCount(centre) + entryCount(right);
  const third = Math.floor(entriesMax(left) / 3);
  if (total < 4 * third + 1) {
    yield* dissolve(store, node, { left, centre, right, index });
    return;
  }
  const rightTarget = Math.floor(total / 3);
  const leftTarget = rightTarget + (total % 3 === 0 ? 0 : 1);
  redistribute3([left, centre, right], { leftTarget, centreTarget: total - leftTarget - rightTarget });
  setKey(node, index + 1, keyAt(centre, 0));
  setKey(node, index + 2, keyAt(right, 0));
}

/** The centre's entries go to its neighbours, which are then balanced. */
function* dissolve(
  store: BlockStore,
  node: Block,
  { left, centre, right, index }: { left: Block; centre: Block; right: Block; index: number },
): Steps<void> {
  const leftCount = entryCount(left);
  const centreCount = entryCount(centre);
  const toLeft = Math.min(entriesMax(left) - leftCount, centreCount);
  copyEntries(centre, 0, { target: left, to: leftCount, count: toLeft });
  setEntryCount(left, leftCount + toLeft);
  const toRight = centreCount - toLeft;
  if (toRight > 0) {
    shiftEntries(right, toRight);
    copyEntries(centre, toLeft, { target: right, to: 0, count: toRight });
  }
  setKey(node, index + 2, keyAt(right, 0));
  deleteEntry(node, index + 1);
  yield* store.decrement(centre.number, centre.number + 1);
  yield* rebalancePair(store, node, { left, right, rightIndex: index + 1 });
}
