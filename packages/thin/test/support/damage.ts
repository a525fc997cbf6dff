/** Ways to damage a pool's metadata, each with the sums made right again unless the damage is a flipped bit. */
import { viewOf } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { blockChecksum, SUPERBLOCK_SALT } from "../../src/format/superblock.ts";
import { deviceDetails, PoolReader, SECTOR_BYTES, thinSuperblock } from "../../src/index.ts";
import { setBitmapCount } from "../../src/tools/bitmap.ts";
import { BITMAP_SALT, childOf, INDEX_SALT, NODE_SALT, type Node, parseNode, valueAt } from "../../src/tools/node.ts";
import { dataBitmaps, metadataBitmaps } from "../../src/tools/space-map-reader.ts";
import { lifeMetadata } from "./golden.ts";

const BLOCK = 8 * SECTOR_BYTES;

/** Addresses in the pool of golden/life.sh. */
export interface Places {
  mappings: number;
  details: number;
  /** Roots of devices by id. */
  roots: Map<number, number>;
  /** Leaves of device 11 (of a snapshot), of which device 10 shares some. */
  leaves: number[];
  dataIndex: number;
  dataOverflow: number;
  dataBitmap: number;
  metadataIndex: number;
  metadataBitmap: number;
  metadataOverflow: number;
  held: number;
}

/** An image under the knife. */
export class Surgery {
  image: Uint8Array;
  readonly at: Places;

  private constructor(image: Uint8Array, at: Places) {
    this.image = image;
    this.at = at;
  }

  static async begin(): Promise<Surgery> {
    const image = lifeMetadata();
    const pool = await PoolReader.open(MemoryDevice.from(image));
    const { dataSpaceMap, metadataSpaceMap, mappingRoot, detailsRoot, heldRoot } = pool.superblock;
    const roots = await pool.roots();
    const internal = parseNode(await pool.blocks.read(roots.get(11) as number), roots.get(11) as number, 8) as Node;
    const leaves = Array.from({ length: internal.count }, (_, i) => childOf(internal, i));
    return new Surgery(image, {
      mappings: mappingRoot,
      details: detailsRoot,
      roots,
      leaves,
      dataIndex: dataSpaceMap.bitmapRoot,
      dataOverflow: dataSpaceMap.overflowRoot,
      dataBitmap: (await dataBitmaps(pool.blocks, dataSpaceMap))[0] as number,
      metadataIndex: metadataSpaceMap.bitmapRoot,
      metadataBitmap: (await metadataBitmaps(pool.blocks, metadataSpaceMap))[0] as number,
      metadataOverflow: metadataSpaceMap.overflowRoot,
      held: heldRoot,
    });
  }

  root(id: number): number {
    return this.at.roots.get(id) as number;
  }

  block(number: number): Uint8Array {
    return this.image.subarray(number * BLOCK, (number + 1) * BLOCK);
  }

  /** Flips a bit in the middle of the block; the sum is wrong then. */
  flip(number: number): void {
    const block = this.block(number);
    block[2100] = (block[2100] as number) ^ 4;
  }

  seal(number: number, salt: number): void {
    const block = this.block(number);
    viewOf(block).setUint32(0, blockChecksum(block, salt), true);
  }

  superblock(change: (view: DataView, at: typeof thinSuperblock.at) => void, number = 0): void {
    change(viewOf(this.block(number)), thinSuperblock.at);
    this.seal(number, SUPERBLOCK_SALT);
  }

  node(number: number, valueSize: number, change: (view: DataView, node: Node) => void): void {
    const node = parseNode(this.block(number).slice(), number, valueSize) as Node;
    change(viewOf(this.block(number)), node);
    this.seal(number, NODE_SALT);
  }

  count(bitmap: number, entry: number, count: number): void {
    setBitmapCount(this.block(bitmap), entry, count);
    this.seal(bitmap, BITMAP_SALT);
  }

  /** Bytes of an index entry of the metadata map (in its block) or of the data map (in its leaf). */
  index(kind: "data" | "metadata", change: (view: DataView, at: number) => void): void {
    if (kind === "data") this.node(this.at.dataIndex, 16, (view, node) => change(view, valueAt(node, 0)));
    else {
      change(viewOf(this.block(this.at.metadataIndex)), 16);
      this.seal(this.at.metadataIndex, INDEX_SALT);
    }
  }
}

/** Removes entry `index` of a leaf. */
function removeEntry(view: DataView, node: Node, index: number): void {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  bytes.copyWithin(32 + 8 * index, 32 + 8 * (index + 1), 32 + 8 * node.count);
  bytes.copyWithin(valueAt(node, index), valueAt(node, index + 1), valueAt(node, node.count));
  view.setUint32(16, node.count - 1, true);
}

const FREE_METADATA = 1500;
const FREE_DATA = 5000;

type Cut = (on: Surgery) => void;

/** Damage to the superblock, the metadata snapshot, and figures that nobody verifies. */
const SUPERBLOCK_CASES: Readonly<Record<string, Cut>> = {
  "superblock: a bit flipped": (on) => on.flip(0),
  "superblock: all zero": (on) => on.block(0).fill(0),
  "superblock: magic": (on) => on.superblock((view, at) => at.magic.set(view, 0, 27_022_011)),
  "superblock: version": (on) => on.superblock((view, at) => at.version.set(view, 0, 3)),
  "superblock: own address": (on) => on.superblock((view, at) => at.blockNumber.set(view, 0, 5)),
  "superblock: unknown incompatible feature": (on) => on.superblock((view, at) => at.incompatFlags.set(view, 0, 1)),
  "superblock: unknown feature for writing": (on) =>
    on.superblock((view, at) => at.compatReadOnlyFlags.set(view, 0, 1)),
  "superblock: needs_check set": (on) => on.superblock((view, at) => at.flags.set(view, 0, 1)),
  "superblock: mapping root out of range": (on) => on.superblock((view, at) => at.mappingRoot.set(view, 0, 9999)),
  "superblock: details root is the mapping root": (on) =>
    on.superblock((view, at) => at.detailsRoot.set(view, 0, on.at.mappings)),
  "metadata snapshot: a bit flipped": (on) => on.flip(on.at.held),
  "metadata snapshot: root is a free block": (on) =>
    on.superblock((view, at) => at.heldRoot.set(view, 0, FREE_METADATA)),
  "metadata snapshot: root out of range": (on) => on.superblock((view, at) => at.heldRoot.set(view, 0, 9999)),
  "metadata snapshot: forgotten": (on) => on.superblock((view, at) => at.heldRoot.set(view, 0, 0)),
  "data map: number of allocated blocks": (on) => on.superblock((view) => view.setUint32(72, 1000, true)),
  "metadata map: number of allocated blocks": (on) => on.superblock((view) => view.setUint32(200, 3, true)),
  "data map: number of blocks too large": (on) => on.superblock((view) => view.setUint32(64, 6000, true)),
  "metadata map: number of blocks too large": (on) => on.superblock((view) => view.setUint32(192, 3000, true)),
  "metadata map: two bitmaps wanted, one there": (on) => on.superblock((view) => view.setUint32(192, 20_000, true)),
  "device cut off behind the used blocks": (on) => {
    on.image = on.image.slice(0, 1024 * BLOCK);
  },
};

const SPACE_MAP_CASES: Readonly<Record<string, Cut>> = {
  "data index: a bit flipped": (on) => on.flip(on.at.dataIndex),
  "data overflow tree: a bit flipped": (on) => on.flip(on.at.dataOverflow),
  "data bitmap: a bit flipped": (on) => on.flip(on.at.dataBitmap),
  "metadata index: a bit flipped": (on) => on.flip(on.at.metadataIndex),
  "metadata bitmap: a bit flipped": (on) => on.flip(on.at.metadataBitmap),
  "metadata overflow tree: a bit flipped": (on) => on.flip(on.at.metadataOverflow),
  "data count: a leak": (on) => on.count(on.at.dataBitmap, FREE_DATA, 1),
  "data count: too low": (on) => on.count(on.at.dataBitmap, 1000, 0),
  "data count: too high": (on) => on.count(on.at.dataBitmap, 8, 2),
  "data count: overflow value": (on) =>
    on.node(on.at.dataOverflow, 4, (view, node) => view.setUint32(valueAt(node, 0), 77, true)),
  "data count: overflow entry missing": (on) =>
    on.node(on.at.dataOverflow, 4, (view, node) => removeEntry(view, node, 0)),
  "metadata count: a leak": (on) => on.count(on.at.metadataBitmap, FREE_METADATA, 1),
  "metadata count: too low": (on) => on.count(on.at.metadataBitmap, on.root(0), 0),
  "metadata count: too high": (on) => on.count(on.at.metadataBitmap, on.at.dataIndex, 2),
  "data index: number of free blocks": (on) => on.index("data", (view, at) => view.setUint32(at + 8, 3, true)),
  "data index: first free position": (on) => on.index("data", (view, at) => view.setUint32(at + 12, 5000, true)),
  "metadata index: number of free blocks": (on) => on.index("metadata", (view, at) => view.setUint32(at + 8, 3, true)),
  "metadata index: first free position": (on) =>
    on.index("metadata", (view, at) => view.setUint32(at + 12, 2000, true)),
  "data index: entry points at a tree node": (on) =>
    on.index("data", (view, at) => view.setUint32(at, on.at.mappings, true)),
  "metadata index: entry out of range": (on) => on.index("metadata", (view, at) => view.setUint32(at, 9999, true)),
};

const TREE_CASES: Readonly<Record<string, Cut>> = {
  "mapping tree's root: a bit flipped": (on) => on.flip(on.at.mappings),
  "details root: a bit flipped": (on) => on.flip(on.at.details),
  "device root, a leaf: a bit flipped": (on) => on.flip(on.root(0)),
  "device root, internal: a bit flipped": (on) => on.flip(on.root(11)),
  "shared mapping leaf: a bit flipped": (on) => on.flip(on.at.leaves[3] as number),
  "unshared mapping leaf: a bit flipped": (on) => on.flip(on.at.leaves[0] as number),
  "node: keys out of order": (on) => on.node(on.root(0), 8, (view) => view.setUint32(32, 50, true)),
  "node: a key twice": (on) => on.node(on.root(0), 8, (view) => view.setUint32(32, 1, true)),
  "node: more entries than fit": (on) => on.node(on.root(0), 8, (view) => view.setUint32(16, 300, true)),
  "node: capacity not divisible by 3": (on) => on.node(on.root(0), 8, (view) => view.setUint32(20, 251, true)),
  "node: capacity too large": (on) => on.node(on.root(0), 8, (view) => view.setUint32(20, 400, true)),
  "node: value size": (on) => on.node(on.root(0), 8, (view) => view.setUint32(24, 16, true)),
  "node: neither internal nor leaf": (on) => on.node(on.root(0), 8, (view) => view.setUint32(4, 0, true)),
  "node: both internal and leaf": (on) => on.node(on.root(0), 8, (view) => view.setUint32(4, 3, true)),
  "node: own address": (on) => on.node(on.root(0), 8, (view) => view.setUint32(8, 99, true)),
  "node: another leaf's content": (on) => on.block(on.at.leaves[1] as number).set(on.block(on.at.leaves[0] as number)),
  "node: too few entries": (on) => on.node(on.at.leaves[0] as number, 8, (view) => view.setUint32(16, 20, true)),
  "node: internal and empty": (on) => on.node(on.root(11), 8, (view) => view.setUint32(16, 0, true)),
  "node: parent's key above the child's first": (on) =>
    on.node(on.root(11), 8, (view) => view.setUint32(32 + 16, 501, true)),
  "node: child out of range": (on) =>
    on.node(on.root(11), 8, (view, node) => view.setUint32(valueAt(node, 2), 999_999, true)),
  "node: same child twice": (on) =>
    on.node(on.root(11), 8, (view, node) => view.setUint32(valueAt(node, 2), on.at.leaves[1] as number, true)),
  "node: its own child": (on) =>
    on.node(on.root(11), 8, (view, node) => view.setUint32(valueAt(node, 0), on.root(11), true)),
  "mapping: data block out of range": (on) =>
    on.node(on.root(0), 8, (view, node) => view.setUint32(valueAt(node, 3) + 4, 77, true)),
  "mapping: made in the future": (on) => on.node(on.root(0), 8, (view, node) => view.setUint8(valueAt(node, 3), 200)),
  "details: number of mappings": (on) =>
    on.node(on.at.details, deviceDetails.size, (view, node) => view.setUint32(valueAt(node, 0), 9, true)),
  "device without details": (on) =>
    on.node(on.at.details, deviceDetails.size, (view, node) => removeEntry(view, node, 7)),
  "device without mappings": (on) => on.node(on.at.mappings, 8, (view, node) => removeEntry(view, node, 7)),
  "device root points at another device's": (on) =>
    on.node(on.at.mappings, 8, (view, node) => view.setUint32(valueAt(node, 0), on.root(2), true)),
};

/** Every case by name. */
export const DAMAGE_CASES: Readonly<Record<string, Cut>> = { ...SUPERBLOCK_CASES, ...SPACE_MAP_CASES, ...TREE_CASES };

/** The image after the damage. */
export async function damagedImage(name: string): Promise<Uint8Array> {
  const surgery = await Surgery.begin();
  (DAMAGE_CASES[name] as Cut)(surgery);
  return surgery.image;
}
