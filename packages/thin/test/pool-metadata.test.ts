import { toHex } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { check, decodeSuperblock, dump } from "../src/index.ts";
import { PoolMetadata } from "../src/metadata/pool-metadata.ts";
import { lifeMetadata, lifeXml, textOf } from "./support/golden.ts";
import { usedBlocks } from "./support/used-blocks.ts";

/** A fresh pool as the kernel leaves it after the first resume: 8 MiB of metadata, `dataBlocks` of 64 KiB. */
async function freshPool(dataBlocks: number): Promise<{ device: MemoryDevice; pool: PoolMetadata }> {
  const device = new MemoryDevice({ blockCount: 2048 });
  const pool = await PoolMetadata.open({ device, blockSectors: 128 });
  await pool.growData(dataBlocks);
  await pool.commit();
  return { device, pool };
}

async function put(pool: PoolMetadata, id: number, first: number, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const [block] = await pool.allocate(1);
    await pool.insert(id, [[first + i, block as number]]);
  }
}

describe("a fresh pool", () => {
  test("is the kernel's, byte for byte", async () => {
    const { device } = await freshPool(5120);
    const block = new Uint8Array(4096);
    await device.read(0, block);
    expect(toHex(block.subarray(0, 4))).toBe("97ab598e");
    expect(decodeSuperblock(block)).toMatchObject({
      dataSpaceMap: { blockCount: 5120, allocatedCount: 0, bitmapRoot: 10, overflowRoot: 5 },
      metadataSpaceMap: { blockCount: 2048, allocatedCount: 9, bitmapRoot: 11, overflowRoot: 2 },
      mappingRoot: 6,
      detailsRoot: 7,
    });
    expect((await check(device)).problems).toEqual([]);
  });
});

describe("the life of a pool", () => {
  test("leaves the same blocks here as in the kernel", async () => {
    const { device, pool } = await freshPool(5120);
    const message = async (act: () => unknown): Promise<void> => {
      await act();
      await pool.commit();
    };
    await message(() => pool.createThin(0));
    await message(() => put(pool, 0, 0, 3));
    await message(() => put(pool, 0, 10, 1));
    await message(() => pool.createSnapshot(1, 0));
    await message(() => put(pool, 1, 1, 1));
    await message(() => pool.createSnapshot(2, 1));
    for (const id of [3, 4, 5]) await message(() => pool.createSnapshot(id, 0));
    for (const id of [2, 3, 4, 5]) await message(() => put(pool, id, 20 + id, 1));
    await message(() => pool.createThin(10));
    for (let i = 0; i < 44; i++) await message(() => put(pool, 10, i * 25, 25));
    await message(() => pool.createSnapshot(11, 10));
    await message(() => pool.setTransactionId(0n, 7n));
    await pool.reserveSnapshot();
    await message(() => pool.removeRange({ id: 10, begin: 100, end: 150 }));
    expect(await textOf(dump(device))).toBe(lifeXml);
    expect((await check(device)).problems).toEqual([]);
    const ours = await usedBlocks(device);
    const theirs = await usedBlocks(MemoryDevice.from(lifeMetadata()));
    expect([...ours.keys()]).toEqual([...theirs.keys()]);
    for (const [block, content] of theirs) expect(`${block} ${ours.get(block)}`).toBe(`${block} ${content}`);
  });
});
