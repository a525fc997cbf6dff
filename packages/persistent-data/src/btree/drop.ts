/** Letting go of a whole tree: one count if it is shared, else everything that it alone owns. (Linux 6.12, dm_btree_del.) */
import { addressAt, CHILD_BYTES, entryCount, isLeaf, NODE_KIND } from "../format/node.ts";
import type { Block } from "../store/block.ts";
import { SAFE_POINT, type Steps } from "../store/steps.ts";
import { checkAddress, checkPlace, type TreeContext, TreePath, valuesOf } from "./tree-context.ts";

/** A node whose children are being dropped. */
interface Frame {
  node: Block;
  level: number;
  next: number;
}

/** Drops one holder of the tree at `root`. */
export function* dropTree<V>(tree: TreeContext<V>, root: number): Steps<void> {
  const { store, levels, type } = tree;
  const path = new TreePath(tree.name);
  const stack: Frame[] = [];
  yield* enter(tree, { stack, path }, { number: root, level: 0 });
  for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
    const { node, level } = frame;
    if (isLeaf(node) && level === levels - 1) {
      if (type.decrement !== undefined && entryCount(node) > 0) yield* type.decrement(valuesOf(node));
      frame.next = entryCount(node);
    }
    if (frame.next >= entryCount(node)) {
      stack.pop();
      if (stack.length > 0) path.pop();
      yield* store.decrement(node.number, node.number + 1);
      yield SAFE_POINT;
      continue;
    }
    const index = frame.next++;
    path.push(node.number, index);
    const below = { number: addressAt(node, index), level: isLeaf(node) ? level + 1 : level };
    if (!(yield* enter(tree, { stack, path }, below))) path.pop();
  }
}

/** Puts a node on the stack if its last holder is gone with this one. */
function* enter<V>(
  { store, levels, type }: TreeContext<V>,
  { stack, path }: { stack: Frame[]; path: TreePath },
  { number, level }: { number: number; level: number },
): Steps<boolean> {
  checkAddress(store, number, path);
  if ((yield* store.count(number)) > 1) {
    yield* store.decrement(number, number + 1);
    return false;
  }
  const node = store.cached(number, NODE_KIND) ?? (yield* store.load(number, NODE_KIND, path.toString()));
  const top = stack.at(-1);
  const isLowerRoot = top === undefined || top.level !== level;
  checkPlace(
    node,
    {
      size: level < levels - 1 ? CHILD_BYTES : type.codec.size,
      parent: isLowerRoot ? undefined : top.node,
      index: isLowerRoot ? 0 : top.next - 1,
    },
    path,
  );
  stack.push({ node, level, next: 0 });
  if (!isLeaf(node) || level < levels - 1) {
    const children: number[] = [];
    for (let i = 0; i < entryCount(node); i++) children.push(addressAt(node, i));
    store.prefetch(children);
  }
  return true;
}
