/** Dirty bitmaps over the life of a disk. */
import { isVdoError, Random } from "@vdo/base";
import { describe, expect, test } from "vitest";
import { PloopDevice } from "../src/device/ploop-device.ts";
import { PloopDisk } from "../src/disk/ploop-disk.ts";
import type { ImageFile } from "../src/file/image-file.ts";
import { IN_USE } from "../src/format/header.ts";
import { checkImage } from "../src/image/check.ts";
import { Delta } from "../src/image/delta.ts";
import { DirtyBitmap } from "../src/image/dirty-bitmap.ts";
import { loadExtension } from "../src/image/extension-store.ts";
import { contentOf, memoryImage, poke } from "./support/images.ts";
import { MemoryDirectory } from "./support/memory-directory.ts";

const CLUSTER = 32768;
const UUID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const OTHER = "11111111-2222-3333-4444-555555555555";
const filled = (value: number, length = CLUSTER): Uint8Array => new Uint8Array(length).fill(value);
const open = (file: ImageFile): Promise<PloopDevice> => PloopDevice.open({ deltas: [{ file }], extendBytes: 1 });
const start = (device: PloopDevice, uuid = UUID): DirtyBitmap =>
  device.bitmaps.start({ uuid, sizeSectors: device.engine.top.header.sizeSectors, granularity: 64 });
const rangesOf = async (file: ImageFile): Promise<unknown> =>
  (await loadExtension(await Delta.open(file))).bitmaps.map(({ uuid, ...bitmap }) => [uuid, bitmap]);

async function marked(file: ImageFile, uuid = UUID): Promise<number[] | undefined> {
  const { bitmaps } = await loadExtension(await Delta.open(file));
  const bitmap = bitmaps.find((one) => one.uuid === uuid);
  return bitmap?.ranges().flatMap(({ startSector, sectors }) => [startSector, sectors]);
}

describe("a dirty bitmap", () => {
  test("has every part that was written, zeroed or discarded, and no other", () => {
    const random = new Random(8);
    for (let round = 0; round < 50; round++) {
      const sizeSectors = 1 + random.below(3000);
      const granularity = 2 ** random.below(6);
      const bitmap = new DirtyBitmap({ uuid: UUID, sizeSectors, granularity });
      const model = new Set<number>();
      for (let i = 0; i < 10; i++) {
        const first = random.below(sizeSectors);
        const count = 1 + random.below(Math.min(100, sizeSectors - first));
        bitmap.mark(first, count);
        for (let sector = first; sector < first + count; sector++) model.add(Math.floor(sector / granularity));
      }
      const found = new Set<number>();
      for (const { startSector, sectors } of bitmap.ranges()) {
        for (let s = startSector; s < startSector + sectors; s++) found.add(Math.floor(s / granularity));
      }
      expect([...found].sort((a, b) => a - b)).toEqual([...model].sort((a, b) => a - b));
      const again = DirtyBitmap.from({ uuid: UUID, sizeSectors, granularity }, bitmap.bytes);
      expect(again.ranges()).toEqual(bitmap.ranges());
    }
  });

  test("is kept over stop and start, and invalid after a crash", async () => {
    const file = await memoryImage("a");
    let device = await open(file);
    start(device);
    await device.write(64, filled(1));
    await device.close();
    expect((await Delta.open(file)).header.inUse).toBe(IN_USE.extended);
    expect(await marked(file)).toEqual([64, 64]);
    device = await open(file);
    expect((await Delta.open(file)).header).toMatchObject({ inUse: IN_USE.open, extensionOffset: 0 });
    await device.write(640, filled(2, 512));
    await device.discard(128, 64);
    await device.writeZeroes(1000, 8);
    await device.close();
    expect(await marked(file)).toEqual([64, 128, 640, 64, 960, 64]);
    expect((await checkImage(file, { force: true })).result).toBe("clean");
    device = await open(file);
    // The power goes: the next one to open it finds no bitmap.
    expect(await rangesOf(file)).toEqual([]);
    const again = await open(file);
    expect(again.bitmaps.list).toEqual([]);
    await again.close();
  });

  test("is taken at the beginning of a backup, gives its mask, and goes when it is dropped", async () => {
    const file = await memoryImage("a");
    const device = await open(file);
    start(device);
    start(device, OTHER);
    await device.write(64, filled(1, 3 * CLUSTER));
    expect([...(device.bitmaps.get(UUID).clusterMask(64) ?? [])]).toEqual([0b1110, 0, 0, 0]);
    expect(device.bitmaps.take(UUID)).toEqual([{ startSector: 64, sectors: 192 }]);
    await device.write(0, filled(2));
    device.bitmaps.drop(OTHER);
    expect(() => start(device)).toThrow(expect.objectContaining({ data: { operation: "bitmap", errno: "EEXIST" } }));
    expect(() => device.bitmaps.get(OTHER)).toThrow(expect.objectContaining({ code: "VDO_PLOOP_REFUSED" }));
    await device.close();
    expect(await marked(file)).toEqual([0, 64]);
    expect(await marked(file, OTHER)).toBeUndefined();
  });

  test("of a disk that grows counts what is new as changed", async () => {
    const file = await memoryImage("a");
    const device = await open(file);
    start(device);
    const { resizeTop } = await import("../src/device/operations/resize.ts");
    await resizeTop(device, 4096);
    device.reloadLength();
    await device.close();
    expect(await marked(file)).toEqual([2048, 2048]);
  });

  test("that is damaged is given up with a warning, and a check takes it away", async () => {
    const file = await memoryImage("a");
    let device = await open(file);
    start(device);
    await device.close();
    const { extensionOffset } = (await Delta.open(file)).header;
    await poke(file, { [extensionOffset * 512 + 60]: 0xdeadbeef });
    const report = await checkImage(file, { force: true });
    expect(report.findings).toEqual([
      expect.objectContaining({
        place: "format extension",
        outcome: "Fixed",
        text: expect.stringContaining("checksum"),
      }),
    ]);
    expect((await checkImage(file, { force: true })).result).toBe("clean");
    device = await open(file);
    start(device);
    await device.close();
    for (const offset of [0, 1, 64, 1 << 20]) {
      await poke(file, { 44: IN_USE.extended, 56: offset });
      const warnings: string[] = [];
      device = await PloopDevice.open({ deltas: [{ file }], extendBytes: 1, onWarning: (text) => warnings.push(text) });
      expect([device.bitmaps.list.length, warnings.length]).toEqual([0, offset === 0 ? 0 : 1]);
      if (offset > 0) expect(warnings[0]).toMatch(/a: extension .*next backup has to be a full one/);
      await device.close();
    }
  });
});

test("snapshots, merges and conversions at rest carry the bitmap along; going back gives it up", async () => {
  let count = 0;
  const newGuid = (): string => `{00000000-0000-4000-8000-${String(++count).padStart(12, "0")}}`;
  const directory = new MemoryDirectory();
  const image = { version: 2 as const, sizeSectors: 1024, clusterSectors: 64 };
  const disk = await PloopDisk.create({ directory, newGuid, file: "a.hds", image });
  const top = (): Promise<ImageFile> => directory.open(disk.chain().at(-1)?.file as string, { readOnly: true });
  let device = await disk.open({ extendBytes: 1 });
  start(device);
  await device.write(64, filled(1));
  await device.close();
  const guid = await disk.snapshot();
  expect(await marked(await top())).toEqual([64, 64]);
  device = await disk.open({ extendBytes: 1 });
  await device.write(256, filled(2));
  await device.close();
  await disk.convertVersion(1);
  expect(await marked(await top())).toEqual([64, 64, 256, 64]);
  await disk.deleteSnapshot(guid);
  expect(await marked(await top())).toEqual([64, 64, 256, 64]);
  await disk.grow(2048);
  expect(await marked(await top())).toEqual([64, 64, 256, 64, 1024, 1024]);
  // What the snapshot's own file remembers is of another time: once it is the top again, it does not count.
  const second = await disk.snapshot();
  expect(second).toMatch(/^\{/);
  await disk.deleteSnapshot(disk.descriptor.topGuid);
  expect(await marked(await top())).toBeUndefined();
  expect((await contentOf(await top())).length % CLUSTER).toBe(0);
});

test("an element that must not be passed over keeps the image from being written", async () => {
  const { encodeExtension } = await import("../src/format/extension.ts");
  const file = await memoryImage("a");
  const device = await open(file);
  await device.close();
  const put = async (flags: bigint): Promise<void> => {
    const cluster = encodeExtension([{ magic: 77n, flags, data: new Uint8Array(8).fill(3) }], CLUSTER) as Uint8Array;
    await file.write(CLUSTER, cluster);
    await poke(file, { 44: IN_USE.extended, 56: 64 });
  };
  await put(1n);
  await expect(open(file)).rejects.toSatisfy(
    (error) => isVdoError(error, "VDO_CORRUPT") && error.data.field === "extension element",
  );
  const reader = await PloopDevice.open({ deltas: [{ file }], readOnly: true });
  await reader.close();
  await put(2n);
  await (await open(file)).close();
  expect((await loadExtension(await Delta.open(file))).kept).toHaveLength(1);
  await put(0n);
  await (await open(file)).close();
  expect((await Delta.open(file)).header.inUse).toBe(IN_USE.closed);
});
