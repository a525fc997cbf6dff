import { VdoError } from "@vdo/base";
import { type BlockDevice, type Extent, MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { copyBlocks } from "./copy-blocks.ts";
import { deviceSource } from "./open-source.ts";
import { SalvageDevice } from "./salvage-device.ts";

const PAGE = 812;

/** A volume of which some blocks, and the map of some pages, cannot be read. */
function damaged(blocks: readonly number[], pages: readonly number[]): BlockDevice {
  const memory = new MemoryDevice({ blockCount: 4 * PAGE });
  const check = (start: number, count: number): void => {
    for (let block = start; block < start + count; block++) {
      if (!blocks.includes(block) && !pages.includes(Math.floor(block / PAGE))) continue;
      throw new VdoError("VDO_IO", `block ${block} is lost`, { operation: "read", block });
    }
  };
  return {
    blockSize: 4096,
    blockCount: memory.blockCount,
    readOnly: true,
    async read(start, target) {
      check(start, target.length / 4096);
      for (let i = 0; i < target.length; i++) target[i] = 1 + ((start + Math.floor(i / 4096)) % 250);
    },
    async extents(start, count): Promise<Extent[]> {
      for (const page of pages) {
        if (page * PAGE < start + count && (page + 1) * PAGE > start) check(page * PAGE, 1);
      }
      return [{ count, hole: false, zero: false }];
    },
    write: () => Promise.reject(new Error("written")),
    flush: async () => undefined,
    close: () => memory.close(),
  };
}

test("what is lost becomes zeros and is told of; everything else is read", async () => {
  const salvage = new SalvageDevice(damaged([5, 6, 7, 300], [2]));
  const image = new Uint8Array(salvage.blockCount * 4096);
  const taken = await copyBlocks({
    source: deviceSource(salvage),
    take: async (offset, data) => image.set(data, offset),
  });
  const lost = (block: number): boolean => [5, 6, 7, 300].includes(block) || Math.floor(block / PAGE) === 2;
  for (let block = 0; block < salvage.blockCount; block++) {
    expect(image[block * 4096 + 4095], `block ${block}`).toBe(lost(block) ? 0 : 1 + (block % 250));
  }
  expect(taken).toBe((3 * PAGE - 4) * 4096);
  expect(salvage.damage()).toEqual({
    blocks: 4 + PAGE,
    ranges: [
      { start: 5, count: 3, reason: "block 5 is lost" },
      { start: 300, count: 1, reason: "block 300 is lost" },
      { start: 2 * PAGE, count: PAGE, reason: `block ${2 * PAGE} is lost` },
    ],
  });
});

test("a block that is read twice is counted once", async () => {
  const salvage = new SalvageDevice(damaged([9], []));
  await salvage.read(8, new Uint8Array(3 * 4096));
  await salvage.read(9, new Uint8Array(4096));
  expect(salvage.damage().blocks).toBe(1);
});
