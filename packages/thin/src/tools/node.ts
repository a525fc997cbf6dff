/**
 * Nodes of B-trees as the tools read them: every field judged, each fault with a text of its own.
 *
 * Independent of the library that writes them, so that a checker does not repeat a writer's mistake.
 *
 *     0 sum | 4 flags | 8 address | 16 entries | 20 capacity | 24 value size | 28 padding | 32 keys … | values …
 */
import { VdoError } from "@vdo/base";
import { METADATA_BLOCK_BYTES } from "../constants.ts";
import { blockChecksum } from "../format/superblock.ts";

/** Sums of the kinds of blocks differ by these (Linux 6.12, persistent-data). */
export const NODE_SALT = 121_107;
export const BITMAP_SALT = 240_779;
export const INDEX_SALT = 160_478;

const HEADER_BYTES = 32;
const INTERNAL = 1;
const LEAF = 2;

/** A node that was judged well-formed. */
export interface Node {
  block: number;
  view: DataView;
  isLeaf: boolean;
  count: number;
  capacity: number;
  /** Offset of the first value. */
  valuesAt: number;
  valueSize: number;
}

/** Entries a node for values of `valueSize` bytes has room for. */
export function nodeCapacity(valueSize: number): number {
  return 3 * Math.floor(Math.floor((METADATA_BLOCK_BYTES - HEADER_BYTES) / (8 + valueSize)) / 3);
}

/** Key `index`. Keys above 2^53 lose precision; {@link nodeFault} refuses them. */
export function keyOf(node: Node, index: number): number {
  const at = HEADER_BYTES + 8 * index;
  return node.view.getUint32(at, true) + node.view.getUint32(at + 4, true) * 0x1_0000_0000;
}

/** Offset of value `index`. */
export function valueAt(node: Node, index: number): number {
  return node.valuesAt + node.valueSize * index;
}

/** Value `index` as a block number; above 2^53 inexact, and out of range in any case. */
export function childOf(node: Node, index: number): number {
  const at = valueAt(node, index);
  return node.view.getUint32(at, true) + node.view.getUint32(at + 4, true) * 0x1_0000_0000;
}

/** What is wrong with a block's sum or own address; undefined when nothing is. */
export function blockFault(bytes: Uint8Array, block: number, salt: number, addressAt = 8): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== blockChecksum(bytes, salt)) return `bad checksum (block ${block})`;
  const address = view.getUint32(addressAt, true) + view.getUint32(addressAt + 4, true) * 0x1_0000_0000;
  return address === block ? undefined : `bad block number ${address} (block ${block})`;
}

/** The node in `bytes`, or the text of its first fault. `valueSize` is that of the tree's leaves. */
export function parseNode(bytes: Uint8Array, block: number, valueSize: number): Node | string {
  const fault = blockFault(bytes, block, NODE_SALT);
  if (fault !== undefined) return fault;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint32(4, true);
  const count = view.getUint32(16, true);
  const capacity = view.getUint32(20, true);
  const size = view.getUint32(24, true);
  if (flags === (INTERNAL | LEAF)) return `btree node is both internal and leaf (block ${block})`;
  if (flags !== INTERNAL && flags !== LEAF) return `unknown node type (block ${block})`;
  const isLeaf = flags === LEAF;
  const expected = isLeaf ? valueSize : 8;
  if (size !== expected) return `value size mismatch: expected ${expected}, but got ${size} (block ${block})`;
  if (HEADER_BYTES + capacity * (8 + size) > METADATA_BLOCK_BYTES) {
    return `max entries too large: ${capacity} (block ${block})`;
  }
  if (capacity % 3 !== 0) return `max entries is not divisible by 3: ${capacity} (block ${block})`;
  if (count > capacity) return `bad nr_entries: ${count} > ${capacity} (block ${block})`;
  if (!isLeaf && count === 0) return `internal node without children (block ${block})`;
  const node: Node = { block, view, isLeaf, count, capacity, valuesAt: HEADER_BYTES + 8 * capacity, valueSize: size };
  return nodeFault(node) ?? node;
}

/** The first fault in the order of the keys. */
function nodeFault(node: Node): string | undefined {
  let last = -1;
  for (let i = 0; i < node.count; i++) {
    const key = keyOf(node, i);
    if (key <= last) return `keys are out of order, ${key} <= ${last} (block ${node.block})`;
    if (key > Number.MAX_SAFE_INTEGER) return `key ${key} is beyond what this program can hold (block ${node.block})`;
    last = key;
  }
  return undefined;
}

/** `VDO_CORRUPT` for damage in `structure`. */
export function damage(structure: string, text: string, next = "run vdo thin check, then vdo thin repair"): VdoError {
  return new VdoError("VDO_CORRUPT", `${structure}: ${text}; ${next}`, {
    structure,
    field: "node",
    expected: "a well-formed node",
    actual: text,
  });
}
