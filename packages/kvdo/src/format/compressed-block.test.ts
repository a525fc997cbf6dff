import { firstDifference, fromHex, toHex } from "@vdo/base";
import { expect, test } from "vitest";
import { goldenBlock } from "../../test/support/golden.ts";
import { decodeLz4 } from "../../test/support/lz4-reference.ts";
import { BlockCompressor } from "../compute/index.ts";
import { readAdvicePbn, readAdviceState, writeAdvice } from "./advice.ts";
import {
  compressedBlockHeader,
  fragmentOffset,
  fragmentSize,
  isCompressedBlock,
  setFragmentSize,
  startCompressedBlock,
} from "./compressed-block.ts";

test("the fragments of the kernel's compressed block decode, and its header is written byte for byte", () => {
  const golden = goldenBlock("compressed-block");
  const compressor = new BlockCompressor();
  const block = golden.slice();
  startCompressedBlock(block);
  const target = new Uint8Array(4096);
  let used = 0;
  for (let slot = 0; slot < 14; slot++) {
    const size = fragmentSize(golden, slot);
    setFragmentSize(block, slot, size);
    if (size === 0) continue;
    used++;
    const at = fragmentOffset(golden, slot);
    compressor.decompress(golden, at, size, target, slot);
    expect(firstDifference(target, decodeLz4(golden.subarray(at, at + size), 4096)!)).toBe(-1);
  }
  expect(used).toBe(14);
  expect(firstDifference(block, golden)).toBe(-1);
});

function blockOf(sizes: number[]): Uint8Array {
  const block = new Uint8Array(4096);
  startCompressedBlock(block);
  sizes.forEach((size, slot) => {
    setFragmentSize(block, slot, size);
  });
  return block;
}

test("fragments follow each other after the header, up to the end of the block", () => {
  const block = blockOf([154, 154, 3752]);
  expect([0, 1, 2].map((slot) => fragmentOffset(block, slot))).toEqual([36, 190, 344]);
  expect(compressedBlockHeader.decode(block).sizes.slice(0, 4)).toEqual([154, 154, 3752, 0]);
  expect(toHex(block.subarray(0, 14))).toBe("01000000000000009a009a00a80e");
});

test.each([
  ["a fragment past the end", blockOf([154, 154, 3753]), 2],
  ["fragments before it that fill the block", blockOf([4060, 0]), 1],
  ["sizes that overflow", blockOf([65535, 65535, 1]), 2],
  ["a slot that does not exist", blockOf([1]), 14],
  ["a negative slot", blockOf([1]), -1],
  ["another version", Uint8Array.from({ length: 4096 }, (_, i) => (i === 0 ? 2 : 0)), 0],
  ["zeros", new Uint8Array(4096), 0],
])("%s is refused", (_, block, slot) => {
  expect(fragmentOffset(block, slot)).toBe(-1);
});

test("only version 1.0 is a compressed block", () => {
  const block = blockOf([]);
  expect(isCompressedBlock(block)).toBe(true);
  for (let bit = 0; bit < 64; bit++) {
    block[bit >> 3] = block[bit >> 3]! ^ (1 << (bit & 7));
    expect(isCompressedBlock(block), `bit ${bit}`).toBe(false);
    block[bit >> 3] = block[bit >> 3]! ^ (1 << (bit & 7));
  }
});

test.each([
  [679745, 1, "0201415f0a0000000000000000000000"],
  [679794, 5, "0205725f0a0000000000000000000000"],
  [2 ** 36 - 1, 15, "020fffffffff0f000000000000000000"],
])("advice for block %i in state %i is %s", (pbn, state, hex) => {
  const bytes = new Uint8Array(20).fill(0xee);
  writeAdvice(bytes, 2, pbn, state);
  expect(toHex(bytes)).toBe(`eeee${hex}eeee`);
  expect([readAdvicePbn(bytes, 2), readAdviceState(bytes, 2)]).toEqual([pbn, state]);
});

test.each([
  "0101415f0a0000000000000000000000",
  "0200415f0a0000000000000000000000",
  "0210415f0a0000000000000000000000",
  "02010000000000000000000000000000",
  "02010000000010000000000000000000",
  "02010000000000010000000000000000",
])("advice %s is of no use", (hex) => {
  expect(readAdviceState(fromHex(hex), 0)).toBe(0);
});
