/**
 * Walks trees for the checker: each node is judged once however often it is shared, each pointer to it is counted.
 *
 * A subtree that was seen is remembered by its summary, so that a pool of a thousand snapshots costs what one costs.
 */
import { errorMessage } from "@vdo/base";
import type { CheckLog } from "./check-log.ts";
import { type MetadataReader, PREFETCH_MAX } from "./metadata-reader.ts";
import { childOf, keyOf, type Node, nodeCapacity, parseNode } from "./node.ts";
import { DEPTH_MAX } from "./tree-walk.ts";

/** What is known of a subtree. */
export interface Subtree {
  /** Entries in its leaves, as far as they could be read. */
  entries: number;
  /** First and last key; `low` is above `high` when it is empty or unreadable. */
  low: number;
  high: number;
  /** Nodes to its leaves; 0 when it cannot be read. */
  depth: number;
  /** Nodes that could not be read. */
  faults: number;
}

/** A kind of tree, and what is done with its leaves. */
export interface TreeKind {
  /** Trees of one kind may share nodes. */
  kind: string;
  /** For texts: `mappings of device 3`. */
  name: string;
  valueSize: number;
  /** Called once for each leaf, shared or not. */
  leaf(node: Node): void;
}

const UNREADABLE: Subtree = { entries: 0, low: 0, high: -1, depth: 0, faults: 1 };
const OPEN = Symbol("being visited");

/** Counts the pointers to metadata blocks. */
export class TreeChecker {
  readonly #reader: MetadataReader;
  readonly #log: CheckLog;
  readonly #seen = new Map<string, Subtree | typeof OPEN>();
  /** Pointers found, by metadata block. */
  readonly counts: Uint32Array;

  constructor(reader: MetadataReader, log: CheckLog, blockCount: number) {
    this.#reader = reader;
    this.#log = log;
    this.counts = new Uint32Array(blockCount);
  }

  /** Counts a pointer to `block`; false, and told, when it lies outside. */
  point(block: number, name: string): boolean {
    if (block >= this.counts.length) {
      this.#log.fatal(name, `block out of bounds (${block} >= ${this.counts.length})`);
      return false;
    }
    this.counts[block] = (this.counts[block] as number) + 1;
    return true;
  }

  /** Counts the pointer to `root` and judges what is below. */
  async tree(root: number, kind: TreeKind): Promise<Subtree> {
    return this.#visit(root, kind, []);
  }

  /** What is known of the tree of `kind` at `root`; nothing is counted. */
  known(root: number, kind: string): Subtree {
    const found = this.#seen.get(`${kind} ${root}`);
    return found === undefined || found === OPEN ? UNREADABLE : found;
  }

  async #visit(block: number, kind: TreeKind, path: readonly number[]): Promise<Subtree> {
    if (!this.point(block, this.#place(kind, path))) return UNREADABLE;
    const key = `${kind.kind} ${block}`;
    const known = this.#seen.get(key);
    if (known === OPEN || path.length >= DEPTH_MAX) {
      this.#log.fatal(this.#place(kind, path), `more than ${DEPTH_MAX} nodes deep, or in a circle (block ${block})`);
      return UNREADABLE;
    }
    if (known !== undefined) return known;
    this.#seen.set(key, OPEN);
    const subtree = await this.#judge(block, kind, path);
    this.#seen.set(key, subtree);
    return subtree;
  }

  async #judge(block: number, kind: TreeKind, path: readonly number[]): Promise<Subtree> {
    const place = this.#place(kind, path);
    const node = await this.#node(block, kind);
    if (typeof node === "string") {
      this.#log.fatal(place, node);
      return UNREADABLE;
    }
    const standard = nodeCapacity(node.valueSize);
    if (node.capacity !== standard) {
      this.#log.warning(place, `max entries ${node.capacity}, usual is ${standard} (block ${block})`);
    }
    const least = Math.floor(node.capacity / 3);
    if (path.length > 0 && node.count < least) {
      const text = `too few entries in btree_node: ${node.count}, expected at least ${least} (block ${block}, max_entries = ${node.capacity})`;
      this.#log.nonFatal(place, text);
    }
    if (!node.isLeaf) return this.#children(node, kind, [...path, block]);
    kind.leaf(node);
    if (node.count === 0) return { entries: 0, low: 0, high: -1, depth: 1, faults: 0 };
    return { entries: node.count, low: keyOf(node, 0), high: keyOf(node, node.count - 1), depth: 1, faults: 0 };
  }

  async #children(node: Node, kind: TreeKind, path: readonly number[]): Promise<Subtree> {
    const whole: Subtree = { entries: 0, low: keyOf(node, 0), high: -1, depth: 0, faults: 0 };
    for (let i = 0; i < node.count; i++) {
      if (i % PREFETCH_MAX === 0) await this.#prefetch(node, i);
      const child = await this.#visit(childOf(node, i), kind, path);
      whole.entries += child.entries;
      whole.faults += child.faults;
      if (child.depth === 0) continue;
      if (child.low <= child.high) this.#judgeBounds(node, i, child, this.#place(kind, path));
      if (whole.depth !== 0 && whole.depth !== child.depth) {
        this.#log.fatal(this.#place(kind, path), `leaves at different depths (block ${childOf(node, i)})`);
      }
      whole.depth = child.depth;
      whole.high = Math.max(whole.high, child.high);
    }
    whole.depth += 1;
    return whole;
  }

  #judgeBounds(node: Node, index: number, child: Subtree, place: string): void {
    const block = childOf(node, index);
    const parent = keyOf(node, index);
    if (child.low < parent) {
      this.#log.fatal(
        place,
        `parent key mismatch: parent was ${parent}, but lowest in node was ${child.low} (block ${block})`,
      );
    }
    if (index + 1 < node.count && child.high >= keyOf(node, index + 1)) {
      const next = keyOf(node, index + 1);
      this.#log.fatal(place, `key ${child.high} belongs to the next node, from ${next} (block ${block})`);
    }
  }

  async #node(block: number, kind: TreeKind): Promise<Node | string> {
    if (block >= this.#reader.blockCount) return `block out of bounds (${block} >= ${this.#reader.blockCount})`;
    try {
      return parseNode(await this.#reader.read(block), block, kind.valueSize);
    } catch (error) {
      return `cannot be read (block ${block}): ${errorMessage(error)}`;
    }
  }

  async #prefetch(node: Node, from: number): Promise<void> {
    const children: number[] = [];
    for (let i = from; i < Math.min(node.count, from + PREFETCH_MAX); i++) children.push(childOf(node, i));
    await this.#reader.prefetch(children);
  }

  #place(kind: TreeKind, path: readonly number[]): string {
    return path.length === 0 ? kind.name : `${kind.name}, below ${path.join(" > ")}`;
  }
}
