/** Every state that a super block can be in: opened or refused as the format says, and never written to when only read. */
import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { VOLUME_STATE, VOLUME_STATE_NAMES, type VolumeState, type VolumeStateName } from "../../src/format/index.ts";
import { forceRebuild, readVolumeInfo, setReadOnly, VdoVolume } from "../../src/index.ts";
import { audit } from "../support/audit.ts";
import { cleanImage, editSuperBlock, OPTIONS, setState, TINY } from "../support/journal-image.ts";
import { recovered } from "../support/recovered.ts";
import { regionsOf } from "../support/regions.ts";
import { formatTiny, tinyBlocks } from "../support/tiny-volume.ts";
import { workloadBlock } from "../support/workload-block.ts";

interface Row {
  state: VolumeStateName;
  /** Mode after a start, recoveries counted by it, and state after the stop. */
  mode: "normal" | "read-only";
  complete: number;
  readOnly: number;
  after: VolumeStateName;
}

const ROWS: Row[] = [
  { state: "DIRTY", mode: "normal", complete: 1, readOnly: 0, after: "CLEAN" },
  { state: "CLEAN", mode: "normal", complete: 0, readOnly: 0, after: "CLEAN" },
  { state: "READ_ONLY_MODE", mode: "read-only", complete: 0, readOnly: 0, after: "READ_ONLY_MODE" },
  { state: "FORCE_REBUILD", mode: "normal", complete: 1, readOnly: 1, after: "CLEAN" },
  { state: "RECOVERING", mode: "normal", complete: 0, readOnly: 0, after: "CLEAN" },
  { state: "REPLAYING", mode: "normal", complete: 1, readOnly: 0, after: "CLEAN" },
  { state: "REBUILD_FOR_UPGRADE", mode: "normal", complete: 0, readOnly: 0, after: "CLEAN" },
];

const numberOf = (name: VolumeStateName): VolumeState => VOLUME_STATE_NAMES.indexOf(name) as VolumeState;

async function imageIn(state: VolumeStateName): Promise<MemoryDevice> {
  const device = await cleanImage();
  await setState(device, numberOf(state));
  return device;
}

const changesOf = (device: RecordingDevice) =>
  device.log.filter(({ kind }) => !["read", "extents", "close"].includes(kind));

describe.each(ROWS)("a volume in state $state", ({ state, mode, complete, readOnly, after }) => {
  test("is opened as the format says", async () => {
    const device = await imageIn(state);
    const recording = new RecordingDevice(device);
    const volume = await VdoVolume.open(recording, OPTIONS);
    const block = new Uint8Array(4096);
    await volume.read(0, block);
    expect(Buffer.compare(block, workloadBlock(1))).toBe(0);
    expect(volume.readOnly).toBe(mode === "read-only");
    if (mode === "read-only") {
      await expect(volume.write(5, block)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
      await expect(volume.discard(0, 1)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    } else await volume.write(5, block);
    const statistics = volume.statistics();
    expect([statistics.completeRecoveries, statistics.readOnlyRecoveries]).toEqual([complete, readOnly]);
    if (mode === "normal") expect((await readVolumeInfo(device)).state).toBe("DIRTY");
    await volume.close();
    expect((await readVolumeInfo(device)).state).toBe(after);
    if (mode === "read-only") expect(changesOf(recording)).toEqual([]);
    else expect((await audit(device)).problems).toEqual([]);
  });

  test("is read without a byte written", async () => {
    const device = await imageIn(state);
    const recording = new RecordingDevice(device);
    const volume = await VdoVolume.open(recording, { ...OPTIONS, readOnly: true });
    const block = new Uint8Array(4096);
    await volume.read(0, block);
    expect(Buffer.compare(block, workloadBlock(1))).toBe(0);
    await expect(volume.write(0, block)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await volume.flush();
    await volume.close();
    expect(changesOf(recording)).toEqual([]);
    expect((await readVolumeInfo(device)).state).toBe(state);
  });

  test("is rebuilt by force only out of read-only mode, and gets there from anywhere", async () => {
    const device = await imageIn(state);
    const recording = new RecordingDevice(device);
    if (state !== "READ_ONLY_MODE" && state !== "FORCE_REBUILD") {
      await expect(forceRebuild(recording)).rejects.toMatchObject({ code: "VDO_INVALID_ADMIN_STATE" });
      expect(changesOf(recording)).toEqual([]);
    }
    await setReadOnly(device);
    expect((await readVolumeInfo(device)).state).toBe("READ_ONLY_MODE");
    expect(await forceRebuild(recording, { dryRun: true })).toMatchObject({ logicalBlocksUsed: 1, samples: [] });
    expect(changesOf(recording)).toEqual([]);
    await forceRebuild(device);
    expect(await recovered(device)).toMatchObject({ mode: "normal", state: "CLEAN", problems: [] });
  });
});

test("a volume in state NEW is made ready at its first start", async () => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  expect((await readVolumeInfo(device)).state).toBe("NEW");
  const reading = new RecordingDevice(device);
  const volume = await VdoVolume.open(reading, { ...OPTIONS, readOnly: true });
  await volume.close();
  expect(changesOf(reading)).toEqual([]);
  expect(await recovered(device)).toMatchObject({
    mode: "normal",
    state: "CLEAN",
    problems: [],
    completeRecoveries: 0,
  });
});

test("a state that no volume has is refused, and nothing is written", async () => {
  const device = await cleanImage();
  await editSuperBlock(device, (value) => {
    value.vdo.state = 8;
  });
  const recording = new RecordingDevice(device);
  for (const readOnly of [false, true]) {
    await expect(VdoVolume.open(recording, { ...OPTIONS, readOnly })).rejects.toMatchObject({ code: "VDO_CORRUPT" });
  }
  expect(changesOf(recording)).toEqual([]);
});

describe("an error of the storage at a clean start", () => {
  test.each([
    ["reading the slab summary", "read", "summary"],
    ["writing the slab summary", "write", "summary"],
    ["writing the super block", "write", "superBlock"],
    ["reading reference counts", "read", "slabs"],
  ] as const)("%s leaves the volume readable", async (_what, operation, part) => {
    const base = await cleanImage();
    const regions = await regionsOf(base);
    const blocks = part === "slabs" ? regions.slab(0).counts : regions[part];
    const device = new FaultyDevice(base);
    device.add({ operation, blocks });
    const volume = await VdoVolume.open(device, OPTIONS);
    expect(volume.status().mode).toBe("read-only");
    const block = new Uint8Array(4096);
    await volume.read(0, block);
    expect(Buffer.compare(block, workloadBlock(1))).toBe(0);
    await expect(volume.write(0, block)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await volume.close().catch(() => undefined);
    // A super block that cannot be written cannot say so; nothing of the volume was changed then.
    expect((await readVolumeInfo(base)).state).toBe(part === "superBlock" ? "CLEAN" : "READ_ONLY_MODE");
  });
});

test("read-only mode that is entered while the volume is suspended holds after it, and on storage", async () => {
  const base = await cleanImage();
  const { journal } = await regionsOf(base);
  const device = new FaultyDevice(base);
  const volume = await VdoVolume.open(device, OPTIONS);
  await volume.write(10, workloadBlock(10));
  await volume.suspend({ save: true });
  device.add({ operation: "write", blocks: journal });
  const held = volume.write(11, workloadBlock(11));
  const flushed = volume.flush();
  await volume.resume();
  await Promise.allSettled([held, flushed]);
  expect(volume.status().mode).toBe("read-only");
  const block = new Uint8Array(4096);
  await volume.read(10, block);
  expect(Buffer.compare(block, workloadBlock(10))).toBe(0);
  await volume.close().catch(() => undefined);
  expect((await readVolumeInfo(base)).state).toBe("READ_ONLY_MODE");
  expect(VOLUME_STATE.readOnly).toBe(3);
});
