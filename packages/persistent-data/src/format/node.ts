/**
 * B-tree nodes: header, keys, values. (Linux 6.12, dm-btree.)
 *
 *     0 header | 32 keys, 8 bytes each, room for max | 32 + 8 max values, value size each
 *
 * Keys rise strictly. Slots past the entry count hold whatever was there before. A node's own capacity and value size say
 * where things are; the formula is for new nodes. Keys are numbers: those above 2^53 - 1 are refused when a node is read.
 */
import { bytes, setU64, struct, u32le, u64le } from "@vdo/base";
import { corrupt } from "../errors.ts";
import { BLOCK_BYTES, type Block, type BlockKind } from "../store/block.ts";

/** The head of every node. */
export const nodeHeader = struct("NodeHeader", 32, {
  checksum: u32le,
  flags: u32le,
  blockNumber: u64le,
  entryCount: u32le,
  entriesMax: u32le,
  valueSize: u32le,
  padding: bytes(4),
});

export const INTERNAL_NODE = 1;
export const LEAF_NODE = 2;
const HEADER_BYTES = nodeHeader.size;
const FLAGS = nodeHeader.at.flags.offset;
const COUNT = nodeHeader.at.entryCount.offset;
const MAX = nodeHeader.at.entriesMax.offset;
const VALUE_SIZE = nodeHeader.at.valueSize.offset;
const PADDING = nodeHeader.at.padding.offset;
const HIGH = 0x1_0000_0000;
/** High half of the largest key that a number holds exactly. */
const KEY_HIGH_MAX = 0x1fffff;
/** Bytes of a child's address. */
export const CHILD_BYTES = 8;

/** Entries that fit in a node with values of `valueSize` bytes: a multiple of three. */
export function nodeCapacity(valueSize: number): number {
  return 3 * Math.floor(Math.floor((BLOCK_BYTES - HEADER_BYTES) / (8 + valueSize)) / 3);
}

export function isLeaf(node: Block): boolean {
  return node.view.getUint32(FLAGS, true) === LEAF_NODE;
}

export function entryCount(node: Block): number {
  return node.view.getUint32(COUNT, true);
}

export function setEntryCount(node: Block, count: number): void {
  node.view.setUint32(COUNT, count, true);
}

export function entriesMax(node: Block): number {
  return node.view.getUint32(MAX, true);
}

export function valueSize(node: Block): number {
  return node.view.getUint32(VALUE_SIZE, true);
}

export function keyAt(node: Block, index: number): number {
  const at = HEADER_BYTES + 8 * index;
  return node.view.getUint32(at + 4, true) * HIGH + node.view.getUint32(at, true);
}

export function setKey(node: Block, index: number, key: number): void {
  setU64(node.view, HEADER_BYTES + 8 * index, key, true);
}

/** Offset of a value in the block. */
export function valueOffset(node: Block, index: number): number {
  return HEADER_BYTES + 8 * entriesMax(node) + index * valueSize(node);
}

/** A value that is a block's address: a child, or a root in an upper level. May be nonsense in a damaged tree. */
export function addressAt(node: Block, index: number): number {
  const at = valueOffset(node, index);
  return node.view.getUint32(at + 4, true) * HIGH + node.view.getUint32(at, true);
}

export function setAddress(node: Block, index: number, address: number): void {
  setU64(node.view, valueOffset(node, index), address, true);
}

/** Greatest index whose key is at most `key`; -1 if there is none. */
export function lowerBound(node: Block, key: number): number {
  let low = -1;
  let high = entryCount(node);
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (keyAt(node, middle) <= key) low = middle;
    else high = middle;
  }
  return low;
}

/** Least index whose key is at least `key`; the entry count if there is none. */
export function upperBound(node: Block, key: number): number {
  const index = lowerBound(node, key);
  return index >= 0 && keyAt(node, index) === key ? index : index + 1;
}

export function initNode(node: Block, { leaf, valueSize: size }: { leaf: boolean; valueSize: number }): void {
  node.view.setUint32(FLAGS, leaf ? LEAF_NODE : INTERNAL_NODE, true);
  node.view.setUint32(COUNT, 0, true);
  node.view.setUint32(MAX, nodeCapacity(size), true);
  node.view.setUint32(VALUE_SIZE, size, true);
}

/** A new node of the same sort as `model`. */
export function initLike(node: Block, model: Block): void {
  node.view.setUint32(FLAGS, model.view.getUint32(FLAGS, true), true);
  node.view.setUint32(COUNT, 0, true);
  node.view.setUint32(MAX, entriesMax(model), true);
  node.view.setUint32(VALUE_SIZE, valueSize(model), true);
}

/** Opens a gap at `index` and puts the key there; returns the offset for the value. */
export function openSlot(node: Block, index: number, key: number): number {
  const count = entryCount(node);
  const size = valueSize(node);
  const keys = HEADER_BYTES + 8 * index;
  const values = valueOffset(node, index);
  if (index < count) {
    node.bytes.copyWithin(keys + 8, keys, HEADER_BYTES + 8 * count);
    node.bytes.copyWithin(values + size, values, values + (count - index) * size);
  }
  setKey(node, index, key);
  setEntryCount(node, count + 1);
  return values;
}

export function deleteEntry(node: Block, index: number): void {
  const count = entryCount(node);
  const size = valueSize(node);
  const keys = HEADER_BYTES + 8 * index;
  const values = valueOffset(node, index);
  node.bytes.copyWithin(keys, keys + 8, HEADER_BYTES + 8 * count);
  node.bytes.copyWithin(values, values + size, values + (count - index) * size);
  setEntryCount(node, count - 1);
}

/** Copies `count` entries from `source` at `from` to `target` at `to`; both nodes are of one sort. Entry counts stay. */
export function copyEntries(
  source: Block,
  from: number,
  { target, to, count }: { target: Block; to: number; count: number },
): void {
  if (count <= 0) return;
  const size = valueSize(source);
  const keys = HEADER_BYTES + 8 * from;
  target.bytes.set(source.bytes.subarray(keys, keys + 8 * count), HEADER_BYTES + 8 * to);
  const values = valueOffset(source, from);
  target.bytes.set(source.bytes.subarray(values, values + size * count), valueOffset(target, to));
}

/** Moves all entries `by` places up (negative: down, dropping those that fall off). The entry count follows. */
export function shiftEntries(node: Block, by: number): void {
  const count = entryCount(node);
  const size = valueSize(node);
  const from = Math.max(-by, 0);
  const to = Math.max(by, 0);
  const values = valueOffset(node, 0);
  node.bytes.copyWithin(HEADER_BYTES + 8 * to, HEADER_BYTES + 8 * from, HEADER_BYTES + 8 * count);
  node.bytes.copyWithin(values + size * to, values + size * from, values + size * count);
  setEntryCount(node, count + by);
}

/** Everything that can be told of a node alone: refused when it is read. */
function checkNode({ view, number }: Block, place: string): void {
  const flags = view.getUint32(FLAGS, true);
  if (flags !== INTERNAL_NODE && flags !== LEAF_NODE) {
    throw corrupt(place, "flags", { expected: "1 (internal) or 2 (leaf)", actual: flags });
  }
  const size = view.getUint32(VALUE_SIZE, true);
  const max = view.getUint32(MAX, true);
  if (flags === INTERNAL_NODE && size !== CHILD_BYTES) {
    throw corrupt(place, "value size", { expected: CHILD_BYTES, actual: size });
  }
  if (size === 0 || max === 0 || max !== nodeCapacity(size)) {
    throw corrupt(place, "entries max", { expected: `${nodeCapacity(size)} for values of ${size} bytes`, actual: max });
  }
  const count = view.getUint32(COUNT, true);
  if (count > max) throw corrupt(place, "entry count", { expected: `at most ${max}`, actual: count });
  if (flags === INTERNAL_NODE && count === 0) {
    throw corrupt(place, "entry count", { expected: "at least 1 in an internal node", actual: 0 });
  }
  const padding = view.getUint32(PADDING, true);
  if (padding !== 0) throw corrupt(place, "padding", { expected: 0, actual: padding });
  checkKeys(view, count, place);
  if (flags === INTERNAL_NODE) checkChildren(view, { count, max, number }, place);
}

function checkKeys(view: DataView, count: number, place: string): void {
  let previous = -1;
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + 8 * i;
    const high = view.getUint32(at + 4, true);
    const key = high * HIGH + view.getUint32(at, true);
    if (high > KEY_HIGH_MAX) throw corrupt(place, `key ${i}`, { expected: "at most 2^53 - 1", actual: key });
    if (key <= previous) throw corrupt(place, `key ${i}`, { expected: `more than ${previous}`, actual: key });
    previous = key;
  }
}

function checkChildren(
  view: DataView,
  { count, max, number }: { count: number; max: number; number: number },
  place: string,
): void {
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + 8 * max + 8 * i;
    const child = view.getUint32(at + 4, true) * HIGH + view.getUint32(at, true);
    if (child === 0 || child === number) {
      throw corrupt(place, `child ${i}`, { expected: "the address of another node", actual: child });
    }
  }
}

export const NODE_KIND: BlockKind = {
  name: "B-tree node",
  salt: 121107,
  addressOffset: nodeHeader.at.blockNumber.offset,
  check: checkNode,
};
