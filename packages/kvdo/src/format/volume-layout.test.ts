import { isVdoError } from "@vdo/base";
import { expect, test } from "vitest";
import { FORMAT_SETS } from "../../test/support/format-sets.ts";
import { indexGeometry, indexMemoryFromGib } from "./index-config.ts";
import { indexBlockCount } from "./index-size.ts";
import { blockMapLevels, computeLayout, defaultLogicalBlocks, minimumVolumeBlocks } from "./volume-layout.ts";

/** Stored memory, dense and sparse blocks: of vdoformat, the last two of volumes that the kernel opened. */
test.each([
  [-256, 679127, 5822251],
  [-512, 1366399, 11726359],
  [-768, 2053669, 17630467],
  [1, 2732747, 23452645],
  [2, 5496229, 46928887],
  [3, 8294557, 70416617],
  [4, 11058007, 93909179],
  [8, 22251355, 187925411],
  [16, 44777475, 376068883],
  [64, 181329075, 1506041331],
  [1024, 2972616243, 24153506003],
  [-1280, 678567, 5821691],
  [-1536, 1365269, 11725229],
  [-1792, 2051973, 17628769],
  [4097, 2730491, 23450387],
  [4100, 11055749, 93906921],
])("an index of stored memory %i has the blocks that vdoformat gives it", (memory, dense, sparse) => {
  expect(indexBlockCount({ memory, sparse: 0 })).toBe(dense);
  expect(indexBlockCount({ memory, sparse: 1 })).toBe(sparse);
});

test("a memory value names its gibibytes, and whether a chapter is missing", () => {
  for (const gib of [0.25, 0.5, 0.75, 1, 2, 1024]) {
    const memory = indexMemoryFromGib(gib);
    expect(indexGeometry({ memory, sparse: 0 })).toMatchObject({ gib, reduced: false, sparse: false });
    const reduced = memory < 0 ? memory - 1024 : memory + 4096;
    expect(indexGeometry({ memory: reduced, sparse: 1 })).toMatchObject({ gib, reduced: true, sparse: true });
  }
  expect(indexGeometry({ memory: -256, sparse: 1 })).toMatchObject({ chapters: 10240, sparseChapters: 9728 });
});

test.each([0, -1, -255, -1024, -1281, -2048, 1025, 4096, 5121, 2 ** 31 - 1, -(2 ** 31)])(
  "stored memory %i is refused",
  (memory) => {
    expect(() => indexGeometry({ memory, sparse: 0 })).toThrow("names no index");
  },
);

test.each([0, 0.3, 1.5, -1, 1025, Number.NaN])("an index of %d GiB is refused", (gib) => {
  expect(() => indexMemoryFromGib(gib)).toThrow("index memory");
});

test.each(FORMAT_SETS)("$name lies where vdoformat put it", (set) => {
  const index = { memory: indexMemoryFromGib(set.indexMemory), sparse: set.sparse };
  const layout = computeLayout({ physicalBlocks: set.physicalBlocks, slabBits: set.slabBits, index });
  expect(layout.index).toEqual({ start: 1, count: set.indexBlocks });
  expect(layout.dataStart).toBe(set.indexBlocks + 1);
  expect(layout.blockMap).toEqual({ start: set.indexBlocks + 2, count: 60 });
  expect(layout.slabDepot).toEqual({ start: set.depotStart, count: set.depotBlocks });
  expect(layout.slabCount).toBe(set.slabCount);
  expect([layout.firstBlock, layout.lastBlock]).toEqual([set.depotStart, set.lastBlock]);
  expect(layout.recoveryJournal).toEqual({ start: set.physicalBlocks - 32832, count: 32768 });
  expect(layout.slabSummary).toEqual({ start: set.physicalBlocks - 64, count: 64 });
  if (set.logicalSize === 0) expect(layout.defaultLogicalBlocks).toBe(set.logicalBlocks);
});

test.each([
  [12, 82, 316851],
  [15, 10, 324769],
  [19, 1, 523108],
  [19, 2, 1046397],
  [15, 26, 844688],
])("the default logical size over slabs of 2^%i blocks, %i of them, is that of vdoformat", (bits, slabs, blocks) => {
  const size = 2 ** bits - 224;
  expect(defaultLogicalBlocks(slabs * (size - Math.ceil(size / 4032)))).toBe(blocks);
});

test("the pages per tree of a block map are those of the kernel", () => {
  expect(blockMapLevels(2 ** 28)).toEqual([7, 1, 1, 1, 1]);
  expect(blockMapLevels(2 ** 40)).toEqual([27794, 35, 1, 1, 1]);
  expect(blockMapLevels(1)).toEqual([1, 1, 1, 1, 1]);
});

test("the smallest device has room for one slab, one block less has none", () => {
  const options = { slabBits: 13, index: { memory: -256, sparse: 0 } };
  expect(minimumVolumeBlocks(options)).toBe(720213);
  expect(minimumVolumeBlocks({ ...options, slabBits: 19 }) * 4096).toBe(5063921664);
  expect(computeLayout({ ...options, physicalBlocks: 720213 }).slabCount).toBe(1);
  try {
    computeLayout({ ...options, physicalBlocks: 720212 });
    expect.unreachable();
  } catch (error) {
    if (!isVdoError(error, "VDO_DEVICE_TOO_SMALL")) throw error;
    expect(error.data).toEqual({ physicalBlocks: 720212, minimumBlocks: 720213, indexBlocks: 679127 });
  }
});

test("8192 slabs are possible, one more is not", () => {
  const options = { slabBits: 13, index: { memory: -256, sparse: 0 } };
  const blocks = 679127 + 2 + 60 + 32832;
  expect(computeLayout({ ...options, physicalBlocks: blocks + 8193 * 8192 - 1 }).slabCount).toBe(8192);
  expect(() => computeLayout({ ...options, physicalBlocks: blocks + 8193 * 8192 })).toThrow(
    "8193 slabs are more than 8192",
  );
});
