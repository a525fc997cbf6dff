/**
 * In-order walks over trees, for reading tools. Damage ends the walk with an error that names the path, or, where the
 * caller offers to hear of it, is told and left out.
 */
import { errorMessage } from "@vdo/base";
import { type MetadataReader, PREFETCH_MAX } from "./metadata-reader.ts";
import { childOf, damage, keyOf, type Node, parseNode } from "./node.ts";

/** A tree to walk. */
export interface TreePlace {
  root: number;
  /** Bytes of a value in its leaves. */
  valueSize: number;
  /** What it is, for errors: `details tree`. */
  name: string;
}

/** A range of keys that cannot be read; `end` is exclusive, infinite where nothing bounds it. */
export interface LostRange {
  block: number;
  begin: number;
  end: number;
  text: string;
}

/** What a walk meets. */
export interface TreeVisitor {
  leaf(node: Node): void;
  /** Damage is told here and passed over; without it, damage throws `VDO_CORRUPT`. */
  lost?(range: LostRange): void;
}

/** Nodes on the way from a root to a leaf. The kernel's cursors go as deep. */
export const DEPTH_MAX = 15;

/** Key bounds of a subtree: `low` inclusive, `high` exclusive. */
interface Bounds {
  low: number;
  high: number;
}

/** Calls `visitor.leaf` for each leaf, in the order of the keys. */
export async function walkTree(reader: MetadataReader, tree: TreePlace, visitor: TreeVisitor): Promise<void> {
  await walkNode({ reader, tree, visitor }, tree.root, { low: 0, high: Number.POSITIVE_INFINITY }, []);
}

interface Walk {
  reader: MetadataReader;
  tree: TreePlace;
  visitor: TreeVisitor;
}

async function walkNode(walk: Walk, block: number, bounds: Bounds, path: readonly number[]): Promise<void> {
  const node = await readNode(walk, block, bounds, path);
  if (typeof node === "string") {
    const { tree, visitor } = walk;
    if (visitor.lost === undefined) throw damage(`${tree.name}, node ${[...path, block].join(" > ")}`, node);
    visitor.lost({ block, begin: bounds.low, end: bounds.high, text: node });
    return;
  }
  if (node.isLeaf) {
    walk.visitor.leaf(node);
    return;
  }
  const below = [...path, block];
  for (let i = 0; i < node.count; i++) {
    if (i % PREFETCH_MAX === 0) await prefetchChildren(walk.reader, node, i);
    // The first key may be below the bound: removals leave it so.
    const low = Math.max(keyOf(node, i), bounds.low);
    const high = i + 1 < node.count ? keyOf(node, i + 1) : bounds.high;
    await walkNode(walk, childOf(node, i), { low, high }, below);
  }
}

async function prefetchChildren(reader: MetadataReader, node: Node, from: number): Promise<void> {
  const children: number[] = [];
  for (let i = from; i < Math.min(node.count, from + PREFETCH_MAX); i++) children.push(childOf(node, i));
  await reader.prefetch(children);
}

/** The node, or what is wrong with it. */
async function readNode(walk: Walk, block: number, bounds: Bounds, path: readonly number[]): Promise<Node | string> {
  const { reader, tree } = walk;
  if (path.length >= DEPTH_MAX) return `more than ${DEPTH_MAX} nodes deep (block ${block})`;
  if (block >= reader.blockCount) return `block out of bounds (${block} >= ${reader.blockCount})`;
  let bytes: Uint8Array;
  try {
    bytes = await reader.read(block);
  } catch (error) {
    return `cannot be read (block ${block}): ${errorMessage(error)}`;
  }
  const node = parseNode(bytes, block, tree.valueSize);
  if (typeof node === "string" || node.count === 0) return node;
  const first = keyOf(node, 0);
  const last = keyOf(node, node.count - 1);
  if (path.length > 0 && first < bounds.low) {
    return `parent key mismatch: parent was ${bounds.low}, but lowest in node was ${first} (block ${block})`;
  }
  if (last >= bounds.high) return `key ${last} belongs to the next node, from ${bounds.high} (block ${block})`;
  return node;
}
