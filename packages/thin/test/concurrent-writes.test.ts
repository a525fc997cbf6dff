/** Many writes to few blocks at the same time: no block leaks, and nobody's bytes are lost. */
import { Random } from "@vdo/base";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import { ThinPool } from "../src/index.ts";
import { problemsOf } from "./support/pools.ts";

const PARTS = 16;
const VIRTUAL_BLOCKS = 12;

/** `cacheBlocks` of 16 is less than the metadata have: then most look-ups have to be waited for. */
test.each(
  [1, 2, 3, 4, 5, 6].flatMap((seed) => [
    { seed, cacheBlocks: 16 },
    { seed, cacheBlocks: 1024 },
  ]),
)("concurrent writes keep every 4 KiB, seed $seed, $cacheBlocks blocks of metadata in memory", async (options) => {
  const { seed, cacheBlocks } = options;
  const random = new Random(seed);
  const metadata = new SimulatedDisk({ blockCount: 512, seed });
  const data = new SimulatedDisk({ blockCount: 16 * 400, seed: seed + 100 });
  const open = (): Promise<ThinPool> => ThinPool.open({ metadata, data, blockSectors: 128, cacheBlocks });
  let pool = await open();
  await pool.createThin(0);
  let volume = await pool.volume({ id: 0, sectors: 128 * VIRTUAL_BLOCKS });
  const model = new Uint8Array(VIRTUAL_BLOCKS * PARTS);
  let snapshots = 0;
  for (let round = 0; round < 12; round++) {
    // Each client has a part of its own in every data block, and sends one request after the other.
    const client = async (part: number): Promise<void> => {
      for (let n = 0; n < 6; n++) {
        const block = random.below(VIRTUAL_BLOCKS) * PARTS + part;
        const value = 1 + random.below(255);
        model[block] = value;
        await volume.write(block, new Uint8Array(4096).fill(value), { fua: random.chance(0.1) });
        if (random.chance(0.1)) await volume.flush();
      }
    };
    await Promise.all(Array.from({ length: PARTS }, (_, part) => client(part)));
    const content = new Uint8Array(model.length * 4096);
    await volume.read(0, content);
    for (const [block, value] of model.entries()) {
      const bytes = content.subarray(block * 4096, (block + 1) * 4096);
      expect(bytes.every((byte) => byte === value)).toBe(true);
    }
    if (random.chance(0.4)) await pool.createSnapshot(++snapshots, 0);
    if (random.chance(0.3)) {
      // Forgets what was in memory.
      await volume.close();
      await pool.close();
      pool = await open();
      volume = await pool.volume({ id: 0, sectors: 128 * VIRTUAL_BLOCKS });
    }
  }
  // What was provisioned and is not mapped would be counted, and belong to nobody.
  for (let id = 1; id <= snapshots; id++) await pool.delete(id);
  await volume.flush();
  const mapped = new Set<number>();
  for (const [block, value] of model.entries()) if (value > 0) mapped.add(Math.floor(block / PARTS));
  expect((await pool.figures()).usedDataBlocks).toBe(mapped.size);
  await volume.close();
  await pool.close();
  expect(await problemsOf(metadata)).toEqual([]);
});
