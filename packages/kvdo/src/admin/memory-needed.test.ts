import { MemoryDevice } from "@vdo/block-device";
import { indexMemory } from "@vdo/uds";
import { expect, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../index.ts";
import { format } from "./format.ts";
import { memoryNeeded } from "./memory-needed.ts";
import { readVolumeInfo } from "./volume-info.ts";

const BLOCKS = 3 * 262_144;

async function formatted(): Promise<MemoryDevice> {
  const device = new MemoryDevice({ blockCount: BLOCKS });
  await format(device, { slabBits: 15, logicalSize: 2 ** 40 });
  return device;
}

test("the parts add up, follow the options, and are those of the description", async () => {
  const info = await readVolumeInfo(await formatted());
  const whole = memoryNeeded(info);
  const { total, ...parts } = whole;
  expect(Object.values(parts).reduce((sum, bytes) => sum + bytes, 0)).toBe(total);
  for (const [part, bytes] of Object.entries(parts)) expect(bytes, part).toBeGreaterThan(0);
  expect(whole.index).toBe(indexMemory({ memory: 0.25 }).total);
  // One TiB of logical space has about 1.6 MB of interior pages; a page of the cache has 4096 bytes and its object.
  expect(whole.blockMapTrees).toBeGreaterThan(1.5e6);
  expect(whole.blockMapTrees).toBeLessThan(4e6);
  expect(whole.blockMapCache / 32768).toBeLessThan(4532);
  expect(memoryNeeded(info, { deduplication: false }).index).toBe(0);
  expect(memoryNeeded(info, { readOnly: true }).index).toBe(0);
  expect(memoryNeeded(info, { dataVios: 4 }).dataVios).toBe((whole.dataVios / 2048) * 4);
  expect(memoryNeeded(info, { blockMapCacheBlocks: 128 }).blockMapCache).toBe(whole.blockMapCache / 256);
});

test.each([
  { what: "without an index", options: { deduplication: false, blockMapCacheBlocks: 128, dataVios: 1024 } },
  { what: "with one", options: { blockMapCacheBlocks: 128 } },
])("an open volume $what takes about what was said", async ({ options }: { options: VolumeOptions }) => {
  const device = await formatted();
  const needed = memoryNeeded(await readVolumeInfo(device), options);
  const before = process.memoryUsage();
  const volume = await VdoVolume.open(device, options);
  await volume.indexSettled();
  const after = process.memoryUsage();
  const taken = after.arrayBuffers + after.heapUsed - before.arrayBuffers - before.heapUsed;
  // Garbage of other tests may be collected meanwhile, and some of ours not be: loosely.
  expect(taken).toBeLessThan(needed.total * 1.3 + 40e6);
  await volume.close();
});
