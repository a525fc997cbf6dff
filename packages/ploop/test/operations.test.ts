import { firstDifference, Random } from "@vdo/base";
import { beforeEach, describe, expect, test } from "vitest";
import { sendMessage, statusLine } from "../src/device/messages.ts";
import { clearShared, reopenDelta } from "../src/device/operations/stack.ts";
import { PloopDevice } from "../src/device/ploop-device.ts";
import type { DeviceFile } from "../src/file/device-file.ts";
import type { ImageFile } from "../src/file/image-file.ts";
import { Delta } from "../src/image/delta.ts";
import { contentOf, entriesOf, MIB, memoryImage } from "./support/images.ts";

const CLUSTER = 32768;
const BLOCKS = CLUSTER / 512;
const UUID = "0123456789abcdef0123456789abcdef";

/** A device with a model beside it. */
class Bench {
  readonly device: PloopDevice;
  readonly files: DeviceFile[];
  readonly model: Uint8Array;
  readonly random = new Random(7);
  /** What messages may open. */
  readonly openable = new Map<string, ImageFile>();
  #running = false;
  #load: Promise<void> = Promise.resolve();

  private constructor(device: PloopDevice, files: DeviceFile[]) {
    this.device = device;
    this.files = files;
    this.model = new Uint8Array(device.blockCount * 512);
  }

  static async open(levels: number, mapPagesMax = 4): Promise<Bench> {
    const files = [await memoryImage("level 0")];
    const bench = new Bench(
      await PloopDevice.open({ deltas: files.map((file) => ({ file })), extendBytes: 1, mapPagesMax }),
      files,
    );
    await bench.write(0, 8);
    for (let level = 1; level < levels; level++) {
      await bench.snapshot(`level ${level}`);
      await bench.write(level * 2, 4);
    }
    return bench;
  }

  async snapshot(name: string): Promise<void> {
    const file = await memoryImage(name, { sizeSectors: this.device.engine.top.header.sizeSectors });
    this.openable.set(name, file);
    await this.message("snapshot", name);
    this.files.push(file);
  }

  /** Whole clusters, with a stripe inside so that they differ. */
  async write(cluster: number, count: number): Promise<void> {
    const data = this.random.fill(new Uint8Array(count * CLUSTER));
    await this.device.write(cluster * BLOCKS, data);
    this.model.set(data, cluster * CLUSTER);
  }

  message(...words: string[]): Promise<string> {
    return sendMessage(this.device, words, {
      openFile: async (name) => {
        const file = this.openable.get(name);
        if (file === undefined) throw new Error(`no file ${name}`);
        return file;
      },
    });
  }

  /** Small writes until {@link stopLoad}. */
  startLoad(): void {
    this.#running = true;
    this.#load = (async () => {
      while (this.#running) {
        const start = this.random.below(this.model.length / 512 - 8);
        const data = this.random.fill(new Uint8Array(512 * (1 + this.random.below(8))));
        await this.device.write(start, data);
        this.model.set(data, start * 512);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
  }

  async stopLoad(): Promise<void> {
    this.#running = false;
    await this.#load;
  }

  async verify(): Promise<void> {
    const content = new Uint8Array(this.model.length);
    await this.device.read(0, content);
    expect(firstDifference(content, this.model)).toBe(-1);
  }
}

const refuses = (errno: string): unknown => expect.objectContaining({ data: expect.objectContaining({ errno }) });

describe("a running stack of four deltas", () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = await Bench.open(4);
  });

  test("merges under load until one delta is left", async () => {
    bench.startLoad();
    for (let left = 3; left > 0; left--) {
      expect(await bench.message("merge")).toBe("");
      expect(bench.device.deltaCount).toBe(left);
    }
    await expect(bench.message("merge")).rejects.toEqual(refuses("ENOENT"));
    await bench.stopLoad();
    await bench.verify();
    await bench.device.close();
  });

  test("takes note of a backward merge: the levels above move down", async () => {
    const [lower, upper] = [bench.files[1], bench.files[2]] as [DeviceFile, DeviceFile];
    await mergeByHand(upper, lower);
    bench.startLoad();
    await bench.message("notify_merged_backward", "2");
    await bench.stopLoad();
    expect([bench.device.deltaCount, await bench.message("get_delta_name", "1")]).toEqual([3, "level 1\n"]);
    await bench.verify();
  });

  test("takes note of a forward merge", async () => {
    const [lower, upper] = [bench.files[1], bench.files[2]] as [DeviceFile, DeviceFile];
    await mergeByHand(lower, upper, { keep: true });
    await bench.message("notify_merged_forward", "1");
    expect(await bench.message("get_img_name", "1")).toBe("level 2\n");
    await bench.verify();
  });

  test("refuses merges that cannot be, with the kernel's errors", async () => {
    await expect(bench.message("notify_merged_backward", "0")).rejects.toEqual(refuses("EINVAL"));
    await expect(bench.message("notify_merged_forward", "2")).rejects.toEqual(refuses("EINVAL"));
    await expect(bench.message("notify_merged_forward", "3")).rejects.toEqual(refuses("ENOENT"));
    await expect(bench.message("notify_merged_forward", "x")).rejects.toEqual(refuses("EINVAL"));
  });

  test("takes over places that were moved in a lower delta; all pairs are checked first", async () => {
    const file = bench.files[0] as DeviceFile;
    const { 0: from } = await entriesOf(file);
    const to = file.length / CLUSTER;
    const data = new Uint8Array(CLUSTER);
    await file.read((from as number) * CLUSTER, data);
    await file.write(to * CLUSTER, data);
    await bench.device.read(0, new Uint8Array(512));
    await expect(bench.message("update_delta_index", "0", `0:${to};31:2;`)).rejects.toEqual(refuses("EINVAL"));
    await expect(bench.message("update_delta_index", "0", `0:${to}`)).rejects.toEqual(refuses("EINVAL"));
    await expect(bench.message("update_delta_index", "3", `0:${to};`)).rejects.toEqual(refuses("ENOENT"));
    await bench.message("update_delta_index", "0", `0:${to};`);
    await file.write((from as number) * CLUSTER, new Uint8Array(CLUSTER).fill(0xee));
    await bench.verify();
  });

  test("grows under load, across an edge of the BAT, and keeps every byte", async () => {
    const large = 8400 * 64;
    bench.startLoad();
    await bench.message("resize", String(64 * 1024));
    await bench.message("resize", String(large));
    expect(bench.device.blockCount).toBe(MIB / 512);
    bench.device.reloadLength();
    await bench.stopLoad();
    await bench.verify();
    expect(bench.device.blockCount).toBe(large);
    await bench.device.write(large - 8, new Uint8Array(4096).fill(9));
    for (const [size, why] of [
      [large - 64, "shrink"],
      [large + 1, "multiple"],
      [2 ** 45, "clusters"],
    ] as const) {
      await expect(bench.message("resize", String(size)), why).rejects.toEqual(refuses("EINVAL"));
    }
    expect(await bench.message("resize", String(large))).toBe("");
    await bench.device.close();
    const top = await Delta.open(bench.files[3] as DeviceFile);
    expect(top.header).toMatchObject({ clusterCount: 8400, sizeSectors: large, firstBlock: 128, inUse: 0 });
    await top.scan((_cluster, place) => expect(place).toBeGreaterThanOrEqual(2));
  });

  test("tracks what changes in the file of the top: a copy under load is the image", async () => {
    const top = bench.files[3] as DeviceFile;
    const copy = await memoryImage("copy");
    const copyNext = async (): Promise<boolean> => {
      const answer = await bench.message("tracking_get_next").catch(() => undefined);
      if (answer === undefined) return false;
      const data = new Uint8Array(CLUSTER);
      await top.read(Number(answer) * CLUSTER, data);
      await copy.write(Number(answer) * CLUSTER, data);
      return true;
    };
    await expect(bench.message("tracking_get_next")).rejects.toEqual(refuses("ENOENT"));
    await bench.message("tracking_start");
    expect(statusLine(bench.device)).toBe("4 v2 64 t");
    await expect(bench.message("tracking_start")).rejects.toEqual(refuses("EEXIST"));
    await expect(bench.message("merge")).rejects.toEqual(refuses("EBUSY"));
    await expect(bench.message("tracking_wrong")).rejects.toEqual(refuses("EINVAL"));
    bench.startLoad();
    for (let step = 0; step < 200; step++) await copyNext();
    await bench.stopLoad();
    await bench.device.suspend();
    while (await copyNext());
    await bench.message("tracking_stop");
    expect(firstDifference(await contentOf(copy), await contentOf(top))).toBe(-1);
  });

  test("prohibits resuming, and says so", async () => {
    await expect(bench.message("set_noresume", "2")).rejects.toEqual(refuses("EINVAL"));
    await expect(bench.message("set_noresume", "0")).rejects.toEqual(refuses("EBUSY"));
    await bench.message("set_noresume", "1");
    await bench.device.suspend();
    expect(() => bench.device.resume()).toThrow(refuses("EAGAIN") as Error);
    expect(statusLine(bench.device)).toBe("4 v2 64 n");
    let written = false;
    const write = bench.write(0, 1).then(() => {
      written = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(written).toBe(false);
    await bench.message("set_noresume", "0");
    bench.device.resume();
    await write;
    await bench.verify();
  });
});

describe("two deltas", () => {
  test("are exchanged, and the smaller is merged into the larger", async () => {
    const bench = await Bench.open(2);
    const { device } = bench;
    await expect(bench.message("flip_upper_deltas")).rejects.toEqual(refuses("EBUSY"));
    await device.suspend();
    await expect(bench.message("flip_upper_deltas")).rejects.toEqual(refuses("EBUSY"));
    await bench.message("set_noresume", "1");
    await expect(bench.message("flip_upper_deltas")).rejects.toEqual(refuses("EEXIST"));
    expect(await clearShared(device)).toBe(4);
    await bench.message("flip_upper_deltas");
    await bench.message("set_noresume", "0");
    device.resume();
    expect(await bench.message("get_delta_name", "1")).toBe("level 0\n");
    bench.startLoad();
    await bench.message("merge");
    await bench.stopLoad();
    await bench.verify();
    await device.close();
    expect(bench.files[0]?.length).toBeGreaterThan(0);
  });

  test("of which the lower is read-only are not exchanged before it is opened anew", async () => {
    const bench = await Bench.open(2);
    const lower = bench.files[0] as DeviceFile;
    const readOnly: ImageFile = Object.create(lower, {
      readOnly: { value: true },
      close: { value: async () => undefined },
    });
    for (const name of ["read", "length"] as const) {
      Object.defineProperty(readOnly, name, {
        get: () => (name === "length" ? lower.length : lower.read.bind(lower)),
      });
    }
    Object.defineProperty(readOnly, "name", { value: "level 0, read-only" });
    await reopenDelta(bench.device, 0, readOnly);
    await bench.verify();
    await bench.device.suspend();
    await bench.message("set_noresume", "1");
    await expect(bench.message("flip_upper_deltas")).rejects.toEqual(refuses("EACCES"));
  });
});

describe("push backup", () => {
  async function backUp(bench: Bench, mask?: Uint8Array): Promise<Map<number, Uint8Array>> {
    const { device } = bench;
    const clusters = device.blockCount / BLOCKS;
    const maskText = mask === undefined ? "0" : Buffer.from(mask).toString("hex");
    await device.suspend();
    await bench.message("push_backup_start", UUID, maskText, "30");
    device.resume();
    const saved = new Map<number, Uint8Array>();
    const isWanted = (cluster: number): boolean =>
      mask === undefined || (((mask[cluster >>> 3] as number) >>> (cluster & 7)) & 1) === 1;
    const save = async (first: number, count: number): Promise<void> => {
      for (let cluster = first; cluster < first + count; cluster++) {
        if (saved.has(cluster) || !isWanted(cluster)) continue;
        const data = new Uint8Array(CLUSTER);
        await device.read(cluster * BLOCKS, data);
        if (!saved.has(cluster)) saved.set(cluster, data);
      }
      await bench.message("push_backup_write", UUID, `${first}:${count}`);
    };
    const held = (async () => {
      for (;;) {
        const run = await bench.message("push_backup_read", UUID);
        if (run === "") return;
        const [first, count] = run.split(":").map(Number) as [number, number];
        await save(first, count);
      }
    })();
    for (let cluster = 0; cluster < clusters; cluster++) await save(cluster, 1);
    await held;
    expect(await bench.message("push_backup_stop", UUID)).toBe("0");
    return saved;
  }

  test.each([undefined, "partial"])("under load gives exactly the image of its start (%s)", async (kind) => {
    const bench = await Bench.open(2);
    const before = bench.model.slice();
    const mask = kind === undefined ? undefined : new Uint8Array(4).fill(0b0101_0011);
    const clusters = bench.model.length / CLUSTER;
    // Writes to every cluster wait for the backup or go on at once; none may be lost.
    const work = backUp(bench, mask);
    const writes = Array.from({ length: clusters }, async (_, i) => {
      const cluster = (i * 7) % clusters;
      await bench.write(cluster, 1);
    });
    await Promise.all(writes);
    const saved = await work;
    for (const [cluster, data] of saved) {
      expect(firstDifference(data, before.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER)), `${cluster}`).toBe(-1);
    }
    expect(saved.size).toBe(kind === undefined ? clusters : clusters / 2);
    await bench.verify();
  });

  test("is given up when nothing is saved in time, and the writes go on", async () => {
    let expire = (): void => undefined;
    const clock = {
      now: () => 0,
      wallMicroseconds: () => 0,
      after: (milliseconds: number, run: () => void) => {
        expect(milliseconds).toBe(5000);
        expire = run;
        return () => undefined;
      },
    };
    const device = await PloopDevice.open({ deltas: [{ file: await memoryImage("a") }], clock, extendBytes: 1 });
    const send = (...words: string[]): Promise<string> =>
      sendMessage(device, words, { openFile: () => Promise.reject(new Error("no files")) });
    await expect(send("push_backup_start", UUID, "0", "5")).rejects.toEqual(refuses("EBUSY"));
    await device.suspend();
    for (const words of [
      ["xyz", "0", "5"],
      [UUID, "0", "0"],
      [UUID, "ff", "5"],
    ]) {
      await expect(send("push_backup_start", ...words)).rejects.toEqual(refuses("EINVAL"));
    }
    await send("push_backup_start", UUID, "0", "5");
    expect(await send("push_backup_get_uuid")).toBe(UUID);
    device.resume();
    const write = device.write(0, new Uint8Array(512).fill(1));
    expect(await send("push_backup_read", UUID)).toBe("0:1");
    await expect(send("push_backup_write", UUID, "30:3")).rejects.toEqual(refuses("E2BIG"));
    await expect(send("push_backup_write", "0".repeat(32), "0:1")).rejects.toEqual(refuses("EINVAL"));
    expect(statusLine(device)).toBe("1 v2 64 b");
    expire();
    await write;
    expect(statusLine(device)).toBe("1 v2 64 B");
    await expect(send("push_backup_read", UUID)).rejects.toEqual(refuses("ESTALE"));
    await send("push_backup_stop", UUID);
    await expect(send("push_backup_stop", UUID)).rejects.toEqual(refuses("EBADF"));
  });
});

test.each([
  [[], "EINVAL"],
  [["nothing"], "ENOTSUPP"],
  [["resize"], "EINVAL"],
  [["merge", "1"], "EINVAL"],
])("the message %j is refused with %s", async (words, errno) => {
  const device = await PloopDevice.open({ deltas: [{ file: await memoryImage("a") }] });
  const sent = sendMessage(device, words, { openFile: () => Promise.reject(new Error("no files")) });
  await expect(sent).rejects.toEqual(refuses(errno));
});

test("a stack is made by add_delta, oldest first; a read-only device refuses changes", async () => {
  const [base, middle, top] = [await memoryImage("base"), await memoryImage("middle"), await memoryImage("top")];
  for (const [value, file] of [
    [1, base],
    [2, middle],
  ] as const) {
    const device = await PloopDevice.open({ deltas: [{ file }], extendBytes: 1 });
    await device.write((value - 1) * BLOCKS, new Uint8Array(2 * CLUSTER).fill(value));
    await device.engine.top.markClosed();
  }
  const device = await PloopDevice.open({ deltas: [{ file: top }], readOnly: true });
  const openFile = async (name: string): Promise<ImageFile> => (name === "base" ? base : middle);
  const send = (...words: string[]): Promise<string> => sendMessage(device, words, { openFile });
  await send("add_delta", "base");
  await send("add_delta", "middle");
  const bytes = new Uint8Array(4 * CLUSTER);
  await device.read(0, bytes);
  expect([0, 1, 2, 3].map((cluster) => bytes[cluster * CLUSTER])).toEqual([1, 2, 2, 0]);
  await expect(send("merge")).rejects.toEqual(refuses("EROFS"));
  await expect(send("add_delta", "raw@base")).rejects.toEqual(refuses("EMFILE"));
});

test("the map keeps to its limit and reads what it dropped again", async () => {
  const file = await memoryImage("wide", { sizeSectors: 64 * 20_000 });
  const device = await PloopDevice.open({ deltas: [{ file }], mapPagesMax: 4, extendBytes: 1 });
  for (let cluster = 0; cluster < 20_000; cluster += 1000) {
    await device.write(cluster * BLOCKS, new Uint8Array(512).fill(cluster / 1000 + 1));
  }
  const block = new Uint8Array(512);
  for (let cluster = 0; cluster < 20_000; cluster += 1000) {
    await device.read(cluster * BLOCKS, block);
    expect(block[0]).toBe(cluster / 1000 + 1);
  }
  expect(device.engine.map.pagesCached).toBeLessThanOrEqual(4);
  expect(device.engine.map.loads).toBeGreaterThan(20);
});

/** What the user's program does: copies clusters between two images. `keep`: entries that the target has stay. */
async function mergeByHand(source: DeviceFile, target: DeviceFile, { keep = false } = {}): Promise<void> {
  const from = await Delta.open(source);
  const into = await entriesOf(target);
  const entries: [number, number][] = [];
  await from.scan((cluster, place) => entries.push([cluster, place]));
  let next = target.length / CLUSTER;
  const page = new Uint8Array(4096);
  for (const [cluster, place] of entries) {
    if (keep && into[cluster] !== undefined) continue;
    const data = new Uint8Array(CLUSTER);
    await source.read(place * CLUSTER, data);
    const to = into[cluster] ?? next++;
    await target.write(to * CLUSTER, data);
    await target.read(0, page);
    new DataView(page.buffer).setUint32(64 + 4 * cluster, to, true);
    await target.write(0, page);
  }
}
