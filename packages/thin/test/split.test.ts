import { isVdoError } from "@vdo/base";
import { MemoryDevice, SliceDevice } from "@vdo/block-device";
import { blockDeviceCompliance } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { check, JoinedDevice, recommendedMetadataBytes, SplitDevice, ThinPool } from "../src/index.ts";

const MIB = 1 << 20;
const code = (wanted: string) => (error: unknown) => isVdoError(error) && error.code === wanted;

blockDeviceCompliance(
  "a joined device",
  async () =>
    new JoinedDevice(new MemoryDevice({ blockCount: 400 }), [
      { start: 300, blockCount: 31 },
      { start: 0, blockCount: 64 },
      { start: 70, blockCount: 5 },
    ]),
  { describe, test },
  { blockCount: 100, operations: 150 },
);

async function openPool(split: SplitDevice): Promise<ThinPool> {
  const { metadata, data, blockSectors } = split;
  return ThinPool.open({ metadata, data, blockSectors });
}

describe("a pool on one device", () => {
  test("is made, used, opened again and grown, data and metadata", async () => {
    const storage = new MemoryDevice({ blockCount: 400 * 256 });
    const first = new SliceDevice(storage, { start: 0, blockCount: 16 * 256 });
    const split = await SplitDevice.create(first, { blockSectors: 128, metadataBytes: 2 * MIB });
    const pool = await openPool(split);
    expect(await pool.status()).toBe("0 60/512 0/208 - rw discard_passdown queue_if_no_space - 128 ");
    await pool.createThin(3);
    const volume = await pool.volume({ id: 3, sectors: 128 * 4096 });
    await volume.write(0, new Uint8Array(8 * MIB).fill(5));
    expect(await split.grow()).toBe(false);
    await volume.close();
    await pool.close();

    const larger = await SplitDevice.open(new SliceDevice(storage, { start: 0, blockCount: 400 * 256 }));
    expect(larger.extents.map(({ kind }) => kind)).toEqual(["metadata", "data"]);
    const again = await openPool(larger);
    expect(await larger.grow()).toBe(true);
    await again.resize();
    const figures = await again.figures();
    expect(figures.totalDataBlocks).toBe(208 + 384 * 16);
    const byte = new Uint8Array(4096);
    const grown = await again.volume({ id: 3, sectors: 128 * 65_536 });
    await grown.read(2047, byte);
    expect(byte[0]).toBe(5);
    for (let at = 0; at < 300; at += 4) await grown.write(2048 + at * 256, new Uint8Array(4 * MIB).fill(6));
    await grown.close();
    await again.close();
    const reopened = await SplitDevice.open(storage);
    expect((await check(reopened.metadata)).problems).toEqual([]);
    expect(reopened.linearTables("8:1").metadata).toBe("0 4096 linear 8:1 2048");
  });

  test("gets more metadata when the data asks for it, in an extent of its own", async () => {
    const storage = new MemoryDevice({ blockCount: 16 * 1024 * 256 });
    const small = new SliceDevice(storage, { start: 0, blockCount: 8 * 256 });
    await SplitDevice.create(small, { blockSectors: 128 });
    const split = await SplitDevice.open(storage);
    expect(await split.grow()).toBe(true);
    expect(split.extents.map(({ kind }) => kind)).toEqual(["metadata", "data", "metadata", "data"]);
    const bytes = split.metadata.blockCount * 4096;
    expect(bytes).toBeGreaterThanOrEqual(recommendedMetadataBytes(split.data.blockCount * 4096, 128));
    expect(split.data.blockCount % 16).toBe(0);
    const { metadata, data } = split.linearTables("/dev/sda");
    expect(metadata.split("\n")).toHaveLength(2);
    expect(data).toMatch(/^0 \d+ linear \/dev\/sda \d+\n\d+ \d+ linear \/dev\/sda \d+$/);
    const pool = await openPool(split);
    await pool.createThin(0);
    await pool.close();
    expect((await check((await SplitDevice.open(storage)).metadata)).problems).toEqual([]);
  });

  test("is not made on what is not blank, or too small", async () => {
    const device = new MemoryDevice({ blockCount: 16 * 256 });
    await SplitDevice.create(device, { blockSectors: 128 });
    await expect(SplitDevice.create(device, { blockSectors: 128 })).rejects.toSatisfy(code("VDO_THIN_MISMATCH"));
    const small = new MemoryDevice({ blockCount: 3 * 256 });
    await expect(SplitDevice.create(small, { blockSectors: 128 })).rejects.toSatisfy(code("VDO_NO_SPACE"));
    await expect(SplitDevice.create(small, { blockSectors: 100 })).rejects.toSatisfy(code("VDO_THIN_SYNTAX"));
  });

  test("and a pool on two devices are not taken for each other", async () => {
    const device = new MemoryDevice({ blockCount: 16 * 256 });
    await SplitDevice.create(device, { blockSectors: 128 });
    const data = new MemoryDevice({ blockCount: 1024 });
    await expect(ThinPool.open({ metadata: device, data, blockSectors: 128 })).rejects.toSatisfy(code("VDO_CORRUPT"));
    const metadata = new MemoryDevice({ blockCount: 1024 });
    await (await ThinPool.open({ metadata, data, blockSectors: 128 })).close();
    expect(await SplitDevice.isLabelled(metadata)).toBe(false);
    await expect(SplitDevice.open(metadata)).rejects.toThrow(/magic is .* not a pool on one device/);
    await expect(SplitDevice.create(metadata, { blockSectors: 128 })).rejects.toSatisfy(code("VDO_THIN_MISMATCH"));
  });

  test("opens with one copy of the label damaged, and is refused with both", async () => {
    for (let at = 0; at < 512; at += 7) {
      const device = new MemoryDevice({ blockCount: 16 * 256 });
      await SplitDevice.create(device, { blockSectors: 256 });
      const block = new Uint8Array(4096);
      for (const [index, place] of [0, 16].entries()) {
        await device.read(place, block);
        block[at] = (block[at] as number) ^ 0x10;
        await device.write(place, block);
        const opened = SplitDevice.open(device);
        if (index === 0) expect((await opened).blockSectors).toBe(256);
        else await expect(opened).rejects.toSatisfy(code("VDO_CORRUPT"));
      }
      expect(await SplitDevice.isLabelled(device)).toBe(at > 7);
    }
  });

  test("is refused when its device became shorter", async () => {
    const device = new MemoryDevice({ blockCount: 16 * 256 });
    await SplitDevice.create(device, { blockSectors: 128 });
    const shorter = new SliceDevice(device, { start: 0, blockCount: 15 * 256 });
    await expect(SplitDevice.open(shorter)).rejects.toThrow(/deviceBytes is 15728640, expected at least 16777216/);
  });
});
