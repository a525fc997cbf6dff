/** Blocks of an array: a head of 24 bytes, then values packed. (Linux 6.12, dm-array.) */
import { struct, u32le, u64le } from "@vdo/base";
import { corrupt } from "../errors.ts";
import { BLOCK_BYTES, type Block, type BlockKind } from "../store/block.ts";

export const arrayBlockHeader = struct("ArrayBlockHeader", 24, {
  checksum: u32le,
  entriesMax: u32le,
  entryCount: u32le,
  valueSize: u32le,
  blockNumber: u64le,
});

const MAX = arrayBlockHeader.at.entriesMax.offset;
const COUNT = arrayBlockHeader.at.entryCount.offset;
const SIZE = arrayBlockHeader.at.valueSize.offset;

/** Values that fit in a block. */
export function arrayCapacity(valueSize: number): number {
  return Math.floor((BLOCK_BYTES - arrayBlockHeader.size) / valueSize);
}

export function initArrayBlock({ view }: Block, valueSize: number): void {
  view.setUint32(MAX, arrayCapacity(valueSize), true);
  view.setUint32(COUNT, 0, true);
  view.setUint32(SIZE, valueSize, true);
}

export function arrayCount({ view }: Block): number {
  return view.getUint32(COUNT, true);
}

export function setArrayCount({ view }: Block, count: number): void {
  view.setUint32(COUNT, count, true);
}

export function arrayValueSize({ view }: Block): number {
  return view.getUint32(SIZE, true);
}

/** Offset of a value. */
export function arrayValueAt(block: Block, index: number): number {
  return arrayBlockHeader.size + index * arrayValueSize(block);
}

export const ARRAY_KIND: BlockKind = {
  name: "array block",
  salt: 595846735,
  addressOffset: arrayBlockHeader.at.blockNumber.offset,
  check({ view }, place) {
    const size = view.getUint32(SIZE, true);
    const max = view.getUint32(MAX, true);
    if (size === 0 || max === 0 || max !== arrayCapacity(size)) {
      throw corrupt(place, "entries max", {
        expected: size === 0 ? "a value size above 0" : `${arrayCapacity(size)} for values of ${size} bytes`,
        actual: max,
      });
    }
    const count = view.getUint32(COUNT, true);
    if (count > max) throw corrupt(place, "entry count", { expected: `at most ${max}`, actual: count });
  },
};
