import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes, firstDifference, Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PloopDevice } from "../src/device/ploop-device.ts";
import { PloopDisk } from "../src/disk/ploop-disk.ts";
import { NodeDirectory } from "../src/file/node-directory.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { DESCRIPTOR_NAME, formatDescriptor, parseDescriptor } from "../src/format/descriptor.ts";
import { checkImage } from "../src/image/check.ts";
import { createImage } from "../src/image/create.ts";
import { goldenContent, unpackGolden } from "./support/golden.ts";
import { imageOptions, ploop, qemuBitmap, qemuContent, qemuImg, qemuIo, scratch } from "./support/judges.ts";

const MIB = 1 << 20;
const newGuid = (): string => `{${randomUUID()}}`;
const runner = { describe, test };

let folder = "";
let remove = async (): Promise<void> => undefined;

const load = (): Promise<PloopDisk> => PloopDisk.load({ directory: new NodeDirectory(folder), newGuid });
const files = (disk: PloopDisk): string[] => disk.chain().map(({ file }) => file);

async function contentOf(device: PloopDevice): Promise<Uint8Array> {
  const content = new Uint8Array(device.blockCount * device.blockSize);
  await device.read(0, content);
  await device.close();
  return content;
}

/** Random writes, some over the edges of clusters, into the device and the model. */
async function scribble(device: PloopDevice, model: Uint8Array, seed: number): Promise<void> {
  const random = new Random(seed);
  for (let i = 0; i < 40; i++) {
    const sectors = 1 + random.below(700);
    const start = random.below(model.length / 512 - sectors);
    const data = random.fill(new Uint8Array(sectors * 512));
    await device.write(start, data);
    model.set(data, start * 512);
  }
}

/** Every image of the disk is clean for the original, which looks at duplicates too, and for QEMU. */
async function checkByJudges(disk: PloopDisk): Promise<void> {
  for (const file of files(disk)) {
    // -S: 1.15 served a kernel that could not run sparse files; today's can, and makes them.
    await ploop(folder, "check", "-f", "-S", file);
    expect(await qemuImg("check", "-f", "parallels", join(folder, file))).toContain("No errors were found");
  }
}

describeWith(
  ["ploop", "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo"],
  "images and stacks, judged by ploop 1.15 and QEMU",
  () => {
    beforeEach(async () => {
      ({ folder, remove } = await scratch());
    });
    afterEach(() => remove());

    test.each([
      ["16M", 64],
      ["16M", 2048],
      ["255M", 64],
      ["500M", 2048],
    ])(
      "a new image of %s, clusters of %i sectors, is the original's byte for byte, and so is its descriptor",
      async (size, cluster) => {
        await ploop(folder, "init", "-s", size, "-b", String(cluster), "-t", "none", "theirs.hds");
        const theirs = await readFile(join(folder, "theirs.hds"));
        const file = await NodeFile.open(join(folder, "ours.hds"), "wx+");
        await createImage(file, { version: 1, sizeSectors: Number.parseInt(size, 10) * 2048, clusterSectors: cluster });
        await file.close();
        expect(firstDifference(await readFile(join(folder, "ours.hds")), theirs)).toBe(-1);
        const text = await readFile(join(folder, DESCRIPTOR_NAME), "utf8");
        const again = formatDescriptor(parseDescriptor(text, "theirs"));
        expect(again.replaceAll("Virtuozzo_disk_image", "Parallels_disk_image")).toBe(text);
      },
    );

    test.each([
      [1, 2048, "expanded"],
      [1, 64, "expanded"],
      [2, 2048, "expanded"],
      [2, 64, "expanded"],
      [2, 512, "preallocated"],
    ] as const)(
      "an image of ours (version %i, cluster %i, %s) is clean for them, and holds our data",
      async (version, clusterSectors, mode) => {
        const disk = await PloopDisk.create({
          directory: new NodeDirectory(folder),
          newGuid,
          file: "a.hds",
          image: { version, sizeSectors: 32 * 2048, clusterSectors, mode },
        });
        const model = new Uint8Array(32 * MIB);
        const device = await disk.open();
        await scribble(device, model, 1);
        await device.discard(8 * 2048, 4 * 2048);
        const around = new Uint8Array(4 * MIB);
        await device.read(8 * 2048, around);
        model.set(around, 8 * MIB);
        await scribble(device, model, 2);
        await device.close();
        await checkByJudges(disk);
        expect(firstDifference(await qemuContent(folder, ["a.hds"]), model)).toBe(-1);
        expect(await ploop(folder, "info", "-s", DESCRIPTOR_NAME)).toContain(`fmt_version:\t${version}`);
      },
    );

    test.each(["65536", "1048576"])(
      "an image that QEMU made (cluster %s) is written here and read there",
      async (size) => {
        const path = join(folder, "q.hds");
        await qemuImg("create", "-f", "parallels", "-o", `cluster_size=${size}`, path, "24M");
        await qemuIo(path, "write -P 5 3M 2M", "write -P 6 100k 50k");
        const model = new Uint8Array(24 * MIB);
        model.fill(5, 3 * MIB, 5 * MIB).fill(6, 100 << 10, 150 << 10);
        const device = await PloopDevice.open({ deltas: [{ file: await NodeFile.open(path, "r+") }] });
        await scribble(device, model, 3);
        await device.close();
        expect(firstDifference(await qemuContent(folder, ["q.hds"]), model)).toBe(-1);
        expect(await qemuImg("check", "-f", "parallels", path)).toContain("No errors were found");
        await qemuIo(path, "write -P 7 20M 1M");
        model.fill(7, 20 * MIB, 21 * MIB);
        const again = await PloopDevice.open({ deltas: [{ file: await NodeFile.open(path, "r") }] });
        expect(firstDifference(await contentOf(again), model)).toBe(-1);
      },
    );

    test("their stack runs here, and ours is merged there", async () => {
      await remove();
      ({ folder, remove } = await unpackGolden());
      const disk = await load();
      const model = goldenContent();
      const device = await disk.open();
      await scribble(device, model, 4);
      const guid = await disk.snapshot({ device });
      await scribble(device, model, 5);
      await device.close();
      await checkByJudges(disk);
      expect(firstDifference(await qemuContent(folder, files(disk)), model)).toBe(-1);
      const list = await ploop(folder, "snapshot-list", "-H", "-o", "uuid", DESCRIPTOR_NAME);
      expect(list.trim().split(/\s+/)).toEqual(disk.descriptor.shots.map((shot) => shot.guid));
      // The original merges a snapshot of ours, and makes one itself.
      await ploop(folder, "snapshot-delete", "-u", guid, DESCRIPTOR_NAME);
      await ploop(folder, "snapshot", DESCRIPTOR_NAME);
      const again = await load();
      expect(again.descriptor.images).toHaveLength(4);
      expect(firstDifference(await contentOf(await again.open({ readOnly: true })), model)).toBe(-1);
    });

    test("QEMU writes into a stack of ours, over a raw base too, and it is merged here", async () => {
      const disk = await PloopDisk.create({
        directory: new NodeDirectory(folder),
        newGuid,
        file: "base.raw",
        image: { version: 2, sizeSectors: 16 * 2048, clusterSectors: 128, mode: "raw" },
      });
      const model = new Uint8Array(16 * MIB);
      const first = await disk.snapshot();
      for (const seed of [6, 7]) {
        const device = await disk.open();
        await scribble(device, model, seed);
        await device.close();
        if (seed === 6) await disk.snapshot();
      }
      const paths = files(disk).map((file) => join(folder, file));
      await qemuIo(imageOptions(paths, { rawBase: true }), "write -P 9 5M 100k", "write -P 8 15M 1M");
      model.fill(9, 5 * MIB, 5 * MIB + (100 << 10)).fill(8, 15 * MIB);
      expect(firstDifference(await qemuContent(folder, files(disk), { rawBase: true }), model)).toBe(-1);
      expect(firstDifference(await contentOf(await disk.open({ readOnly: true })), model)).toBe(-1);
      await disk.deleteSnapshot(first);
      expect(firstDifference(await qemuContent(folder, files(disk), { rawBase: true }), model)).toBe(-1);
      const device = await disk.open();
      await disk.deleteSnapshot(
        disk.descriptor.shots.find(({ guid }) => guid !== disk.descriptor.topGuid)?.guid ?? "",
        { device },
      );
      await device.close();
      expect(disk.descriptor.mode).toBe("expanded");
      expect(firstDifference(await qemuContent(folder, files(disk)), model)).toBe(-1);
      await checkByJudges(disk);
    });

    test("an image grown here across an edge of its BAT is clean there", async () => {
      const disk = await PloopDisk.create({
        directory: new NodeDirectory(folder),
        newGuid,
        file: "g.hds",
        image: { version: 1, sizeSectors: 255 * 2048, clusterSectors: 64 },
      });
      const device = await disk.open();
      for (const cluster of [0, 1, 3200]) await device.write(cluster * 64, new Uint8Array(32768).fill(cluster + 1));
      await disk.grow(300 * 2048, { device });
      await device.write(9568 * 64, new Uint8Array(32768).fill(77));
      await device.close();
      await checkByJudges(disk);
      const content = await qemuContent(folder, ["g.hds"]);
      expect([0, 1, 3200, 9568, 2].map((cluster) => content[cluster * 32768])).toEqual([1, 2, 3201 & 0xff, 77, 0]);
    });

    test.each([64, 2048])("a dirty bitmap of ours (cluster %i) is QEMU's, bit for bit", async (clusterSectors) => {
      const uuid = randomUUID();
      const disk = await PloopDisk.create({
        directory: new NodeDirectory(folder),
        newGuid,
        file: "b.hds",
        image: { version: 2, sizeSectors: 16 * 2048, clusterSectors },
      });
      const device = await disk.open();
      const bitmap = device.bitmaps.start({ uuid, sizeSectors: 16 * 2048 });
      for (const part of [0, 2, 3, 31]) await device.write(part * 128 + 5, new Uint8Array(512).fill(1));
      await device.close();
      expect(await qemuBitmap(folder, "b.hds", uuid)).toEqual([
        [0, 65536],
        [131072, 131072],
        [2031616, 65536],
      ]);
      // All of it, and, after a write through QEMU, nothing.
      expect(bitmap.ranges()).toHaveLength(3);
      const again = await disk.open();
      again.bitmaps.get(uuid).markAll();
      await again.close();
      expect(await qemuBitmap(folder, "b.hds", uuid)).toEqual([[0, 16 * MIB]]);
      await qemuIo(join(folder, "b.hds"), "write -P 1 0 64k");
      const last = await disk.open();
      expect(last.bitmaps.list).toEqual([]);
      await last.close();
      await checkByJudges(disk);
    });

    test("damage is seen by both: what they refuse, our check refuses", async () => {
      await ploop(folder, "init", "-s", "16M", "-b", "64", "-t", "none", "a.hds");
      const path = join(folder, "a.hds");
      await qemuIo(path, "write -P 1 0 64k");
      const file = await NodeFile.open(path, "r+");
      const page = new Uint8Array(4096);
      await file.read(0, page);
      for (const word of [64, 64 * 999, 65, 32]) {
        const bad = page.slice();
        new DataView(bad.buffer).setUint32(64 + 4 * 7, word, true);
        await file.write(0, bad);
        const ours = await checkImage(file, { force: true });
        const theirs = await ploop(folder, "check", "-f", "a.hds").then(
          () => true,
          () => false,
        );
        // An entry inside header and BAT, or used twice, is found by us always, by them only where they look.
        if (!theirs) expect(ours.result).toBe("damaged");
        expect(ours.result).toBe("damaged");
      }
      await file.write(0, page);
      expect((await checkImage(file, { force: true })).result).toBe("clean");
      await file.close();
      expect(equalBytes((await readFile(path)).subarray(0, 4096), page)).toBe(true);
    });
  },
  runner,
);
