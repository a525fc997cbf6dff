/** Messages to a disk's running stack, with the descriptor that follows; partial backups; the kernel's errors. */
import { beforeEach, describe, expect, test } from "vitest";
import type { PloopDevice } from "../src/device/ploop-device.ts";
import { PloopDisk } from "../src/disk/ploop-disk.ts";
import type { DeviceFile } from "../src/file/device-file.ts";
import { createImage } from "../src/image/create.ts";
import { memoryFile, memoryImage, poke } from "./support/images.ts";
import { MemoryDirectory } from "./support/memory-directory.ts";

const CLUSTER = 32768;
const BLOCKS = 64;
const UUID = "0123456789abcdef0123456789abcdef";
const CBT = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const refuses = (errno: string): unknown =>
  expect.objectContaining({ code: "VDO_PLOOP_REFUSED", data: expect.objectContaining({ errno }) });

let count = 0;
const newGuid = (): string => `{00000000-0000-4000-8000-${String(++count).padStart(12, "0")}}`;
let directory: MemoryDirectory;
let disk: PloopDisk;
let device: PloopDevice;
let guids: string[];

const send = (...words: string[]): Promise<string> =>
  disk.message(device, words, { openFile: (name, options) => directory.open(name, options) });
const fill = (cluster: number, value: number): Promise<void> =>
  device.write(cluster * BLOCKS, new Uint8Array(CLUSTER).fill(value));

async function bytes(from: PloopDevice, ...clusters: number[]): Promise<number[]> {
  const block = new Uint8Array(512);
  const found: number[] = [];
  for (const cluster of clusters) {
    await from.read(cluster * BLOCKS + 5, block);
    found.push(block[9] as number);
  }
  return found;
}

/** The disk after a stop, as its descriptor says. */
async function again(...clusters: number[]): Promise<number[]> {
  await device.close();
  disk = await PloopDisk.load({ directory, newGuid });
  await disk.finishMerges();
  const reopened = await disk.open({ extendBytes: 1 });
  const found = await bytes(reopened, ...clusters);
  await reopened.close();
  for (const { report } of await disk.check({ force: true })) expect(report.result).toBe("clean");
  return found;
}

beforeEach(async () => {
  directory = new MemoryDirectory();
  const image = { version: 2 as const, sizeSectors: 1024, clusterSectors: 64 };
  disk = await PloopDisk.create({ directory, newGuid, file: "root.hds", image });
  device = await disk.open({ extendBytes: 1 });
  guids = [];
  for (let level = 0; level < 4; level++) {
    if (level > 0) guids.push(await disk.snapshot({ device }));
    await fill(level, level + 1);
    await fill(8, level + 11);
  }
});

describe("the descriptor follows", () => {
  test("a merge of the newest snapshot: what is discarded afterwards does not come back", async () => {
    for (let left = 3; left > 0; left--) await send("merge");
    await device.discard(0, BLOCKS);
    expect(await again(0, 1, 2, 3, 8)).toEqual([0, 2, 3, 4, 14]);
    expect(disk.descriptor.images).toHaveLength(1);
  });

  test("a snapshot whose top the caller made", async () => {
    const file = await directory.create("mine.hds");
    await createImage(file, { version: 2, sizeSectors: 1024, clusterSectors: 64 });
    await file.close();
    await send("snapshot", "old", "mine.hds");
    await fill(5, 50);
    expect(disk.descriptor.images.at(-1)?.file).toBe("mine.hds");
    expect(await again(3, 5, 8)).toEqual([4, 50, 14]);
    expect(disk.chain()).toHaveLength(5);
  });

  test("merges below the top that the caller did", async () => {
    const files = disk.chain().map(({ file }) => file);
    const { mergeImages } = await import("../src/image/offline.ts");
    const merge = async (source: string, target: string, onlyMissing: boolean): Promise<void> => {
      const [from, to] = [
        await directory.open(source, { readOnly: true }),
        await directory.open(target, { readOnly: false }),
      ];
      await mergeImages({ sources: [from], target: to, onlyMissing });
    };
    await merge(files[1] as string, files[0] as string, false);
    await send("notify_merged_backward", "1");
    expect(disk.chain().map(({ file }) => file)).toEqual([files[0], files[2], files[3]]);
    expect(disk.chain()[0]?.guid).toBe(guids[1]);
    await merge(files[0] as string, files[2] as string, true);
    await send("notify_merged_forward", "0");
    expect(disk.chain().map(({ file }) => file)).toEqual([files[2], files[3]]);
    expect(await again(0, 1, 2, 3, 8)).toEqual([1, 2, 3, 4, 14]);
  });

  test("growth; what a branch needs stays", async () => {
    await send("resize", "2048");
    expect(disk.descriptor.sizeSectors).toBe(2048);
    await expect(send("add_delta", "x")).rejects.toEqual(refuses("EBUSY"));
    await device.close();
    await disk.switchTo(guids[2] as string, { keep: true });
    device = await disk.open({ extendBytes: 1 });
    await expect(send("merge")).rejects.toEqual(refuses("EBUSY"));
    await device.close();
  });
});

test("a partial backup of what a bitmap has saves that, and a backup given up gives the bits back", async () => {
  device.bitmaps.start({ uuid: CBT, sizeSectors: 1024, granularity: 64 });
  await fill(2, 22);
  await fill(5, 55);
  await device.suspend();
  await send("push_backup_start", UUID, `bitmap:${CBT}`, "30");
  device.resume();
  await fill(0, 99);
  const held = fill(5, 56);
  expect(await send("push_backup_read", UUID)).toBe("5:1");
  expect(await bytes(device, 5)).toEqual([55]);
  await send("push_backup_write", UUID, "5:1");
  await held;
  await send("push_backup_stop", UUID);
  // Cluster 2 was not saved: all counts as changed again.
  expect(device.bitmaps.get(CBT).ranges()).toEqual(
    [0, 2, 5].map((cluster) => ({ startSector: cluster * 64, sectors: 64 })),
  );
  await device.suspend();
  await send("push_backup_start", UUID, `bitmap:${CBT}`, "30");
  device.resume();
  for (const cluster of [0, 2, 5]) await send("push_backup_write", UUID, `${cluster}:1`);
  expect(await send("push_backup_read", UUID)).toBe("");
  await send("push_backup_stop", UUID);
  expect(device.bitmaps.get(CBT).ranges()).toEqual([]);
});

test("a mask may come from a file", async () => {
  const mask = await directory.create("mask");
  await mask.write(0, new Uint8Array(512));
  await device.suspend();
  await expect(send("push_backup_start", UUID, "file:mask", "30")).rejects.toEqual(refuses("EFAULT"));
  await expect(send("push_backup_start", UUID, "file:none", "30")).rejects.toEqual(refuses("ENOENT"));
  await expect(send("push_backup_start", UUID, `bitmap:${CBT}`, "30")).rejects.toEqual(refuses("ENOENT"));
});

test("images that do not fit are refused with the kernel's errno, and the reason", async () => {
  const { PloopDevice } = await import("../src/device/ploop-device.ts");
  const { sendMessage } = await import("../src/device/messages.ts");
  const fresh = await PloopDevice.open({ deltas: [{ file: await memoryImage("top") }], extendBytes: 1 });
  const add = async (file: DeviceFile): Promise<unknown> =>
    sendMessage(fresh, ["add_delta", file.name], { openFile: async () => file }).catch((error: unknown) => error);
  const bad = async (words: Record<number, number>): Promise<DeviceFile> => {
    const file = await memoryImage("bad");
    await file.setLength(4 * CLUSTER);
    await poke(file, words);
    return file;
  };
  expect(await add(await memoryFile("empty"))).toEqual(refuses("ENODATA"));
  expect(await add(await bad({ 0: 1 }))).toEqual(refuses("EPROTO"));
  expect(await add(await bad({ 64: 9 }))).toEqual(refuses("EPROTO"));
  expect(await add(await memoryImage("other", { clusterSectors: 128 }))).toEqual(refuses("EPROTO"));
  expect(await add(await memoryImage("large", { sizeSectors: 4096 }))).toEqual(refuses("EBADSLT"));
  const twoClusters = await memoryImage("inside", { sizeSectors: 64 });
  await twoClusters.setLength(2 * CLUSTER);
  expect(await add(twoClusters)).toBe("");
  const found = (await add(await bad({ 44: 7 }))) as Error;
  expect(found.message).toMatch(/add_delta: bad: in-use word is 7, .*run a check of the image \(EPROTO\)/);
  await fresh.close();
});
