/** Growing under load, and what is there afterwards: after a clean stop and after a power cut. */
import { type BlockDevice, MemoryDevice, SliceDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../src/index.ts";
import { audit } from "./support/audit.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 2,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 2000,
};
const OPTIONS: VolumeOptions = { deduplication: false, compression: false, maximumAge: 10, blockMapCacheBlocks: 128 };
const GROWN = tinyBlocks({ ...TINY, slabs: 6 });

/** A device that can become larger, as a file can. */
class Growing extends MemoryDevice {
  limit: number;
  constructor(limit: number) {
    super({ blockCount: GROWN });
    this.limit = limit;
  }
  asDevice(): BlockDevice {
    const slice = new SliceDevice(this, { start: 0, blockCount: GROWN });
    const self = this;
    return new Proxy(slice, {
      get(target, key) {
        if (key === "blockCount") return self.limit;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }
}

async function start(): Promise<{ disk: Growing; volume: VdoVolume }> {
  const disk = new Growing(tinyBlocks(TINY));
  await formatTiny(disk.asDevice(), TINY);
  return { disk, volume: await VdoVolume.open(disk.asDevice(), OPTIONS) };
}

async function expectBlocks(volume: VdoVolume, at: number, count: number, seed: number): Promise<void> {
  const block = new Uint8Array(4096);
  for (let i = 0; i < count; i++) {
    await volume.read(at + i, block);
    expect(Buffer.compare(block, workloadBlock(seed + i)), `block ${at + i}`).toBe(0);
  }
}

async function write(volume: VdoVolume, at: number, count: number, seed: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, i) => volume.write(at + i, workloadBlock(seed + i))));
}

test("a logical growth under load gives blocks that can be written, and is there after a stop", async () => {
  const { disk, volume } = await start();
  const load = write(volume, 0, 500, 1);
  await volume.growLogical(100_000);
  await load;
  expect(volume.blockCount).toBe(100_000);
  await write(volume, 99_000, 50, 9000);
  await volume.close();
  expect((await audit(disk)).problems).toEqual([]);
  const again = await VdoVolume.open(disk.asDevice(), OPTIONS);
  expect(again.blockCount).toBe(100_000);
  await expectBlocks(again, 0, 500, 1);
  await expectBlocks(again, 99_000, 50, 9000);
  await expect(again.growLogical(99_999)).rejects.toMatchObject({ code: "VDO_PARAMETER_MISMATCH" });
  await again.close();
});

test("a full volume grows physically and goes on", async () => {
  const { disk, volume } = await start();
  await volume.growLogical(10_000);
  await write(volume, 0, 1400, 1);
  const full = await Promise.allSettled(
    Array.from({ length: 1000 }, (_, i) => volume.write(2000 + i, workloadBlock(50_000 + i))),
  );
  expect(full.some((result) => result.status === "rejected")).toBe(true);
  await expect(volume.growPhysical(GROWN)).rejects.toMatchObject({ code: "VDO_PARAMETER_MISMATCH" });
  disk.limit = GROWN;
  await expect(volume.growPhysical(tinyBlocks(TINY) + 10)).rejects.toMatchObject({ code: "VDO_INCREMENT_TOO_SMALL" });
  const load = volume.write(0, workloadBlock(77_777)).catch(() => undefined);
  await volume.growPhysical(GROWN);
  await load;
  expect(volume.statistics().allocator.slabCount).toBe(6);
  await write(volume, 5000, 1500, 200_000);
  await volume.flush();
  await expectBlocks(volume, 5000, 1500, 200_000);
  await volume.close();
  expect((await audit(disk)).problems).toEqual([]);
  const again = await VdoVolume.open(disk.asDevice(), OPTIONS);
  await expectBlocks(again, 1, 1399, 2);
  await expectBlocks(again, 5000, 1500, 200_000);
  await again.close();
});

test("a power cut right after growing loses nothing that was flushed", async () => {
  const { disk, volume } = await start();
  await write(volume, 0, 700, 1);
  await volume.flush();
  disk.limit = GROWN;
  await volume.growPhysical(GROWN);
  await volume.growLogical(20_000);
  await write(volume, 15_000, 300, 40_000);
  await volume.flush();
  // The volume is left as it is: everything written so far is on the disk, nothing of what a stop would write.
  const recovered = await VdoVolume.open(disk.asDevice(), OPTIONS);
  await expectBlocks(recovered, 0, 700, 1);
  await expectBlocks(recovered, 15_000, 300, 40_000);
  await expect.poll(() => recovered.status().mode).toBe("normal");
  await recovered.close();
  expect((await audit(disk)).problems).toEqual([]);
});
