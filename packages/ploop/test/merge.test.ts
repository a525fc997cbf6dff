/** Merges of a running disk between files that it reads, and the reverse merge. */
import { Random } from "@vdo/base";
import { expect, test } from "vitest";
import type { PloopDevice } from "../src/device/ploop-device.ts";
import { PloopDisk } from "../src/disk/ploop-disk.ts";
import { TOP_GUID } from "../src/format/descriptor.ts";
import { MemoryDirectory } from "./support/memory-directory.ts";

const CLUSTER = 32768;
const BLOCKS = 64;

/** A disk with a model of it: one byte for each cluster. */
class Bench {
  readonly directory = new MemoryDirectory();
  readonly model: number[] = [];
  readonly random = new Random(11);
  disk!: PloopDisk;
  #count = 0;
  #running = false;
  #load: Promise<void> = Promise.resolve();

  readonly newGuid = (): string => `{00000000-0000-4000-8000-${String(++this.#count).padStart(12, "0")}}`;

  static async create(clusters: number): Promise<Bench> {
    const bench = new Bench();
    const { directory, newGuid } = bench;
    const image = { version: 2 as const, sizeSectors: clusters * BLOCKS, clusterSectors: BLOCKS };
    bench.disk = await PloopDisk.create({ directory, newGuid, file: "root.hds", image });
    return bench;
  }

  open(): Promise<PloopDevice> {
    return this.disk.open({ extendBytes: 1, mapPagesMax: 4 });
  }

  async load(): Promise<void> {
    const { directory, newGuid } = this;
    this.disk = await PloopDisk.load({ directory, newGuid });
  }

  async write(device: PloopDevice, cluster: number, value: number): Promise<void> {
    await device.write(cluster * BLOCKS, new Uint8Array(CLUSTER).fill(value));
    this.model[cluster] = value;
  }

  startLoad(device: PloopDevice, clusters: readonly number[]): void {
    this.#running = true;
    this.#load = (async () => {
      for (let value = 100; this.#running; value = value === 250 ? 100 : value + 1) {
        await this.write(device, this.random.pick(clusters), value);
        await this.verify(device);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
  }

  async stopLoad(): Promise<void> {
    this.#running = false;
    await this.#load;
  }

  async verify(device: PloopDevice, what = ""): Promise<void> {
    const block = new Uint8Array(512);
    for (let cluster = 0; cluster < this.model.length; cluster++) {
      if (this.model[cluster] === undefined) continue;
      await device.read(cluster * BLOCKS + 9, block);
      expect(block[7], `${what} cluster ${cluster}`).toBe(this.model[cluster]);
    }
  }
}

test("a snapshot below the top is merged into a smaller one that the running stack reads", async () => {
  // 8000 clusters of 32 KiB need one cluster of BAT, 9000 two: the base has to move what lies there.
  const bench = await Bench.create(8000);
  let device = await bench.open();
  for (const [i, cluster] of [0, 7999, 5000].entries()) await bench.write(device, cluster, i + 1);
  await device.close();
  const first = await bench.disk.snapshot();
  await bench.disk.grow(9000 * BLOCKS);
  device = await bench.open();
  for (const [i, cluster] of [1, 8500, 5000].entries()) await bench.write(device, cluster, i + 11);
  const second = await bench.disk.snapshot({ device });
  await bench.write(device, 2, 21);
  bench.startLoad(device, [2, 3, 7999]);
  expect(await bench.disk.deleteSnapshot(first, { device })).toBe("merged");
  await bench.stopLoad();
  await bench.verify(device, "running");
  expect([device.deltaCount, bench.disk.descriptor.images.length]).toEqual([2, 2]);
  await device.close();
  await bench.load();
  device = await bench.open();
  await bench.verify(device, "again");
  await bench.disk.deleteSnapshot(second, { device });
  await bench.verify(device, "merged");
  await device.close();
  for (const { report } of await bench.disk.check({ force: true })) expect(report.result).toBe("clean");
});

async function largeBase(grown: boolean): Promise<{ bench: Bench; guid: string }> {
  const bench = await Bench.create(20);
  const device = await bench.open();
  for (let cluster = 0; cluster < 12; cluster++) await bench.write(device, cluster, cluster + 1);
  await device.close();
  const guid = await bench.disk.snapshot();
  if (grown) await bench.disk.grow(30 * BLOCKS);
  const top = await bench.open();
  for (const cluster of [3, 4, 15]) await bench.write(top, cluster, cluster + 50);
  await top.close();
  return { bench, guid };
}

test.each([false, true])(
  "the base of a running disk of two is merged by copying the smaller top, grown or not: %s",
  async (grown) => {
    const { bench, guid } = await largeBase(grown);
    const base = bench.disk.descriptor.images[0]?.file as string;
    let device = await bench.open();
    bench.startLoad(device, [3, 5, 16]);
    await bench.disk.deleteSnapshot(guid, { device });
    await bench.stopLoad();
    await bench.verify(device);
    await device.close();
    expect(bench.disk.descriptor.images).toEqual([{ guid: TOP_GUID, file: base }]);
    expect([...bench.directory.files.keys()]).toEqual([base]);
    await bench.load();
    device = await bench.open();
    await bench.verify(device, "again");
    await device.close();
    for (const { report } of await bench.disk.check({ force: true })) expect(report.result).toBe("clean");
  },
);

test.each([false, true])("a reverse merge, cut at every step, loses nothing (grown: %s)", async (grown) => {
  const { bench: ready, guid } = await largeBase(grown);
  for (let cutAt = 0; ; cutAt++) {
    const bench = new Bench();
    Object.assign(bench, { directory: await ready.directory.clone() });
    bench.model.push(...ready.model);
    await bench.load();
    const device = await bench.open();
    bench.directory.cutAt = bench.directory.changes + cutAt;
    const isDone = await bench.disk.deleteSnapshot(guid, { device }).then(
      () => true,
      () => false,
    );
    bench.directory.powerOn();
    if (isDone) await bench.write(device, 6, 99);
    await bench.load();
    await bench.disk.finishMerges();
    const again = await bench.open();
    await bench.verify(again, `cut at ${cutAt}:`);
    await bench.write(again, 4, 77);
    await again.close();
    await bench.load();
    const last = await bench.open();
    await bench.verify(last, `after a cut at ${cutAt}:`);
    await last.close();
    if (isDone) break;
    expect(cutAt).toBeLessThan(200);
  }
});

test("when base and top cannot be exchanged, the disk runs on as it was", async () => {
  const { bench, guid } = await largeBase(false);
  const device = await bench.open();
  const { directory } = bench;
  const writeText = directory.writeText.bind(directory);
  directory.writeText = async (name, text) => {
    if (text.includes("TemporaryZeroSwap")) throw new Error("no space");
    await writeText(name, text);
  };
  await expect(bench.disk.deleteSnapshot(guid, { device })).rejects.toThrow("no space");
  expect([device.isSuspended, device.noResume]).toEqual([false, false]);
  await bench.write(device, 7, 70);
  await bench.verify(device);
  await device.close();
  directory.writeText = writeText;
  await bench.load();
  await bench.disk.finishMerges();
  const again = await bench.open();
  await bench.verify(again);
  expect(again.deltaCount).toBe(1);
  await again.close();
});
