/**
 * The scenarios that matter most, as far as no other file has them:
 *
 *      1 headers: src/format/header.test.ts          9 growing: operations.test.ts, history.test.ts
 *      2 QEMU's images, refusals: judges, bad-input 10 offline merge, cut at every step: disk.test.ts
 *      3 random requests: compliance, judges        11 online merges: operations.test.ts
 *      4 zeros: here                                12 exchange and reverse merge, cut at every step: here
 *      5 stacks, lower files untouched: golden      13 life of a disk: disk.test.ts
 *      6 discard: here                              14 tracking, push backup: operations.test.ts
 *      7 many at once: here                         15 in-use mark: bad-input, check.test.ts
 *      8 power cuts: history.test.ts
 */
import { isZero, Random } from "@vdo/base";
import { describe, expect, test } from "vitest";
import { mergeIntoTop } from "../src/device/operations/merge.ts";
import { clearShared, flipUpperDeltas } from "../src/device/operations/stack.ts";
import { PloopDevice } from "../src/device/ploop-device.ts";
import type { DeviceFile } from "../src/file/device-file.ts";
import { checkImage } from "../src/image/check.ts";
import { createImage } from "../src/image/create.ts";
import { contentOf, entriesOf, memoryImage } from "./support/images.ts";
import { MemoryDirectory } from "./support/memory-directory.ts";

const CLUSTER = 32768;
const BLOCKS = 64;
const filled = (value: number, length = CLUSTER): Uint8Array => new Uint8Array(length).fill(value);

async function open(...files: DeviceFile[]): Promise<PloopDevice> {
  return PloopDevice.open({ deltas: files.map((file) => ({ file })), extendBytes: 1 });
}

async function readCluster(device: PloopDevice, cluster: number): Promise<Uint8Array> {
  const data = new Uint8Array(CLUSTER);
  await device.read(cluster * BLOCKS, data);
  return data;
}

describe("zeros", () => {
  test("cost nothing where nothing is, and reused clusters show nothing old", async () => {
    const file = await memoryImage("a");
    const device = await open(file);
    await device.write(0, filled(0));
    await device.writeZeroes(3 * BLOCKS, 2 * BLOCKS);
    expect(file.length).toBe(CLUSTER);
    for (const cluster of [5, 6, 7]) await device.write(cluster * BLOCKS, filled(cluster));
    await device.discard(6 * BLOCKS, BLOCKS);
    await device.write(9 * BLOCKS + 3, filled(9, 512));
    expect(await entriesOf(file)).toEqual({ 5: 1, 9: 2, 7: 3 });
    const reused = await readCluster(device, 9);
    expect(reused.subarray(3 * 512, 4 * 512).every((byte) => byte === 9)).toBe(true);
    expect(isZero(reused.subarray(0, 3 * 512)) && isZero(reused.slice(4 * 512))).toBe(true);
  });

  test("are written where a lower delta has something, and stay when the deltas are merged", async () => {
    const [base, top] = [await memoryImage("base"), await memoryImage("top")];
    const first = await open(base);
    await first.write(0, filled(1, 2 * CLUSTER));
    await first.close();
    const device = await open(base, top);
    await device.write(0, filled(0));
    await device.writeZeroes(BLOCKS, 8);
    await mergeIntoTop(device);
    expect(isZero(await readCluster(device, 0))).toBe(true);
    const second = await readCluster(device, 1);
    expect([isZero(second.slice(0, 4096)), second[4096]]).toEqual([true, 1]);
  });
});

describe("discard", () => {
  test("of parts of clusters is ignored; the lowest free cluster is taken next", async () => {
    const file = await memoryImage("a");
    const device = await open(file);
    for (const cluster of [0, 1, 2, 3]) await device.write(cluster * BLOCKS, filled(cluster + 1));
    await device.discard(1, 2 * BLOCKS - 2);
    expect(await entriesOf(file)).toEqual({ 0: 1, 1: 2, 2: 3, 3: 4 });
    await device.discard(1, 3 * BLOCKS - 1);
    expect(await entriesOf(file)).toEqual({ 0: 1, 3: 4 });
    await device.write(9 * BLOCKS, filled(9));
    expect((await entriesOf(file))[9]).toBe(2);
    await device.close();
    expect(file.length).toBe(5 * CLUSTER);
  });

  test("above another delta does not bring its data back", async () => {
    const [base, top] = [await memoryImage("base"), await memoryImage("top")];
    const first = await open(base);
    await first.write(0, filled(1, 2 * CLUSTER));
    await first.close();
    const before = await contentOf(base);
    const device = await open(base, top);
    await device.write(0, filled(2));
    await device.discard(0, 2 * BLOCKS);
    expect(isZero(await readCluster(device, 0))).toBe(true);
    expect((await readCluster(device, 1))[0]).toBe(1);
    await device.close();
    expect(Buffer.compare(before, await contentOf(base))).toBe(0);
  });
});

test("where the host can punch holes, discards give their space back; after a failure they do without", async () => {
  for (const fails of [false, true]) {
    const [base, top] = [await memoryImage("base"), await memoryImage("top")];
    const ranges: { offset: number; length: number }[] = [];
    const warnings: string[] = [];
    const holed = (file: DeviceFile): DeviceFile => {
      const punch = async (list: readonly { offset: number; length: number }[]): Promise<void> => {
        if (fails) throw new Error("not supported");
        ranges.push(...list);
        for (const { offset, length } of list) await file.zero(offset, length);
      };
      return Object.assign(file, { punch });
    };
    const onWarning = (text: string): number => warnings.push(text);
    const first = await PloopDevice.open({ deltas: [{ file: holed(base) }], extendBytes: 1, onWarning });
    await first.write(0, filled(1, 8 * CLUSTER));
    await first.discard(2 * BLOCKS, 3 * BLOCKS);
    await first.discard(7 * BLOCKS, BLOCKS);
    await first.close();
    const deltas = [{ file: base }, { file: holed(top) }];
    const device = await PloopDevice.open({ deltas, extendBytes: 1, onWarning });
    await device.write(0, filled(2, 2 * CLUSTER));
    await device.discard(0, 2 * BLOCKS);
    expect(isZero(await readCluster(device, 1))).toBe(true);
    await device.close();
    const punched = [
      { offset: 3 * CLUSTER, length: 3 * CLUSTER },
      { offset: 8 * CLUSTER, length: CLUSTER },
      { offset: CLUSTER, length: 2 * CLUSTER },
    ];
    expect(ranges).toEqual(fails ? [] : punched);
    expect(warnings).toHaveLength(fails ? 2 : 0);
  }
});

describe("many at once", () => {
  test("writers on one new cluster share it; each finds its data", async () => {
    const file = await memoryImage("a");
    const device = await open(file);
    await Promise.all(Array.from({ length: BLOCKS }, (_, block) => device.write(block, filled(block + 1, 512))));
    const data = await readCluster(device, 0);
    for (let block = 0; block < BLOCKS; block++) expect(data[block * 512]).toBe(block + 1);
    expect(await entriesOf(file)).toEqual({ 0: 1 });
  });

  test("a cluster is copied once for many writers, and readers meanwhile see old or new data", async () => {
    const [base, top] = [await memoryImage("base"), await memoryImage("top")];
    const first = await open(base);
    await first.write(0, filled(200));
    await first.close();
    const device = await open(base, top);
    const reads: Promise<void>[] = [];
    const writes = Array.from({ length: 32 }, async (_, block) => {
      await device.write(block, filled(block + 1, 512));
      const data = await readCluster(device, 0);
      expect(data[block * 512]).toBe(block + 1);
    });
    for (let i = 0; i < 32; i++) {
      reads.push(
        readCluster(device, 0).then((data) => {
          for (let block = 0; block < BLOCKS; block++) {
            const value = data[block * 512] as number;
            expect(value === 200 || (block < 32 && value === block + 1)).toBe(true);
          }
        }),
      );
    }
    await Promise.all([...writes, ...reads]);
    expect(await entriesOf(top)).toEqual({ 0: 1 });
  });

  test("discards and writes of one cluster leave either, whole, and nothing leaks", async () => {
    const file = await memoryImage("a");
    const device = await open(file);
    const random = new Random(3);
    for (let round = 0; round < 60; round++) {
      const acts = Array.from({ length: 6 }, (_, i) =>
        random.chance(0.5) ? device.discard(0, BLOCKS) : device.write(0, filled(i + 1)),
      );
      await Promise.all([...acts, device.flush()]);
      const data = await readCluster(device, 0);
      expect(data.every((byte) => byte === data[0])).toBe(true);
    }
    await device.close();
    expect(await checkImage(file, { force: true })).toMatchObject({ result: "clean", unusedClusters: 0 });
  });
});

test("exchange of the upper deltas and the merge after it, cut at every step, keep the content", async () => {
  for (let cutAt = 0; ; cutAt++) {
    const directory = new MemoryDirectory();
    for (const name of ["base", "top"]) {
      const file = await directory.create(name);
      await createImage(file, { version: 2, sizeSectors: 1024, clusterSectors: 64 });
    }
    const stack = async (names: readonly string[], readOnly = false): Promise<PloopDevice> => {
      const files = await Promise.all(names.map((name) => directory.open(name, { readOnly })));
      return PloopDevice.open({ deltas: files.map((file) => ({ file })), extendBytes: 1 });
    };
    const first = await stack(["base"]);
    await first.write(0, filled(1, 6 * CLUSTER));
    await first.close();
    const device = await stack(["base", "top"]);
    await device.write(4 * BLOCKS, filled(2, 4 * CLUSTER));
    await device.flush();
    const expected = [1, 1, 1, 1, 2, 2, 2, 2, 0];
    directory.cutAt = directory.changes + cutAt;
    let order = ["base", "top"];
    const isDone = await (async () => {
      await device.suspend();
      device.noResume = true;
      await clearShared(device);
      await flipUpperDeltas(device);
      order = ["top", "base"];
      device.noResume = false;
      device.resume();
      await mergeIntoTop(device);
      order = ["base"];
      return true;
    })().catch(() => false);
    directory.powerOn();
    for (const name of order) {
      const file = await directory.open(name, { readOnly: false });
      expect((await checkImage(file, { force: true, dropInUse: true })).result).toMatch(/clean|repaired/);
    }
    const again = await stack(order, true);
    const found = await Promise.all(expected.map(async (_, cluster) => (await readCluster(again, cluster))[5]));
    expect(found, `cut at ${cutAt}`).toEqual(expected);
    if (isDone) break;
    expect(cutAt).toBeLessThan(100);
  }
});
