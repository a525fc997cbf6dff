/** Bytes of the format: blocks of real kernels, capacities, pairs, and the laws of every declared layout. */
import { fromHex, toHex } from "@vdo/base";
import { layoutLaws } from "@vdo/base/testing";
import { describe, expect, test } from "vitest";
import { ARRAY_KIND, arrayBlockHeader, arrayCapacity } from "../src/format/array-block.ts";
import {
  BITMAP_KIND,
  bitmapHeader,
  findFree,
  INDEX_KIND,
  indexBlockHeader,
  indexEntry,
  METADATA_BLOCKS_MAX,
  pairAt,
  setPair,
} from "../src/format/bitmap.ts";
import { NODE_KIND, nodeCapacity, nodeHeader } from "../src/format/node.ts";
import { spaceMapRoot } from "../src/format/space-map-root.ts";
import { Block, type BlockKind, blockChecksum, sealBlock, validateBlock } from "../src/index.ts";
import { THIN_KIND } from "./support/thin-superblock.ts";

for (const layout of [nodeHeader, bitmapHeader, indexEntry, indexBlockHeader, arrayBlockHeader, spaceMapRoot]) {
  layoutLaws(layout as Parameters<typeof layoutLaws>[0], { describe, test });
}

/** The first bytes of blocks that kernels wrote; the rest is zero. */
const BLOCKS: [string, BlockKind, string][] = [
  ["empty leaf", NODE_KIND, "56ac55cb020000000c0000000000000000000000fc0000000800000000000000"],
  ["empty leaf at 6", NODE_KIND, "35da3dcb02000000060000000000000000000000fc0000000800000000000000"],
  ["empty overflow leaf", NODE_KIND, "52e460c30200000002000000000000000000000050010000040000000000 0000"],
  ["empty overflow leaf at 5", NODE_KIND, "04aabf410200000005000000000000000000000050010000040000000000 0000"],
  ["empty index leaf", NODE_KIND, "c8527f7802000000040000000000000000000000a80000001000000000000000"],
  ["empty details leaf", NODE_KIND, "4613c8b1020000000700000000000000000000007e0000001800000000000000"],
  ["empty bitmap", BITMAP_KIND, "6633bb58000000000800000000000000"],
  ["bitmap of 8", BITMAP_KIND, "75639fa1000000000300000000000000aaaa"],
  ["bitmap of 9", BITMAP_KIND, "c72ecde300000000090000000000000022a8aa"],
  ["metadata index", INDEX_KIND, "0a66e01800000000010000000000000003 00000000000000b83f000008000000"],
  ["metadata index at 11", INDEX_KIND, "e62e01a1000000000b0000000000000009 00000000000000b73f000001000000"],
];

function blockOf(hex: string): Block {
  const head = fromHex(hex);
  const number = head[8] as number;
  const block = new Block(number);
  block.bytes.set(head);
  return block;
}

test.each(BLOCKS)("%s of a kernel is valid, and sealing it again changes nothing", (_, kind, hex) => {
  const block = blockOf(hex);
  validateBlock(block, kind);
  expect(block.kind).toBe(kind);
  const before = toHex(block.bytes);
  block.view.setUint32(0, 0);
  block.view.setUint32(8, 0);
  sealBlock(block.bytes, block.view, { number: block.number, kind });
  expect(toHex(block.bytes)).toBe(before);
});

test("a block is never taken for one of another kind, nor for one of another place", () => {
  const [, , leaf] = BLOCKS[0] as [string, BlockKind, string];
  expect(() => validateBlock(blockOf(leaf), BITMAP_KIND)).toThrow("space-map bitmap at block 12: checksum");
  const moved = new Block(13);
  moved.bytes.set(fromHex(leaf));
  expect(() => validateBlock(moved, NODE_KIND)).toThrow("B-tree node at block 13: block number is 12, expected 13");
});

test("sums of a block of zeros", () => {
  const zeros = new Uint8Array(4096);
  const kinds = [NODE_KIND, INDEX_KIND, BITMAP_KIND, ARRAY_KIND, THIN_KIND];
  const sums = [0x58cc7e82, 0x58cfd54f, 0x58ce0b1a, 0x7b4e41de, 0x58cfd397];
  expect(kinds.map(({ salt }) => blockChecksum(zeros, salt))).toEqual(sums);
});

test("capacities", () => {
  const sizes = [4, 8, 16, 24, 1, 2, 12, 20, 32, 40, 64, 100, 1000];
  expect(sizes.map(nodeCapacity)).toEqual([336, 252, 168, 126, 450, 405, 201, 144, 99, 84, 54, 36, 3]);
  expect([8, 4].map(arrayCapacity)).toEqual([509, 1018]);
  expect(METADATA_BLOCKS_MAX).toBe(4_161_600);
});

test("pairs are stored with their bits swapped", () => {
  const bitmap = new Block(1);
  const byteOf = (counts: readonly number[]): number => {
    counts.forEach((count, entry) => {
      setPair(bitmap, entry, count);
      expect(pairAt(bitmap, entry)).toBe(count);
    });
    return bitmap.bytes[16] as number;
  };
  expect(byteOf([1, 1, 1, 1])).toBe(0xaa);
  expect(byteOf([2, 2, 2, 2])).toBe(0x55);
  expect(byteOf([3, 3, 3, 3])).toBe(0xff);
  expect(byteOf([2, 1, 1, 1])).toBe(0xa9);
  expect(byteOf([0, 1, 0, 0])).toBe(0x08);
  expect(byteOf([1, 0, 0, 0])).toBe(0x02);
});

test("the search finds the one free entry wherever it is", () => {
  const bitmap = new Block(1);
  bitmap.bytes.fill(0xaa, 16);
  for (const free of [0, 1, 15, 16, 17, 100, 16_303, 16_319]) {
    setPair(bitmap, free, 0);
    expect(findFree(bitmap, 0, 16_320)).toBe(free);
    expect(findFree(bitmap, free, 16_320)).toBe(free);
    expect(findFree(bitmap, free + 1, 16_320)).toBe(-1);
    expect(findFree(bitmap, 0, free)).toBe(-1);
    setPair(bitmap, free, 3);
  }
});
