/** Many requests, long ones, and those that come while the volume is suspended, closed, or in trouble. */
import { isVdoError } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice, SimulatedDisk } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { DATA_VIOS_MAX, DISCARD_PERMITS } from "../src/constants.ts";
import { encodeSuperBlock } from "../src/format/index.ts";
import { format, readVolumeInfo, VdoVolume, type VolumeOptions } from "../src/index.ts";
import { audit } from "../src/testing/audit.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../src/testing/tiny-volume.ts";
import { pagesOf, regionsOf } from "./support/regions.ts";
import { allSettle, settles } from "./support/settles.ts";
import { workloadBlock } from "./support/workload-block.ts";

const BLOCK = 4096;
const TINY: TinyOptions = {
  slabBits: 13,
  slabs: 2,
  recoveryJournalBlocks: 128,
  slabJournalBlocks: 16,
  logicalBlocks: 100_000,
};
const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, maximumAge: 8 };

async function formatted(): Promise<MemoryDevice> {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  return device;
}

async function expectBlock(volume: VdoVolume, lbn: number, expected: Uint8Array): Promise<void> {
  const target = new Uint8Array(BLOCK);
  await settles("read", volume.read(lbn, target));
  expect(Buffer.compare(target, expected), `block ${lbn}`).toBe(0);
}

async function expectFulfilled(what: string, works: Promise<unknown>[], milliseconds = 20_000): Promise<void> {
  for (const outcome of await allSettle(what, works, milliseconds)) {
    if (outcome.status === "rejected") throw outcome.reason;
  }
}

describe("more than the engine takes at once", () => {
  test("requests wait for a place, and never are more in flight than the limits", async () => {
    const device = await formatted();
    const volume = await VdoVolume.open(device, OPTIONS);
    const writes = Array.from({ length: 3 * DATA_VIOS_MAX }, (_, i) => volume.write(i, workloadBlock(i % 700)));
    const discards = Array.from({ length: 2 * DISCARD_PERMITS }, (_, i) => volume.discard(20_000 + i, 1));
    expect(volume.statistics().currentVIOsInProgress).toBeLessThanOrEqual(DATA_VIOS_MAX);
    await expectFulfilled("all of them", [...writes, ...discards, volume.flush()]);
    expect(volume.statistics().maxVIOs).toBeLessThanOrEqual(DATA_VIOS_MAX);
    await expectBlock(volume, 3 * DATA_VIOS_MAX - 1, workloadBlock((3 * DATA_VIOS_MAX - 1) % 700));
    await expectFulfilled(
      "discards of what is mapped",
      Array.from({ length: 3 * DATA_VIOS_MAX }, (_, i) => volume.discard(i, 1)),
    );
    await settles("flush", volume.flush());
    expect(volume.statistics()).toMatchObject({ dataBlocksUsed: 0, logicalBlocksUsed: 0, currentVIOsInProgress: 0 });
    await settles("close", volume.close());
    expect((await audit(device)).problems).toEqual([]);
  });

  test("one request of 40 MiB on three places", async () => {
    const device = await formatted();
    const volume = await VdoVolume.open(device, { ...OPTIONS, dataVios: 3 });
    const bytes = new Uint8Array(10_000 * BLOCK);
    for (let i = 0; i < 10_000; i += 13) bytes.set(workloadBlock(i, 300), i * BLOCK);
    await settles("the write", volume.write(5, bytes), 20_000);
    const back = new Uint8Array(bytes.length);
    await settles("the read", volume.read(5, back), 20_000);
    expect(Buffer.compare(back, bytes)).toBe(0);
    expect(volume.statistics().maxVIOs).toBe(3);
    await settles("close", volume.close());
  });
});

describe("a discard of ten gibibytes is bounded work", () => {
  const COUNT = (10 * 2 ** 30) / BLOCK;

  test("of nothing: no journal entry, and a look at each leaf's place", async () => {
    const device = new MemoryDevice({ blockCount: 900_000 });
    await format(device, { slabBits: 15, logicalSize: 12 * 2 ** 30 });
    const volume = await VdoVolume.open(device, { ...OPTIONS, maximumAge: 16380 });
    await volume.write(0, workloadBlock(1));
    await volume.flush();
    const { journal, biosMeta } = volume.statistics();
    await settles("the discard", volume.discard(812, COUNT), 20_000);
    const after = volume.statistics();
    expect(after.journal.entries.started).toBe(journal.entries.started);
    expect(after.biosMeta.read - biosMeta.read).toBeLessThanOrEqual(4 * 60);
    await settles("close", volume.close());
  });

  test("of what is mapped: an entry for each mapped block, none for the others", async () => {
    const device = new MemoryDevice({ blockCount: 900_000 });
    await format(device, { slabBits: 15, logicalSize: 12 * 2 ** 30 });
    const volume = await VdoVolume.open(device, { ...OPTIONS, blockMapCacheBlocks: 4096, maximumAge: 16380 });
    // Every 40th block is mapped (to zeros, which is quickly done): all leaves exist.
    const mapped = Math.ceil(COUNT / 40);
    const works: Promise<void>[] = [];
    for (let i = 0; i < mapped; i++) works.push(volume.writeZeroes(i * 40, 1));
    await expectFulfilled("zero writes", works, 40_000);
    await volume.flush();
    const before = volume.statistics();
    expect(before.logicalBlocksUsed).toBe(mapped);
    await settles("the discard", volume.discard(0, COUNT), 40_000);
    await settles("flush", volume.flush());
    const after = volume.statistics();
    expect(after.logicalBlocksUsed).toBe(0);
    expect(after.journal.entries.started - before.journal.entries.started).toBe(mapped);
    await settles("close", volume.close());
  });
});

describe("suspended", () => {
  test.each([true, false])("under load, again and again: nothing is lost, nothing is stuck (save %s)", async (save) => {
    const disk = new SimulatedDisk({ blockCount: tinyBlocks(TINY), seed: save ? 1 : 2, batchMax: 32 });
    await formatTiny(disk, TINY);
    const volume = await VdoVolume.open(disk, OPTIONS);
    const works: Promise<void>[] = [];
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 200; i++) works.push(volume.write(round * 200 + i, workloadBlock(round * 200 + i, 900)));
      works.push(volume.flush(), volume.discard(5000 + round * 100, 50));
      const suspended = volume.suspend({ save });
      works.push(volume.write(9000 + round, workloadBlock(round)));
      await settles("suspend", suspended, 10_000);
      expect((await readVolumeInfo(disk)).state).toBe(save ? "CLEAN" : "DIRTY");
      works.push(volume.write(9100 + round, workloadBlock(round)), volume.flush());
      const { completed } = disk;
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(disk.completed, "no I/O while suspended").toBe(completed);
      await settles("resume", volume.resume(), 10_000);
    }
    await expectFulfilled("all requests", works);
    for (let i = 0; i < 1200; i += 37) await expectBlock(volume, i, workloadBlock(i, 900));
    for (let round = 0; round < 6; round++) await expectBlock(volume, 9100 + round, workloadBlock(round));
    await settles("close", volume.close());
    expect((await audit(disk)).problems).toEqual([]);
  });

  test.each([true, false])(
    "then closed: held requests are refused, and nothing is written for them (save %s)",
    async (save) => {
      const base = await formatted();
      const device = new RecordingDevice(base);
      const volume = await VdoVolume.open(device, OPTIONS);
      await volume.write(1, workloadBlock(1));
      await settles("suspend", volume.suspend({ save }));
      const held = [
        volume.write(2, workloadBlock(2)),
        volume.read(1, new Uint8Array(BLOCK)),
        volume.discard(1, 1),
        volume.flush(),
      ];
      if (save) device.log.length = 0;
      await settles("close", volume.close());
      for (const outcome of await allSettle("held requests", held)) {
        expect(outcome.status === "rejected" && isVdoError(outcome.reason, "VDO_CLOSED")).toBe(true);
      }
      if (save) expect(device.of("write")).toEqual([]);
      expect((await audit(base)).problems).toEqual([]);
      await expect(volume.extents(0, 1)).rejects.toMatchObject({ code: "VDO_CLOSED" });
    },
  );

  test("closed while it is being suspended; suspended twice; resumed when it is not", async () => {
    const device = await formatted();
    const volume = await VdoVolume.open(device, OPTIONS);
    await expect(volume.resume()).rejects.toMatchObject({ code: "VDO_INVALID_ADMIN_STATE" });
    const write = volume.write(3, workloadBlock(3));
    const suspend = volume.suspend({ save: false });
    await expect(volume.suspend({ save: true })).rejects.toMatchObject({ code: "VDO_INVALID_ADMIN_STATE" });
    await expectFulfilled("both", [suspend, volume.close(), write]);
    await expect(volume.suspend({ save: true })).rejects.toMatchObject({ code: "VDO_INVALID_ADMIN_STATE" });
    expect((await audit(device)).problems).toEqual([]);
  });

  test.each([true, false])(
    "an I/O error anywhere in a suspend ends it all the same: everybody is answered, what was flushed is there (save %s)",
    async (save) => {
      let isReached = true;
      for (let after = 0; isReached; after++) {
        const base = await formatted();
        const device = new FaultyDevice(base);
        const volume = await VdoVolume.open(device, OPTIONS);
        for (let i = 0; i < 30; i++) await volume.write(i, workloadBlock(i));
        await settles("flush", volume.flush());
        device.add({ operation: after % 2 === 0 ? "write" : "flush", after: Math.floor(after / 2), times: 1 });
        const before = device.faults;
        const suspend = settles("suspend", volume.suspend({ save }));
        const held = [volume.write(50, workloadBlock(50)), volume.read(3, new Uint8Array(BLOCK)), volume.flush()];
        await suspend;
        isReached = device.faults > before || after < 4;
        device.clear();
        await settles("resume", volume.resume());
        await allSettle("what was held", held);
        for (let i = 0; i < 30; i += 7) await expectBlock(volume, i, workloadBlock(i));
        await settles(
          "close",
          volume.close().catch(() => undefined),
        );
        if (device.faults === before) expect((await audit(base)).problems).toEqual([]);
      }
    },
  );

  test("a volume that cannot be marked as in use again is read-only, and answers what was held", async () => {
    const base = await formatted();
    const { superBlock } = await regionsOf(base);
    const device = new FaultyDevice(base);
    const volume = await VdoVolume.open(device, OPTIONS);
    await volume.write(1, workloadBlock(1));
    await settles("suspend", volume.suspend({ save: true }));
    const write = volume.write(2, workloadBlock(2));
    const target = new Uint8Array(BLOCK);
    const read = volume.read(1, target);
    device.add({ operation: "write", blocks: superBlock });
    await settles("resume", volume.resume());
    expect(volume.status().mode).toBe("read-only");
    await settles("the read", read);
    expect(Buffer.compare(target, workloadBlock(1))).toBe(0);
    await expect(settles("the write", write)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await settles(
      "close",
      volume.close().catch(() => undefined),
    );
    expect((await readVolumeInfo(base)).state).toBe("CLEAN");
  });
});

describe("errors that concern their request only", () => {
  async function rig(): Promise<{ device: FaultyDevice; volume: VdoVolume; pbn: number; base: MemoryDevice }> {
    const base = await formatted();
    const device = new FaultyDevice(base);
    let volume = await VdoVolume.open(base, OPTIONS);
    for (let i = 0; i < 10; i++) await volume.write(i, workloadBlock(i));
    await volume.close();
    const [leaf] = await pagesOf(base, 0);
    volume = await VdoVolume.open(device, OPTIONS);
    return { base, device, volume, pbn: leaf as number };
  }
  const data = async (base: MemoryDevice): Promise<{ start: number; count: number }> =>
    (await regionsOf(base)).slab(0).data;

  test("a data block that cannot be read", async () => {
    const { base, device, volume } = await rig();
    await expectBlock(volume, 1, workloadBlock(1));
    device.add({ operation: "read", blocks: await data(base), times: 1 });
    await expect(settles("read", volume.read(0, new Uint8Array(BLOCK)))).rejects.toMatchObject({ code: "VDO_IO" });
    await expectBlock(volume, 0, workloadBlock(0));
    expect(volume.status().mode).toBe("normal");
    await settles("close", volume.close());
  });

  test("a write with fua that cannot be written", async () => {
    const { base, device, volume } = await rig();
    device.add({ operation: "write", blocks: await data(base), times: 1 });
    const refused = volume.write(0, workloadBlock(50), { fua: true });
    await expect(settles("write", refused)).rejects.toMatchObject({ code: "VDO_IO" });
    expect(volume.status().mode).toBe("normal");
    await expectBlock(volume, 0, workloadBlock(0));
    await settles("the next one", volume.write(0, workloadBlock(51), { fua: true }));
    await expectBlock(volume, 0, workloadBlock(51));
    await settles("close", volume.close());
    expect((await audit(base)).problems).toEqual([]);
  });

  test("a compressed block that cannot be written is written in its parts", async () => {
    const { base, device, volume } = await rig();
    device.add({ operation: "write", blocks: await data(base), times: 1 });
    const works = Array.from({ length: 5 }, (_, i) => volume.write(100 + i, workloadBlock(100 + i, 500)));
    await expectFulfilled("writes", works);
    await settles("flush", volume.flush());
    expect(device.faults).toBe(1);
    expect(volume.status().mode).toBe("normal");
    for (let i = 0; i < 5; i++) await expectBlock(volume, 100 + i, workloadBlock(100 + i, 500));
    await settles("close", volume.close());
    expect((await audit(base)).problems).toEqual([]);
  });
});

describe("a super block that cannot be written", () => {
  test("at the start: the volume can be read only, and is as it was on the storage", async () => {
    const base = await formatted();
    const { superBlock } = await regionsOf(base);
    const device = new FaultyDevice(base, [{ operation: "write", blocks: superBlock }]);
    const readable = await settles("open", VdoVolume.open(device, OPTIONS));
    expect(readable.readOnly).toBe(true);
    await readable.read(0, new Uint8Array(4096));
    await expect(readable.write(0, new Uint8Array(4096))).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await settles("close", readable.close());
    expect((await readVolumeInfo(base)).state).toBe("NEW");
    device.clear();
    const volume = await VdoVolume.open(device, OPTIONS);
    await settles("close", volume.close());
  });

  test("at the end: the close says so, and the volume stays marked as in use", async () => {
    const base = await formatted();
    const { superBlock } = await regionsOf(base);
    const device = new FaultyDevice(base);
    const volume = await VdoVolume.open(device, OPTIONS);
    await volume.write(0, workloadBlock(0));
    device.add({ operation: "write", blocks: superBlock });
    await expect(settles("close", volume.close())).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    expect((await readVolumeInfo(base)).state).toBe("DIRTY");
  });
});

test("a journal that used up its sequence numbers ends in read-only mode, and everybody is answered", async () => {
  const base = await formatted();
  const { decoded, superBlock } = await regionsOf(base);
  decoded.recoveryJournal.journalStart = 2 ** 48 - 3;
  await base.write(superBlock.start, encodeSuperBlock(decoded));
  const volume = await VdoVolume.open(base, OPTIONS);
  const works = Array.from({ length: 1500 }, (_, i) => volume.write(i, workloadBlock(i)));
  await allSettle("writes", works);
  await expect(settles("flush", volume.flush())).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
  expect(volume.status().mode).toBe("read-only");
  await expect(volume.write(0, workloadBlock(1))).rejects.toThrow(/2\^48/);
  await settles(
    "close",
    volume.close().catch(() => undefined),
  );
  expect((await readVolumeInfo(base)).state).toBe("READ_ONLY_MODE");
});
