/**
 * Looks through every block of a metadata device for roots of earlier states: what a commit replaced stays where it was until
 * it is used again. The outline is that of thin_repair 1.x; what is compared is the content, never the space maps.
 *
 *     details leaf (values of 24 bytes)      device → details
 *     top-level leaf (values of 8 bytes)     device → root of its mappings
 *     mapping leaf (values of 8 bytes)       virtual block → data block, time
 *     internal node                          of the kind of its children
 */
import { DEVICE_ID_MAX } from "../constants.ts";
import { type DeviceDetails, deviceDetails } from "../format/device-details.ts";
import { mappingBlock, mappingTime } from "../format/mapping.ts";
import { decodeSuperblock, isSuperblockIntact, type ThinSuperblock } from "../format/superblock.ts";
import type { MetadataReader } from "./metadata-reader.ts";
import { blockFault, childOf, keyOf, NODE_SALT, type Node, parseNode, valueAt } from "./node.ts";
import { DEPTH_MAX } from "./tree-walk.ts";

/** What a whole subtree of mappings holds. */
interface Mapped {
  count: number;
  /** Highest data block; -1 when there is none. */
  highest: number;
  /** Mappings by time. */
  ages: ReadonlyMap<number, number>;
  first: number;
  last: number;
}

/** A whole tree device → something. */
interface DeviceTree<T> {
  root: number;
  entries: ReadonlyMap<number, T>;
}

/** A state that can be gone back to. */
export interface FoundState {
  mappingRoot: number;
  /** Undefined where no details fit: all mappings then count as shared. */
  detailsRoot: number | undefined;
  roots: ReadonlyMap<number, number>;
  details: ReadonlyMap<number, DeviceDetails>;
  /** The latest time that occurs. */
  time: number;
  /** The largest transaction id that occurs; 0 without details. */
  transactionId: bigint;
  /** Data blocks that must be there at least. */
  dataBlocks: number;
}

/** What a search found. */
export interface Search {
  /** Best first. */
  states: FoundState[];
  /** The newest intact superblock of a metadata snapshot, present or past. */
  superblock: ThinSuperblock | undefined;
}

export class RootSearch {
  readonly #blocks: MetadataReader;
  readonly #mapped = new Map<number, Mapped | undefined>();
  /** Nodes whose checksum and address are right, by what their leaves may be. */
  readonly #smallNodes: number[] = [];
  readonly #detailNodes: number[] = [];
  #superblock: ThinSuperblock | undefined;

  constructor(blocks: MetadataReader) {
    this.#blocks = blocks;
  }

  /** Reads the whole device. */
  async run(): Promise<Search> {
    await this.#sortBlocks();
    const tops = await this.#trees(this.#smallNodes, (node, at) => this.#deviceRoot(node, at), 8);
    const details = await this.#trees(
      this.#detailNodes,
      async (node, at) => deviceDetails.get(node.view, valueAt(node, at)),
      deviceDetails.size,
    );
    const states: FoundState[] = [];
    for (const top of tops) states.push(await this.#state(top, details));
    return { states: await this.#ranked(states), superblock: this.#superblock };
  }

  async #sortBlocks(): Promise<void> {
    for (let block = 1; block < this.#blocks.blockCount; block++) {
      if (block % 64 === 1) {
        await this.#blocks.prefetch(Array.from({ length: 64 }, (_, i) => block + i));
      }
      const bytes = await this.#blocks.read(block).catch(() => undefined);
      if (bytes === undefined) continue;
      if (isSuperblockIntact(bytes)) this.#noteSuperblock(bytes, block);
      else if (blockFault(bytes, block, NODE_SALT) === undefined) this.#noteNode(bytes, block);
    }
  }

  #noteSuperblock(bytes: Uint8Array, block: number): void {
    try {
      const found = decodeSuperblock(bytes, block);
      if (this.#superblock === undefined || found.time >= this.#superblock.time) this.#superblock = found;
    } catch {
      // Of something else with the same sum, or moved.
    }
  }

  #noteNode(bytes: Uint8Array, block: number): void {
    // An internal node shows nothing of its leaves: it is tried as both.
    if (typeof parseNode(bytes, block, 8) !== "string") this.#smallNodes.push(block);
    if (typeof parseNode(bytes, block, deviceDetails.size) !== "string") this.#detailNodes.push(block);
  }

  async #node(block: number, valueSize: number): Promise<Node | undefined> {
    if (block <= 0 || block >= this.#blocks.blockCount) return undefined;
    const bytes = await this.#blocks.read(block).catch(() => undefined);
    const node = bytes === undefined ? "unreadable" : parseNode(bytes, block, valueSize);
    return typeof node === "string" ? undefined : node;
  }

  // #region Mappings

  /** What the tree of mappings at `block` holds, if all of it is whole. */
  async #mappings(block: number, depth = 0): Promise<Mapped | undefined> {
    if (this.#mapped.has(block)) return this.#mapped.get(block);
    // While it is looked at it counts as none, so a way that leads back to it ends.
    this.#mapped.set(block, undefined);
    const node = depth < DEPTH_MAX ? await this.#node(block, 8) : undefined;
    const found = node === undefined ? undefined : await (node.isLeaf ? leafOf(node) : this.#internal(node, depth));
    this.#mapped.set(block, found);
    return found;
  }

  async #internal(node: Node, depth: number): Promise<Mapped | undefined> {
    let [count, highest] = [0, -1];
    const ages = new Map<number, number>();
    let last = -1;
    let first = Number.POSITIVE_INFINITY;
    for (let i = 0; i < node.count; i++) {
      const child = await this.#mappings(childOf(node, i), depth + 1);
      const high = i + 1 < node.count ? keyOf(node, i + 1) : Number.POSITIVE_INFINITY;
      if (child === undefined || child.count === 0) return undefined;
      if (child.first < keyOf(node, i) || child.first <= last || child.last >= high) return undefined;
      count += child.count;
      highest = Math.max(highest, child.highest);
      for (const [time, number] of child.ages) ages.set(time, (ages.get(time) ?? 0) + number);
      first = Math.min(first, child.first);
      last = child.last;
    }
    return { count, highest, ages, first, last };
  }

  /** The value of a top-level leaf, if it leads to a whole tree of mappings. */
  async #deviceRoot(node: Node, at: number): Promise<number | undefined> {
    const root = childOf(node, at);
    return (await this.#mappings(root)) === undefined ? undefined : root;
  }
  // #endregion
  // #region Trees of devices

  /** The trees device → value that are whole, and part of no other. */
  async #trees<T>(
    candidates: readonly number[],
    read: (node: Node, at: number) => Promise<T | undefined>,
    valueSize: number,
  ): Promise<DeviceTree<T>[]> {
    const found = new Map<number, Map<number, T>>();
    const children = new Set<number>();
    const seen = new Set<number>();
    const tree = async (block: number, depth: number): Promise<Map<number, T> | undefined> => {
      const known = found.get(block);
      if (known !== undefined) return known;
      if (seen.has(block) || depth >= DEPTH_MAX) return undefined;
      seen.add(block);
      const node = await this.#node(block, valueSize);
      if (node === undefined) return undefined;
      const entries = new Map<number, T>();
      for (let i = 0; i < node.count; i++) {
        const key = keyOf(node, i);
        if (key > DEVICE_ID_MAX) return undefined;
        if (node.isLeaf) {
          const value = await read(node, i);
          if (value === undefined) return undefined;
          entries.set(key, value);
          continue;
        }
        const child = await tree(childOf(node, i), depth + 1);
        if (child === undefined || child.size === 0) return undefined;
        for (const [id, value] of child) entries.set(id, value);
      }
      if (!node.isLeaf) for (let i = 0; i < node.count; i++) children.add(childOf(node, i));
      found.set(block, entries);
      return entries;
    };
    for (const block of candidates) await tree(block, 0);
    return [...found].filter(([root]) => !children.has(root)).map(([root, entries]) => ({ root, entries }));
  }
  // #endregion
  // #region States

  /** The top level with the details that fit it best: the same devices, with as many mappings each. */
  async #state(top: DeviceTree<number>, details: readonly DeviceTree<DeviceDetails>[]): Promise<FoundState> {
    const counts = new Map<number, number>();
    let [time, highest] = [0, -1];
    for (const [id, root] of top.entries) {
      const mapped = (await this.#mappings(root)) as Mapped;
      counts.set(id, mapped.count);
      highest = Math.max(highest, mapped.highest);
      for (const age of mapped.ages.keys()) time = Math.max(time, age);
    }
    let best: { tree: DeviceTree<DeviceDetails>; latest: number; transactionId: bigint } | undefined;
    for (const tree of details) {
      if (tree.entries.size !== counts.size) continue;
      let [fits, latest, transactionId] = [true, 0, 0n];
      for (const [id, entry] of tree.entries) {
        fits &&= counts.get(id) === entry.mappedBlocks;
        latest = Math.max(latest, entry.snapshottedTime, entry.creationTime);
        if (entry.transactionId > transactionId) transactionId = entry.transactionId;
      }
      if (fits && (best === undefined || latest > best.latest)) best = { tree, latest, transactionId };
    }
    return {
      mappingRoot: top.root,
      detailsRoot: best?.tree.root,
      roots: top.entries,
      details: best?.tree.entries ?? new Map(),
      time: Math.max(time, best?.latest ?? 0),
      transactionId: best?.transactionId ?? 0n,
      dataBlocks: highest + 1,
    };
  }

  /** With details before those without; then by the number of the newest mappings, as thin_repair compares; no empty one wins. */
  async #ranked(states: FoundState[]): Promise<FoundState[]> {
    const ages = new Map<FoundState, Map<number, number>>();
    for (const state of states) {
      const all = new Map<number, number>();
      for (const root of state.roots.values()) {
        for (const [time, count] of (await this.#mappings(root))?.ages ?? []) {
          all.set(time, (all.get(time) ?? 0) + count);
        }
      }
      ages.set(state, all);
    }
    const rank = (a: FoundState, b: FoundState): number => {
      const paired = Number(b.detailsRoot !== undefined) - Number(a.detailsRoot !== undefined);
      const [left, right] = [ages.get(a), ages.get(b)] as [Map<number, number>, Map<number, number>];
      return paired || byNewest(left, right) || b.time - a.time || b.roots.size - a.roots.size;
    };
    return states.sort(rank);
  }
  // #endregion
}

/** Positive when `b` has more of the newest. */
function byNewest(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): number {
  const times = [...new Set([...a.keys(), ...b.keys()])].sort((x, y) => y - x);
  for (const time of times) {
    const difference = (b.get(time) ?? 0) - (a.get(time) ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function leafOf(node: Node): Mapped {
  const ages = new Map<number, number>();
  let highest = -1;
  for (let i = 0; i < node.count; i++) {
    const at = valueAt(node, i);
    highest = Math.max(highest, mappingBlock(node.view, at));
    const time = mappingTime(node.view, at);
    ages.set(time, (ages.get(time) ?? 0) + 1);
  }
  const [first, last] = node.count === 0 ? [0, -1] : [keyOf(node, 0), keyOf(node, node.count - 1)];
  return { count: node.count, highest, ages, first, last };
}
