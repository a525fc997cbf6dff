/**
 * Recovery that is itself interrupted: after every one of its writes the power goes, once or again and again, and what is
 * recovered in the end is what one recovery would have made.
 */
import { isVdoError, Random } from "@vdo/base";
import type { MemoryDevice } from "@vdo/block-device";
import { MemoryDevice as Memory } from "@vdo/block-device";
import { FaultyDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { VOLUME_STATE } from "../../src/format/index.ts";
import { forceRebuild, readVolumeInfo, setReadOnly, VdoVolume, type VolumeOptions } from "../../src/index.ts";
import { audit } from "../support/audit.ts";
import { CuttingDevice, copyDevice, editBlock } from "../support/crash-copy.ts";
import { OPTIONS, setState } from "../support/journal-image.ts";
import { type Recovered, recovered, scrubbed } from "../support/recovered.ts";
import { regionsOf } from "../support/regions.ts";
import { settles } from "../support/settles.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../support/tiny-volume.ts";
import { workloadBlock } from "../support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 4,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 100_000,
};

interface Crash {
  image: MemoryDevice;
  /** What the logical blocks that were written must hold. */
  contents: Map<number, number>;
}

/** A volume that was at work on many leaves when the power went, everything acknowledged being durable. */
async function crash(seed: number, options: VolumeOptions = {}): Promise<Crash> {
  const random = new Random(seed);
  const device = new Memory({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const volume = await VdoVolume.open(device, { ...OPTIONS, maximumAge: 4, ...options });
  const contents = new Map<number, number>();
  for (let round = 0; round < 12; round++) {
    const writes: Promise<void>[] = [];
    for (let i = 0; i < 60; i++) {
      const lbn = random.below(30) * 812 + random.below(6);
      if (contents.get(lbn) === -round) continue;
      const number = 1000 * seed + round * 100 + i;
      writes.push(
        random.chance(0.2)
          ? volume.discard(lbn, 1).then(() => void contents.delete(lbn))
          : volume
              .write(lbn, workloadBlock(number, i % 3 === 0 ? 700 : 4096))
              .then(() => void contents.set(lbn, number)),
      );
      await writes.at(-1);
    }
  }
  await volume.flush();
  const image = await copyDevice(device);
  await volume.close();
  return { image, contents };
}

/** Opens the image on a device that is cut after `writes` writes; true when the volume came up before that. */
async function interruptedOpen(image: MemoryDevice, writes: number): Promise<{ device: CuttingDevice; isUp: boolean }> {
  const device = new CuttingDevice(image, writes);
  let volume: VdoVolume;
  try {
    volume = await settles("an open", VdoVolume.open(device, OPTIONS));
  } catch (error) {
    expect(isVdoError(error), String(error)).toBe(true);
    return { device, isUp: false };
  }
  const { mode } = volume.status();
  if (mode === "recovering") await scrubbed(volume).catch(() => undefined);
  await settles("close", volume.close()).catch(() => undefined);
  return { device, isUp: mode !== "read-only" };
}

const summaryOf = ({ problems, mappings, state }: Recovered) => ({
  state,
  problems,
  mappings: [...mappings].sort(([a], [b]) => a - b),
});

describe("a recovery that is cut short", () => {
  test("after any of its writes, is made good by the next one", async () => {
    const { image } = await crash(1);
    const reference = summaryOf(await recovered(await copyDevice(image)));
    expect(reference).toMatchObject({ state: "CLEAN", problems: [] });
    const whole = await copyDevice(image);
    const { device } = await interruptedOpen(whole, Number.POSITIVE_INFINITY);
    const { superBlock } = await regionsOf(image);
    const commit = device.taken.findIndex(({ start }) => start === superBlock.start);
    expect(commit).toBeGreaterThan(20);
    // All cuts around the commit point, every twelfth elsewhere.
    for (let writes = 0; writes <= device.taken.length; writes++) {
      if (Math.abs(writes - commit) > 3 && writes % 12 !== 0) continue;
      const cut = await copyDevice(image);
      await interruptedOpen(cut, writes);
      const info = await readVolumeInfo(cut);
      if (writes < device.taken.length) expect(info.state).toBe("DIRTY");
      const again = await recovered(cut);
      expect(summaryOf(again), `cut after ${writes} writes, commit point ${commit}`).toEqual(reference);
      const recoveries = writes <= commit ? 1 : writes < device.taken.length ? 2 : 1;
      expect(again.completeRecoveries, `cut after ${writes} writes`).toBe(recoveries);
    }
  });

  test.each([2, 3, 4])("again and again, loses nothing (seed %i)", async (seed) => {
    const { image, contents } = await crash(seed);
    const random = new Random(seed);
    for (let time = 0; time < 12; time++) await interruptedOpen(image, random.below(60));
    const volume = await VdoVolume.open(image, OPTIONS);
    const block = new Uint8Array(4096);
    for (const [lbn, number] of contents) {
      await volume.read(lbn, block);
      const versions = [workloadBlock(number, 700), workloadBlock(number)];
      expect(
        versions.some((version) => Buffer.compare(version, block) === 0),
        `logical block ${lbn}`,
      ).toBe(true);
    }
    await scrubbed(volume);
    await volume.close();
    expect((await audit(image)).problems).toEqual([]);
  });

  test("by an error of the storage leaves the volume readable, and its journal to a rebuild", async () => {
    const { image, contents } = await crash(5);
    const { roots, slabs } = await regionsOf(image);
    expect(roots.count).toBe(60);
    const device = new FaultyDevice(image);
    device.add({ operation: "write", blocks: slabs, times: 1 });
    const volume = await VdoVolume.open(device, OPTIONS);
    expect(volume.status().mode).toBe("read-only");
    await expect(volume.write(0, new Uint8Array(4096))).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await volume.close().catch(() => undefined);
    expect((await readVolumeInfo(image)).state).toBe("READ_ONLY_MODE");
    const report = await forceRebuild(image);
    expect(report).toMatchObject({ logicalBlocksUsed: contents.size, erasedMappings: 0, lostPages: 0 });
    const rebuilt = await recovered(image);
    expect(rebuilt).toMatchObject({ mode: "normal", state: "CLEAN", problems: [] });
    expect(rebuilt.mappings.size).toBe(contents.size);
  });
});

describe("a rebuild that is cut short", () => {
  test("after any of its writes, is made good by the next one", async () => {
    const { image } = await crash(6);
    await setReadOnly(image);
    await forceRebuild(image);
    const reference = summaryOf(await recovered(await copyDevice(image)));
    expect(reference).toMatchObject({ state: "CLEAN", problems: [] });
    const { device } = await interruptedOpen(await copyDevice(image), Number.POSITIVE_INFINITY);
    const { superBlock } = await regionsOf(image);
    const commit = device.taken.findIndex(({ start }) => start === superBlock.start);
    for (let writes = 0; writes <= commit + 4; writes += writes < commit - 3 ? 7 : 1) {
      const cut = await copyDevice(image);
      await interruptedOpen(cut, writes);
      const { state } = await readVolumeInfo(cut);
      expect(writes <= commit ? ["FORCE_REBUILD"] : ["DIRTY", "CLEAN"]).toContain(state);
      const again = await recovered(cut);
      expect(summaryOf(again), `cut after ${writes} writes`).toEqual(reference);
      expect(again.readOnlyRecoveries).toBe(1);
    }
  });
});

/** New versions of blocks of the storage, of which a crash keeps some sectors. */
function tear(old: Uint8Array, next: Uint8Array, mask: number): Uint8Array {
  const torn = old.slice();
  for (let s = 0; s < 8; s++) if ((mask >> s) & 1) torn.set(next.subarray(s * 512, (s + 1) * 512), s * 512);
  return torn;
}
const MASKS = [0x00, 0x01, 0x80, 0x7f, 0xfe, 0x55, 0xaa, 0x3c, 0xff];

async function readAt(device: MemoryDevice, block: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(4096);
  await device.read(block, bytes);
  return bytes;
}

describe("a torn block map page", () => {
  test.each(MASKS)("has the right mappings after recovery (sectors %i new)", async (mask) => {
    // Nothing of the block map is written before the crash: all of it is in the journal.
    const { image } = await crash(7, { maximumAge: 12 });
    const whole = await copyDevice(image);
    const reference = summaryOf(await recovered(whole));
    const { slabs } = await regionsOf(image);
    let torn = 0;
    for (let at = slabs.start; at < slabs.start + 1024; at++) {
      const next = await readAt(whole, at);
      if (next[0] !== 4 || next[4] !== 1 || next[32] !== 1) continue;
      const old = await readAt(image, at);
      const first = next.slice();
      first[32] = 0;
      // The first write of a page says that it is not to be believed; the second is made when that one is stable.
      const was = old[32] === 1;
      const base = was || torn % 2 === 0 ? old : first;
      await image.write(at, tear(base, was || base === first ? next : first, mask));
      torn++;
    }
    expect(torn).toBeGreaterThan(20);
    expect(summaryOf(await recovered(image))).toEqual(reference);
  });
});

describe("torn reference counts", () => {
  test.each(MASKS)("are exact after recovery, and nothing underflows (sectors %i new)", async (mask) => {
    const { image } = await crash(8);
    const whole = await copyDevice(image);
    const reference = summaryOf(await recovered(whole));
    const { slab } = await regionsOf(image);
    for (let n = 0; n < TINY.slabs; n++) {
      const { start, count } = slab(n).counts;
      for (let at = start; at < start + count; at++) {
        await image.write(at, tear(await readAt(image, at), await readAt(whole, at), mask));
      }
    }
    expect(summaryOf(await recovered(image))).toEqual(reference);
    const volume = await VdoVolume.open(image, OPTIONS);
    await volume.discard(0, TINY.logicalBlocks);
    await volume.flush();
    expect(volume.statistics()).toMatchObject({ dataBlocksUsed: 0, logicalBlocksUsed: 0, mode: "normal" });
    await volume.close();
    expect((await audit(image)).problems).toEqual([]);
  });
});

test("provisional counts on storage are none", async () => {
  const { image } = await crash(9);
  const whole = await copyDevice(image);
  const reference = summaryOf(await recovered(whole));
  const { slab } = await regionsOf(image);
  const { counts, data } = slab(0);
  const stored = await readAt(image, counts.start);
  // Free blocks at the end of the slab were being written when the power went.
  const last = data.count - 1;
  const byte = (sbn: number): number => Math.floor(sbn / 504) * 512 + 8 + (sbn % 504);
  expect(stored[byte(last)]).toBe(0);
  await editBlock(image, counts.start, (bytes) => bytes.fill(255, byte(last) - 20, byte(last) + 1));
  expect(summaryOf(await recovered(image))).toEqual(reference);
});

test("a volume stopped while its slabs were being recovered goes on at the next start", async () => {
  const { image } = await crash(10);
  const reference = summaryOf(await recovered(await copyDevice(image)));
  const volume = await VdoVolume.open(image, OPTIONS);
  await volume.close();
  const { state } = await readVolumeInfo(image);
  expect(["RECOVERING", "CLEAN"]).toContain(state);
  if (state === "CLEAN") await setState(image, VOLUME_STATE.recovering);
  const next = await recovered(image);
  expect(summaryOf(next)).toEqual(reference);
  expect(next.completeRecoveries).toBe(1);
});
