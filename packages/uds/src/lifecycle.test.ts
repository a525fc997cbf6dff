/** Whole indexes: order of use, sparse chapters, saves, rebuilds, damage, failing devices. */
import { Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice } from "@vdo/block-device/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deviceFor, randomRecords, SPARSE, TINY } from "../test/support/devices.ts";
import { indexGeometry, UdsIndex, UdsOperation, UdsRequest } from "./index.ts";

const R = 256;
const values = (count: number, seed = 99): Uint8Array => randomRecords(seed, count);

async function foundIn(index: UdsIndex, names: Uint8Array): Promise<number[]> {
  const found: number[] = [];
  for (let at = 0; at < names.length; at += 16) {
    if ((await index.queryWithoutUpdate(names.subarray(at, at + 16))) !== undefined) found.push(at / 16);
  }
  return found;
}

/** Every other block of the region as a map, for comparing devices. */
async function copyOf(device: MemoryDevice): Promise<MemoryDevice> {
  const copy = new MemoryDevice({ blockCount: device.blockCount });
  const bytes = new Uint8Array(device.blockCount * 4096);
  await device.read(0, bytes);
  await copy.write(0, bytes);
  return copy;
}

describe("requests", () => {
  test("keep what is used and forget what is not, a chapter at a time", async () => {
    const index = await UdsIndex.create({ ...TINY, device: deviceFor(TINY) });
    const kept = randomRecords(1, 20);
    const left = randomRecords(2, 20);
    const peeked = randomRecords(3, 20);
    for (const names of [kept, left, peeked]) await index.postBatch(names, values(20));
    for (let chapter = 0; chapter < 9; chapter++) {
      await index.postBatch(randomRecords(100 + chapter, R), values(R));
      expect((await index.queryBatch(kept)).foundCount).toBe(20);
      if (chapter < 6) expect((await foundIn(index, peeked)).length).toBe(20);
    }
    expect((await foundIn(index, left)).length).toBe(0);
    expect((await foundIn(index, peeked)).length).toBe(0);
    const { oldestChapter, newestChapter, entriesDiscarded } = index.statistics();
    expect(newestChapter - oldestChapter).toBe(7);
    expect(entriesDiscarded).toBeGreaterThan(0);
    await index.close();
  });

  test("have the meaning of their kind", async () => {
    const index = await UdsIndex.create({ ...TINY, device: deviceFor(TINY) });
    const name = new Uint8Array(16).fill(5);
    const [a, b, c] = [1, 2, 3].map((n) => new Uint8Array(16).fill(n)) as [Uint8Array, Uint8Array, Uint8Array];
    expect(await index.query(name)).toBeUndefined();
    expect(await index.post(name, a)).toBeUndefined();
    expect(await index.post(name, b)).toEqual(a);
    expect(await index.query(name)).toEqual(a);
    expect(await index.update(name, c)).toEqual(a);
    expect(await index.queryWithoutUpdate(name)).toEqual(c);
    expect(await index.delete(name)).toBe(true);
    expect(await index.delete(name)).toBe(false);
    expect(await index.query(name)).toBeUndefined();
    expect(await index.update(name, b)).toBeUndefined();
    expect(await index.query(name)).toEqual(b);
    expect(index.statistics()).toMatchObject({
      postsFound: 1,
      postsNotFound: 1,
      queriesFound: 3,
      queriesNotFound: 2,
      updatesFound: 1,
      updatesNotFound: 1,
      deletionsFound: 1,
      deletionsNotFound: 1,
      requests: 11,
    });
    await expect(index.post(name.subarray(1), a)).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
    await expect(index.postBatch(name, name.subarray(1))).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
    await index.close();
  });

  test("never answer with a value that was not recorded for the name, also when names collide in every index", async () => {
    const step = fc.record({ name: fc.nat(400), kind: fc.constantFrom(0, 1, 2, 2, 2, 3, 4), value: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 200, maxLength: 1200 }),
        fc.integer({ min: 1, max: 40 }),
        async (steps, places) => {
          const index = await UdsIndex.create({ ...TINY, device: deviceFor(TINY) });
          const recorded = new Map<number, Set<number>>();
          const name = new Uint8Array(16);
          const value = new Uint8Array(16);
          for (const step of steps) {
            // Volume index and chapter index see few different places; the full names all differ.
            name.fill(0);
            name[7] = step.name % places;
            name[13] = step.name % places;
            name[14] = step.name >> 8;
            name[15] = step.name;
            value.fill(step.value);
            const known = recorded.get(step.name) ?? new Set();
            let answer: Uint8Array | undefined;
            if (step.kind === UdsOperation.DELETE) await index.delete(name);
            else if (step.kind === UdsOperation.QUERY) answer = await index.query(name);
            else if (step.kind === UdsOperation.QUERY_NO_UPDATE) answer = await index.queryWithoutUpdate(name);
            else if (step.kind === UdsOperation.POST) answer = await index.post(name, value);
            else answer = await index.update(name, value);
            if (answer !== undefined) expect(known.has(answer[0] as number)).toBe(true);
            if (step.kind === UdsOperation.POST || step.kind === UdsOperation.UPDATE)
              recorded.set(step.name, known.add(step.value));
          }
          await index.close();
        },
      ),
      { numRuns: 20 },
    );
  });

  test("of one name are answered in order, while pages are read", async () => {
    const device = deviceFor(TINY);
    const index = await UdsIndex.create({ ...TINY, device });
    const names = randomRecords(1, R * 3);
    await index.postBatch(names, values(R * 3));
    await index.close();
    const loaded = await UdsIndex.open({ ...TINY, device });
    const order: string[] = [];
    const requests: Promise<void>[] = [];
    for (let record = 0; record < 60; record++) {
      for (let turn = 0; turn < 3; turn++) {
        requests.push(
          new Promise((resolve) => {
            const request = new UdsRequest();
            request.name.set(names.subarray(record * 16, record * 16 + 16));
            request.value.fill(turn);
            request.operation = UdsOperation.UPDATE;
            request.onDone = ({ found, oldValue }) => {
              order.push(`${record} ${found} ${turn === 0 ? "old" : oldValue[3]}`);
              resolve();
            };
            loaded.submit(request);
          }),
        );
      }
    }
    expect(order.length).toBeLessThan(180);
    await Promise.all(requests);
    for (let record = 0; record < 60; record++) {
      const own = order.filter((line) => line.startsWith(`${record} `));
      expect(own).toEqual([`${record} true old`, `${record} true 0`, `${record} true 1`]);
    }
    await loaded.close();
  });

  test("may be submitted again from within onDone, any number of times", async () => {
    const index = await UdsIndex.create({ ...TINY, device: deviceFor(TINY) });
    const random = new Random(4);
    await new Promise<void>((resolve) => {
      const request = new UdsRequest();
      let left = 20_000;
      request.onDone = () => {
        if (left-- === 0) return resolve();
        random.fill(request.name);
        index.submit(request);
      };
      index.submit(request);
    });
    expect(index.statistics().postsNotFound).toBe(20_001);
    await index.close();
  });
});

describe("a sparse index", () => {
  test("finds the neighbours of a hook in a sparse chapter, and not without it", async () => {
    const device = deviceFor(SPARSE);
    const index = await UdsIndex.create({ ...SPARSE, device });
    const names = randomRecords(11, 1024);
    await index.postBatch(names, values(1024));
    for (let chapter = 0; chapter < 8; chapter++)
      await index.postBatch(randomRecords(50 + chapter, 1024), values(1024));
    const isHook = (record: number): boolean => ((names[record * 16 + 14]! << 8) | names[record * 16 + 15]!) % 8 === 0;
    let hook = 0;
    while (!isHook(hook)) hook++;
    const others = Array.from({ length: 200 }, (_, i) => i).filter((i) => !isHook(i));
    for (const i of others.slice(0, 50))
      expect(await index.queryWithoutUpdate(names.subarray(i * 16, i * 16 + 16))).toBeUndefined();
    expect(await index.query(names.subarray(hook * 16, hook * 16 + 16))).toBeDefined();
    for (const i of others)
      expect(await index.queryWithoutUpdate(names.subarray(i * 16, i * 16 + 16)), `${i}`).toBeDefined();
    const again = await index.postBatch(names, values(1024, 5));
    expect(again.foundCount).toBe(1024);
    expect(index.statistics().sparsePostsFound).toBeGreaterThan(500);
    await index.close();
    const loaded = await UdsIndex.open({ ...SPARSE, device, create: "never", rebuild: false });
    expect((await loaded.queryBatch(names)).foundCount).toBe(1024);
    await loaded.close();
  });

  test("is rebuilt: all of the dense chapters, the hooks of the sparse ones", async () => {
    const device = deviceFor(SPARSE);
    const index = await UdsIndex.create({ ...SPARSE, device });
    for (let chapter = 0; chapter < 20; chapter++) await index.postBatch(randomRecords(chapter, 1024), values(1024));
    await index.close({ save: false });
    const loaded = await UdsIndex.open({ ...SPARSE, device, create: "never" });
    expect(loaded.statistics()).toMatchObject({ oldestChapter: 5, newestChapter: 20 });
    expect((await loaded.queryBatch(randomRecords(18, 1024))).foundCount).toBe(1024);
    const old = await loaded.queryBatch(randomRecords(6, 1024));
    expect(old.foundCount).toBeGreaterThan(900);
    expect((await loaded.queryBatch(randomRecords(2, 1024))).foundCount).toBe(0);
    await loaded.close();
  });
});

describe("opening", () => {
  async function filled(count: number): Promise<{ device: MemoryDevice; names: Uint8Array }> {
    const device = deviceFor(TINY);
    const names = randomRecords(21, count);
    const index = await UdsIndex.create({ ...TINY, device });
    await index.postBatch(names, values(count));
    await index.close();
    return { device, names };
  }

  test.each([R * 2 + 10, R * 8, R * 13 + 100])(
    "a rebuilt index answers like the saved one, for closed chapters (%i records)",
    async (count) => {
      const { device, names } = await filled(count);
      const copy = await copyOf(device);
      // Both save headers gone.
      const geometry = indexGeometry(TINY);
      for (const slot of [0, 1]) await copy.writeZeroes(2 + geometry.volumeBlocks + slot * geometry.saveBlocks, 1);
      const saved = await UdsIndex.open({ ...TINY, device, create: "never", rebuild: false });
      const progress: number[] = [];
      const rebuilt = await UdsIndex.open({
        ...TINY,
        device: copy,
        create: "never",
        onProgress: ({ done }) => progress.push(done),
      });
      const open = count % R;
      const expected = (await foundIn(saved, names)).filter((record) => record < count - open);
      expect(await foundIn(rebuilt, names)).toEqual(expected);
      expect(expected.length).toBe(Math.min(Math.floor(count / R), 7) * R);
      expect(progress).toEqual(Array.from({ length: progress.length }, (_, i) => i));
      expect(rebuilt.statistics().newestChapter).toBe(saved.statistics().newestChapter);
      await saved.close();
      await rebuilt.close();
    },
  );

  test("refuses, or makes anew, what is no index of this kind", async () => {
    const { device } = await filled(100);
    const never = { ...TINY, create: "never" } as const;
    await expect(UdsIndex.open({ ...never, device: deviceFor(TINY) })).rejects.toMatchObject({ code: "UDS_NO_INDEX" });
    await expect(UdsIndex.open({ ...never, device, nonce: 7n })).rejects.toMatchObject({
      code: "UDS_CONFIGURATION_MISMATCH",
      data: { field: "nonce", expected: 7n, actual: 0n },
    });
    await expect(UdsIndex.open({ ...never, device, firstBlock: 1 })).rejects.toMatchObject({ code: "VDO_CORRUPT" });
    const small = new MemoryDevice({ blockCount: 20 });
    await expect(UdsIndex.open({ ...TINY, device: small })).rejects.toMatchObject({
      code: "UDS_TOO_SMALL",
      data: { blocksNeeded: 106, blocksAvailable: 20 },
    });
    await expect(UdsIndex.open({ memory: 3.5 })).rejects.toMatchObject({ code: "UDS_BAD_CONFIGURATION" });
    const messages: string[] = [];
    const fresh = await UdsIndex.open({ ...TINY, device, nonce: 7n, log: (message) => messages.push(message) });
    expect(messages.join()).toMatch(/making a new index.*created a new index/);
    await fresh.close();
    const block = new Uint8Array(4096);
    await device.read(0, block);
    block[192 + 72] = 7;
    await device.write(0, block);
    await expect(UdsIndex.open({ ...TINY, device, nonce: 7n })).rejects.toMatchObject({
      code: "UDS_UNSUPPORTED_VERSION",
    });
  });

  test("notices every kind of damage to a save, and rebuilds", async () => {
    const { device, names } = await filled(R * 3 + 20);
    const geometry = indexGeometry(TINY);
    const slot = 2 + geometry.volumeBlocks;
    const volumeIndex = slot + 1 + geometry.pageMapBlocks;
    const places: [name: string, block: number, byte: number][] = [
      ["save header magic", slot, 0],
      ["save header type", slot, 16],
      ["save nonce", slot, 24 * 5 + 8],
      ["a region", slot, 24 * 3 + 2],
      ["open chapter magic", volumeIndex + geometry.volumeIndexBlocks, 1],
      ["volume index magic", volumeIndex, 2],
      ["volume index nonce", volumeIndex, 9],
      ["list count", volumeIndex, 36],
      ["page map magic", slot + 1, 3],
    ];
    for (const [name, block, byte] of places) {
      const copy = await copyOf(device);
      const bytes = new Uint8Array(4096);
      await copy.read(block, bytes);
      bytes[byte] = (bytes[byte] as number) ^ 0x40;
      await copy.write(block, bytes);
      const strict = UdsIndex.open({ ...TINY, device: copy, create: "never", rebuild: false });
      await expect(strict, name).rejects.toMatchObject({ code: "UDS_NOT_SAVED" });
      const index = await UdsIndex.open({ ...TINY, device: copy, create: "never" });
      expect((await index.queryBatch(names)).foundCount, name).toBe(R * 3);
      await index.close();
    }
  });

  test("uses the other save when a crash interrupts saving", async () => {
    const { device, names } = await filled(50);
    const index = await UdsIndex.open({ ...TINY, device });
    await index.postBatch(randomRecords(5, 50), values(50));
    await index.flush();
    await index.postBatch(randomRecords(6, 50), values(50));
    // The third save goes to slot 0 and stops after its header was emptied.
    const faulty = new FaultyDevice(device);
    await index.close({ save: false });
    const third = await UdsIndex.open({ ...TINY, device: faulty });
    await third.postBatch(randomRecords(7, 50), values(50));
    faulty.add({ operation: "write", after: 1 });
    await expect(third.close()).rejects.toMatchObject({ code: "VDO_IO" });
    expect(third.state).toBe("closed");
    const last = await UdsIndex.open({ ...TINY, device, create: "never", rebuild: false });
    expect((await last.queryBatch(names)).foundCount).toBe(50);
    expect((await last.queryBatch(randomRecords(5, 50))).foundCount).toBe(50);
    expect((await last.queryBatch(randomRecords(7, 50))).foundCount).toBe(0);
    await last.close();
  });

  test("cannot load a save once a chapter was written after it", async () => {
    const { device } = await filled(100);
    const index = await UdsIndex.open({ ...TINY, device });
    await index.postBatch(randomRecords(5, R * 2), values(R * 2));
    await index.close({ save: false });
    const strict = UdsIndex.open({ ...TINY, device, create: "never", rebuild: false });
    await expect(strict).rejects.toMatchObject({ code: "UDS_NOT_SAVED" });
  });

  test("in the background refuses requests, and stops when it is closed", async () => {
    const { device } = await filled(R * 6);
    const index = await UdsIndex.open({ ...TINY, device });
    await index.postBatch(randomRecords(5, R * 2), values(R * 2));
    await index.close({ save: false });
    const started = UdsIndex.start({ ...TINY, device, create: "never" });
    expect(started.state).toBe("opening");
    await expect(started.query(new Uint8Array(16))).rejects.toMatchObject({ code: "UDS_BUSY" });
    await started.close();
    await expect(started.ready).rejects.toMatchObject({ code: "UDS_STOPPED" });
    expect(started.state).toBe("closed");
    await expect(started.query(new Uint8Array(16))).rejects.toMatchObject({ code: "VDO_CLOSED" });
    const again = await UdsIndex.open({ ...TINY, device, create: "never" });
    expect(again.statistics().newestChapter).toBe(8);
    await again.close();
  });

  test("with everything on the volume damaged gives an empty index; with a hole in the middle an error", async () => {
    const { device } = await filled(R * 6);
    const geometry = indexGeometry(TINY);
    for (const slot of [0, 1]) await device.writeZeroes(2 + geometry.volumeBlocks + slot * geometry.saveBlocks, 1);
    const copy = await copyOf(device);
    await copy.writeZeroes(2, geometry.volumeBlocks);
    const empty = await UdsIndex.open({ ...TINY, device: copy, create: "never" });
    expect(empty.statistics()).toMatchObject({ entriesIndexed: 0, newestChapter: 0 });
    await empty.close();
    // Chapter 3: one index page of 4096 bytes and two record pages each.
    await device.writeZeroes(2 + 1 + 3 * geometry.pagesPerChapter, 1);
    await expect(UdsIndex.open({ ...TINY, device, create: "never" })).rejects.toMatchObject({ code: "VDO_CORRUPT" });
    const replaced = await UdsIndex.open({ ...TINY, device });
    expect(replaced.statistics().entriesIndexed).toBe(0);
    expect(await replaced.post(new Uint8Array(16), new Uint8Array(16))).toBeUndefined();
    await replaced.close();
  });
});

describe("a failing device", () => {
  test("disables the index at the first page that cannot be read, and blocks nobody", async () => {
    const device = deviceFor(TINY);
    const names = randomRecords(1, R * 4);
    const index = await UdsIndex.create({ ...TINY, device });
    await index.postBatch(names, values(R * 4));
    await index.close();
    const faulty = new FaultyDevice(device);
    const messages: string[] = [];
    const loaded = await UdsIndex.open({ ...TINY, device: faulty, log: (message) => messages.push(message) });
    faulty.add({ operation: "read" });
    const answers = await Promise.allSettled(
      Array.from({ length: 300 }, (_, i) => loaded.query(names.subarray(i * 16, i * 16 + 16))),
    );
    for (const answer of answers)
      expect(answer).toMatchObject({ status: "rejected", reason: { code: "UDS_DISABLED" } });
    expect(loaded.state).toBe("disabled");
    expect(messages.at(-1)).toMatch(/the index is disabled/);
    faulty.clear();
    await expect(loaded.query(names.subarray(0, 16))).rejects.toMatchObject({ code: "UDS_DISABLED" });
    await loaded.close();
    const again = await UdsIndex.open({ ...TINY, device, create: "never", rebuild: false });
    expect((await again.queryBatch(names)).foundCount).toBe(R * 4);
    await again.close();
  });

  test("disables the index when a page makes no sense", async () => {
    const device = deviceFor(TINY);
    const names = randomRecords(1, R * 2 + 5);
    const index = await UdsIndex.create({ ...TINY, device });
    await index.postBatch(names, values(R * 2 + 5));
    await index.close();
    const block = new Uint8Array(4096);
    await device.read(3, block);
    block[0] = (block[0] as number) ^ 1;
    await device.write(3, block);
    const loaded = await UdsIndex.open({ ...TINY, device, create: "never" });
    await expect(loaded.queryBatch(names)).rejects.toMatchObject({
      code: "UDS_DISABLED",
      cause: { code: "VDO_CORRUPT" },
    });
    await loaded.close();
  });

  test("disables the index when a chapter cannot be written; it is then rebuilt from the others", async () => {
    const faulty = new FaultyDevice(deviceFor(TINY));
    const index = await UdsIndex.create({ ...TINY, device: faulty });
    const names = randomRecords(1, R * 2);
    await index.postBatch(names, values(R * 2));
    await index.flush();
    faulty.add({ operation: "write", after: 2 });
    await expect(index.postBatch(randomRecords(2, R * 6), values(R * 6))).rejects.toMatchObject({
      code: "UDS_DISABLED",
    });
    faulty.clear();
    await index.close();
    const rebuilt = await UdsIndex.open({ ...TINY, device: faulty, create: "never" });
    expect((await rebuilt.queryBatch(names)).foundCount).toBe(R * 2);
    await rebuilt.close();
  });
});

describe("suspending", () => {
  test("saves, refuses requests, and goes on where it was", async () => {
    const device = deviceFor(TINY);
    const index = await UdsIndex.create({ ...TINY, device });
    const names = randomRecords(1, R + 30);
    await index.postBatch(names, values(R + 30));
    await index.suspend();
    expect(index.state).toBe("suspended");
    await expect(index.query(names.subarray(0, 16))).rejects.toMatchObject({ code: "UDS_BUSY" });
    const copy = await UdsIndex.open({ ...TINY, device: await copyOf(device), create: "never", rebuild: false });
    expect((await copy.queryBatch(names)).foundCount).toBe(R + 30);
    await copy.close();
    await index.resume();
    expect((await index.queryBatch(names)).foundCount).toBe(R + 30);
    await Promise.all([index.close(), index.close()]);
  });
});

test("a request submitted again before it is done is a bug that is told", async () => {
  const device = deviceFor(TINY);
  const index = await UdsIndex.create({ ...TINY, device });
  const names = randomRecords(1, R * 2);
  await index.postBatch(names, values(R * 2));
  await index.close();
  const loaded = await UdsIndex.open({ ...TINY, device });
  const request = new UdsRequest();
  request.name.set(names.subarray(0, 16));
  const done = new Promise<UdsRequest>((resolve) => {
    request.onDone = resolve;
  });
  loaded.submit(request);
  expect(request.pending).toBe(true);
  expect(() => loaded.submit(request)).toThrow(/not submitted again/);
  expect((await done).found).toBe(true);
  expect(request.pending).toBe(false);
  await loaded.close();
});
