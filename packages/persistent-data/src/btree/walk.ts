/**
 * Walking a whole single-level tree, with every check a tree can be held to: for checkers, dumps and rescues.
 *
 * Damage is reported with the keys that are lost by it, and the walk goes on beside it. Nothing is ever followed in a circle:
 * depth is bounded, and no node is its own ancestor.
 */
import { isVdoError, type VdoError } from "@vdo/base";
import { corrupt } from "../errors.ts";
import { addressAt, entriesMax, entryCount, isLeaf, keyAt, NODE_KIND, valueOffset } from "../format/node.ts";
import type { Block } from "../store/block.ts";
import { SAFE_POINT, type Steps } from "../store/steps.ts";
import { checkAddress, checkPlace, type TreeContext, TreePath } from "./tree-context.ts";

/** Keys of `from` to `to`, both included. */
export interface KeyRange {
  from: number;
  to: number;
}

/** What is called on the way. All are optional. */
export interface TreeVisitor {
  /** Before a node is read, for each pointer to it. False: do not go into it (it was seen before). */
  node?(number: number): boolean;
  /** Each entry of the leaves, in order. Read the value at `at`; read only. */
  entry?(key: number, value: { view: DataView; at: number }): void;
  /** A node that is not as it must be, or cannot be read, and the keys that are lost with it. Without it, it is thrown. */
  damage?(error: VdoError, lost: KeyRange): void;
  /** A node, not the root, that holds less than a third of what it could. Legal, but no healthy program leaves many. */
  underfull?(number: number, count: number): void;
}

interface Frame {
  node: Block;
  next: number;
  /** Greatest key that may be below the node. */
  to: number;
}

/** State of one walk. */
interface Walk {
  tree: TreeContext<unknown>;
  visitor: TreeVisitor;
  path: TreePath;
  stack: Frame[];
  /** Frames on the stack where leaves are; unknown until the first leaf. */
  leafDepth: number;
}

/** Walks the tree at `root`. Upper levels of a map of maps are walked as single-level trees of addresses. */
export function* walkTree<V>(tree: TreeContext<V>, root: number, visitor: TreeVisitor): Steps<void> {
  const path = new TreePath(tree.name);
  const walk: Walk = { tree: tree as TreeContext<unknown>, visitor, path, stack: [], leafDepth: -1 };
  yield* enter(walk, root, { from: 0, to: Number.MAX_SAFE_INTEGER });
  for (let frame = walk.stack.at(-1); frame !== undefined; frame = walk.stack.at(-1)) {
    const { node } = frame;
    if (isLeaf(node) || frame.next >= entryCount(node)) {
      walk.stack.pop();
      if (walk.stack.length > 0) path.pop();
      yield SAFE_POINT;
      continue;
    }
    const index = frame.next++;
    const to = index + 1 < entryCount(node) ? keyAt(node, index + 1) - 1 : frame.to;
    path.push(node.number, index);
    if (!(yield* enter(walk, addressAt(node, index), { from: keyAt(node, index), to }))) path.pop();
  }
}

/** Looks at a node; true if it is on the stack now. */
function* enter(walk: Walk, number: number, range: KeyRange): Steps<boolean> {
  const { tree, visitor, path, stack } = walk;
  try {
    checkAddress(tree.store, number, path);
    if (visitor.node?.(number) === false) return false;
    const node = tree.store.cached(number, NODE_KIND) ?? (yield* tree.store.load(number, NODE_KIND, path.toString()));
    const parent = stack.at(-1);
    checkPlace(node, { size: tree.type.codec.size, parent: parent?.node, index: (parent?.next ?? 1) - 1 }, path);
    checkDepth(walk, node);
    const count = entryCount(node);
    if (parent !== undefined && count < entriesMax(node) / 3) visitor.underfull?.(number, count);
    stack.push({ node, next: 0, to: range.to });
    if (isLeaf(node)) visitEntries(walk, node);
    else prefetchChildren(walk, node);
    return true;
  } catch (error) {
    if (visitor.damage === undefined || !isDamage(error)) throw error;
    visitor.damage(error, range);
    return false;
  }
}

function isDamage(error: unknown): error is VdoError {
  return isVdoError(error, "VDO_CORRUPT") || isVdoError(error, "VDO_IO");
}

function checkDepth(walk: Walk, node: Block): void {
  if (!isLeaf(node)) return;
  const depth = walk.stack.length;
  if (walk.leafDepth < 0) walk.leafDepth = depth;
  if (depth === walk.leafDepth) return;
  const place = `${walk.path}: block ${node.number}`;
  throw corrupt(place, "depth of the leaf", { expected: walk.leafDepth, actual: depth });
}

function visitEntries({ visitor }: Walk, node: Block): void {
  if (visitor.entry === undefined) return;
  const count = entryCount(node);
  for (let i = 0; i < count; i++) visitor.entry(keyAt(node, i), { view: node.view, at: valueOffset(node, i) });
}

function prefetchChildren({ tree }: Walk, node: Block): void {
  const children: number[] = [];
  for (let i = 0; i < entryCount(node); i++) children.push(addressAt(node, i));
  tree.store.prefetch(children);
}
