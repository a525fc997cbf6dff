import { beforeEach, describe, expect, test } from "vitest";
import { PloopDisk } from "../src/disk/ploop-disk.ts";
import { DESCRIPTOR_NAME, TOP_GUID } from "../src/format/descriptor.ts";
import type { ImageMode } from "../src/image/create.ts";
import { Delta } from "../src/image/delta.ts";
import { MemoryDirectory } from "./support/memory-directory.ts";

const CLUSTER = 32768;
const refuses = (errno: string): unknown => expect.objectContaining({ data: expect.objectContaining({ errno }) });

let count = 0;
const newGuid = (): string => `{00000000-0000-4000-8000-${(++count).toString(16).padStart(12, "0")}}`;

const create = (directory: MemoryDirectory, mode: ImageMode = "expanded"): Promise<PloopDisk> =>
  PloopDisk.create({
    directory,
    newGuid,
    file: "root.hds",
    image: { version: 2, sizeSectors: 1024, clusterSectors: 64, mode },
  });
const load = (directory: MemoryDirectory): Promise<PloopDisk> => PloopDisk.load({ directory, newGuid });

async function write(disk: PloopDisk, cluster: number, value: number, clusters = 1): Promise<void> {
  const device = await disk.open({ extendBytes: 1 });
  await device.write(cluster * 64, new Uint8Array(clusters * CLUSTER).fill(value));
  await device.close();
}

/** The byte of each cluster. */
async function read(disk: PloopDisk, guid?: string): Promise<number[]> {
  const device = await disk.open({ readOnly: true, ...(guid === undefined ? {} : { guid }) });
  const bytes = new Uint8Array(device.blockCount * 512);
  await device.read(0, bytes);
  await device.close();
  return Array.from({ length: bytes.length / CLUSTER }, (_, i) => bytes[i * CLUSTER + 77] as number);
}

const head = (values: number[]): number[] => values.slice(0, 5);

describe("a disk", () => {
  let directory: MemoryDirectory;
  let disk: PloopDisk;
  let [first, second]: [string, string] = ["", ""];

  beforeEach(async () => {
    directory = new MemoryDirectory();
    disk = await create(directory);
    await write(disk, 0, 1, 3);
    first = await disk.snapshot();
    await write(disk, 1, 2, 2);
    second = await disk.snapshot();
    await write(disk, 2, 3, 2);
  });

  test("keeps what it was at each snapshot", async () => {
    expect(head(await read(disk))).toEqual([1, 2, 3, 3, 0]);
    expect(head(await read(disk, second))).toEqual([1, 2, 2, 0, 0]);
    expect(head(await read(disk, first))).toEqual([1, 1, 1, 0, 0]);
    expect(disk.descriptor.images.map(({ file }) => file.replace(/\{.*/, ""))).toEqual([
      "root.hds",
      "root.hds.",
      "root.hds.",
    ]);
    expect(directory.files.size).toBe(3);
  });

  test("goes back to a snapshot, and keeps the top on request", async () => {
    await disk.switchTo(first, { keep: true });
    expect(head(await read(disk))).toEqual([1, 1, 1, 0, 0]);
    await write(disk, 4, 4);
    await disk.switchTo(second);
    expect(head(await read(disk))).toEqual([1, 2, 2, 0, 0]);
    expect(directory.files.size).toBe(4);
    await expect(disk.switchTo(TOP_GUID)).rejects.toEqual(refuses("EINVAL"));
    await expect(disk.switchTo(newGuid())).rejects.toEqual(refuses("ENOENT"));
  });

  test("merges a deleted snapshot with its child: the child's GUID and the parent's file stay", async () => {
    expect(await disk.deleteSnapshot(first)).toBe("merged");
    expect(disk.descriptor.images[0]).toEqual({ guid: second, file: "root.hds" });
    expect(head(await read(disk, second))).toEqual([1, 2, 2, 0, 0]);
    expect(await disk.deleteSnapshot(second)).toBe("merged");
    expect(disk.descriptor).toMatchObject({
      images: [{ guid: TOP_GUID, file: "root.hds" }],
      shots: [{ guid: TOP_GUID }],
    });
    expect(head(await read(disk))).toEqual([1, 2, 3, 3, 0]);
    expect([...directory.files.keys()]).toEqual(["root.hds"]);
    await expect(disk.deleteSnapshot(TOP_GUID)).rejects.toEqual(refuses("EINVAL"));
  });

  test("is merged into a new file, which has the clusters in order", async () => {
    await write(disk, 9, 7);
    await write(disk, 4, 6);
    expect(await disk.deleteSnapshot(second, { newFile: "new.hds" })).toBe("merged");
    expect(disk.descriptor.images.map(({ file }) => file)).toEqual(["root.hds", "new.hds"]);
    expect([...directory.files.keys()]).toEqual(["root.hds", "new.hds"]);
    expect(await read(disk)).toEqual([1, 2, 3, 3, 6, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0]);
    const file = await directory.open("new.hds", { readOnly: true });
    const places: number[] = [];
    await (await Delta.open(file)).scan((_cluster, place) => places.push(place));
    expect(places).toEqual([1, 2, 3, 4, 5]);
    for (const { report } of await disk.check({ force: true })) expect(report.result).toBe("clean");
  });

  test("marks a snapshot with two children temporary, and merges it when one is left", async () => {
    await disk.switchTo(first);
    expect(disk.descriptor.shots).toHaveLength(3);
    expect(await disk.deleteSnapshot(first)).toBe("temporary");
    expect(await disk.deleteSnapshot(second)).toBe("deleted");
    expect(disk.descriptor.shots).toHaveLength(1);
    expect(head(await read(disk))).toEqual([1, 1, 1, 0, 0]);
    expect(directory.files.size).toBe(1);
  });

  test("takes snapshots and deletes them while it runs, under load", async () => {
    const device = await disk.open({ extendBytes: 1 });
    let running = true;
    let last = 0;
    const load = (async () => {
      for (let value = 1; running; value = (value % 250) + 1) {
        await device.write(5 * 64 + 3, new Uint8Array(512).fill(value));
        last = value;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const third = await disk.snapshot({ device });
    await device.write(0, new Uint8Array(CLUSTER).fill(9));
    await disk.deleteSnapshot(first, { device });
    await disk.deleteSnapshot(second, { device });
    await disk.deleteSnapshot(third, { device });
    running = false;
    await load;
    await device.close();
    expect(disk.descriptor.images).toHaveLength(1);
    expect(directory.files.size).toBe(1);
    expect(head(await read(disk))).toEqual([9, 2, 3, 3, 0]);
    const again = await disk.open({ readOnly: true });
    const sector = new Uint8Array(512);
    await again.read(5 * 64 + 3, sector);
    expect(sector[0]).toBe(last);
  });

  test("runs on as it was when the descriptor of a snapshot cannot be put in place", async () => {
    const device = await disk.open({ extendBytes: 1 });
    const rename = directory.rename.bind(directory);
    directory.rename = () => Promise.reject(new Error("no room for a name"));
    await expect(disk.snapshot({ device })).rejects.toThrow("no room for a name");
    directory.rename = rename;
    expect([device.deltaCount, directory.files.size, disk.descriptor.shots.length]).toEqual([3, 3, 3]);
    await device.write(4 * 64, new Uint8Array(CLUSTER).fill(5));
    await disk.snapshot({ device });
    await device.close();
    expect(head(await read(await load(directory)))).toEqual([1, 2, 3, 3, 5]);
  });

  test("grows while it runs, and offline", async () => {
    const device = await disk.open({ extendBytes: 1 });
    await disk.grow(2048, { device });
    expect(device.blockCount).toBe(2048);
    await device.close();
    await disk.grow(4096);
    expect((await read(disk)).length).toBe(64);
    expect(disk.descriptor).toMatchObject({ sizeSectors: 4096, heads: 16, cylinders: 8 });
    await disk.deleteSnapshot(first);
    await disk.deleteSnapshot(second);
    expect(head(await read(disk))).toEqual([1, 2, 3, 3, 0]);
  });

  test("is not changed behind the back of who runs it", async () => {
    const device = await disk.open();
    await expect(disk.snapshot()).rejects.toMatchObject({ code: "VDO_PLOOP_DIRTY" });
    await expect(disk.deleteSnapshot(first)).rejects.toMatchObject({ code: "VDO_PLOOP_DIRTY" });
    await expect(disk.grow(4096)).rejects.toMatchObject({ code: "VDO_PLOOP_DIRTY" });
    await device.close();
    await expect(disk.snapshot({ guid: first })).rejects.toEqual(refuses("EEXIST"));
    await expect(disk.snapshot({ guid: "x" })).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
    await expect(create(directory)).rejects.toEqual(refuses("EEXIST"));
  });

  test("that runs read-only stays as it is", async () => {
    const device = await disk.open({ guid: first });
    await expect(disk.snapshot({ device })).rejects.toEqual(refuses("EROFS"));
    await expect(disk.deleteSnapshot(first, { device })).rejects.toEqual(refuses("EROFS"));
    await expect(disk.grow(4096, { device })).rejects.toEqual(refuses("EROFS"));
    await device.close();
  });

  test("is checked as a whole", async () => {
    expect((await disk.check({ force: true })).map(({ report }) => report.result)).toEqual(["clean", "clean", "clean"]);
  });

  test("becomes preallocated or raw when it has one image", async () => {
    await expect(disk.convert("raw")).rejects.toEqual(refuses("EINVAL"));
    await disk.deleteSnapshot(first);
    await disk.deleteSnapshot(second);
    await disk.convert("preallocated");
    expect(directory.files.size).toBe(1);
    expect(head(await read(disk))).toEqual([1, 2, 3, 3, 0]);
    await disk.convert("raw");
    const snapshot = await disk.snapshot();
    await write(disk, 0, 8);
    expect(head(await read(disk))).toEqual([8, 2, 3, 3, 0]);
    await disk.deleteSnapshot(snapshot);
    await expect(disk.convert("expanded")).rejects.toEqual(refuses("ENOTSUPP"));
    expect(disk.descriptor.mode).toBe("raw");
  });
});

test("a disk becomes the other version and back, with a cut at every step undone", async () => {
  const prepared = new MemoryDirectory();
  const original = await create(prepared);
  await write(original, 0, 1, 3);
  await original.snapshot();
  await write(original, 2, 2, 2);
  const images = async (directory: MemoryDirectory): Promise<string> => {
    const parts = await Promise.all(
      [...directory.files].map(async ([name, device]) => {
        const page = new Uint8Array(4096);
        await device.read(1, page);
        return `${name} ${Buffer.from(page).toString("hex")}`;
      }),
    );
    return parts.sort().join("\n");
  };
  const before = await images(prepared);
  for (let cutAt = 0; ; cutAt++) {
    const directory = await prepared.clone();
    directory.cutAt = cutAt;
    const disk = await load(directory);
    const isDone = await disk.convertVersion(1).then(
      () => true,
      () => false,
    );
    directory.powerOn();
    if (isDone) {
      expect(head(await read(disk))).toEqual([1, 1, 2, 2, 0]);
      expect((await images(directory)).includes(Buffer.from("WithoutFreeSpace").toString("hex"))).toBe(true);
    }
    // What was interrupted is undone by the next attempt, which then succeeds; so does the way back.
    await disk.convertVersion(1).catch((error: unknown) => expect(error).toEqual(refuses("EBUSY")));
    await disk.convertVersion(1);
    await disk.convertVersion(2);
    expect(await images(directory), `cut at ${cutAt}`).toBe(before);
    if (isDone) break;
    expect(cutAt).toBeLessThan(100);
  }
});

test("a disk has at most 126 snapshots", async () => {
  const directory = new MemoryDirectory();
  const disk = await create(directory);
  for (let i = 0; i < 126; i++) await disk.snapshot();
  await expect(disk.snapshot()).rejects.toEqual(refuses("EMFILE"));
});

/** What may be done to the disk of `prepare`; each is cut at every change it makes. */
const OPERATIONS: Record<string, (disk: PloopDisk, guids: string[]) => Promise<unknown>> = {
  snapshot: (disk) => disk.snapshot(),
  "delete with merge": (disk, guids) => disk.deleteSnapshot(guids[0] as string),
  "delete of the snapshot below the top": (disk, guids) => disk.deleteSnapshot(guids[1] as string),
  grow: (disk) => disk.grow(2048),
};

describe.each(Object.keys(OPERATIONS))("power cut at every step of %s", (name) => {
  test.each(["expanded", "raw"] as const)("leaves the content (base: %s)", async (mode) => {
    const prepared = new MemoryDirectory();
    const original = await create(prepared, mode);
    const guids = [];
    if (mode === "expanded") await write(original, 0, 1, 3);
    guids.push(await original.snapshot());
    await write(original, 1, 2, 2);
    guids.push(await original.snapshot());
    await write(original, 2, 3, 2);
    const expected = await read(original);
    for (let cutAt = 0; ; cutAt++) {
      const directory = await prepared.clone();
      directory.cutAt = cutAt;
      const finished = await OPERATIONS[name]?.(await load(directory), guids).then(
        () => true,
        () => false,
      );
      directory.powerOn();
      const disk = await load(directory);
      for (const { report } of await disk.check({ force: true, dropInUse: true }))
        expect(report.result).toMatch(/clean|repaired/);
      expect((await read(disk)).slice(0, 16), `cut at ${cutAt}`).toEqual(expected);
      await disk.finishMerges();
      expect((await read(disk)).slice(0, 16), `merged after a cut at ${cutAt}`).toEqual(expected);
      expect(disk.descriptor.shots.every(({ state }) => state === undefined)).toBe(true);
      if (finished === true) break;
      expect(cutAt).toBeLessThan(200);
    }
  });
});

test("descriptors of the disk are found under their name", async () => {
  const directory = new MemoryDirectory();
  await create(directory);
  expect([...directory.texts.keys()]).toEqual([DESCRIPTOR_NAME]);
  const device = await (await load(directory)).open();
  expect(device.blockCount).toBe(1024);
  await device.close();
});
