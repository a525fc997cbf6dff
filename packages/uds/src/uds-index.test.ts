import { Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { indexGeometry, UdsIndex } from "./index.ts";

const TINY = { chapters: { bytesPerPage: 4096, recordPagesPerChapter: 2, chaptersPerVolume: 8 } } as const;

function tinyDevice(): MemoryDevice {
  return new MemoryDevice({ blockCount: indexGeometry(TINY).totalBlocks });
}

function records(seed: number, count: number): Uint8Array {
  return new Random(seed).fill(new Uint8Array(count * 16));
}

describe("an index of a tiny geometry", () => {
  test("finds a name again with its first value, also from closed chapters", async () => {
    const index = await UdsIndex.create({ ...TINY, device: tinyDevice() });
    const names = records(1, 1500);
    const values = records(2, 1500);
    const first = await index.postBatch(names, values);
    expect(first.foundCount).toBe(0);
    const again = await index.postBatch(names, records(3, 1500));
    expect(again.foundCount).toBe(1500);
    expect(Buffer.compare(again.oldValues, values)).toBe(0);
    const { newestChapter, postsFound, postsNotFound, inMemoryPostsFound, densePostsFound } = index.statistics();
    expect(newestChapter).toBe(11);
    expect([postsFound, postsNotFound]).toEqual([1500, 1500]);
    expect(inMemoryPostsFound + densePostsFound).toBe(1500);
    await index.close();
  });

  test("is the same after it was saved and loaded", async () => {
    const device = tinyDevice();
    const names = records(1, 1500);
    const values = records(2, 1500);
    const index = await UdsIndex.create({ ...TINY, device });
    await index.postBatch(names, values);
    const before = index.statistics();
    await index.close();
    const messages: string[] = [];
    const loaded = await UdsIndex.open({
      ...TINY,
      device,
      create: "never",
      rebuild: false,
      log: (m) => messages.push(m),
    });
    expect(loaded.statistics().entriesIndexed).toBe(before.entriesIndexed);
    const found = await loaded.queryBatch(names);
    expect(found.foundCount).toBe(1500);
    expect(Buffer.compare(found.oldValues, values)).toBe(0);
    await loaded.close();
    expect(messages[0]).toBe("loaded the index from chapter 0 to 5");
  });

  test("is rebuilt from its chapters when it was not saved", async () => {
    const device = tinyDevice();
    const names = records(1, 1500);
    const index = await UdsIndex.create({ ...TINY, device });
    await index.postBatch(names, records(2, 1500));
    await index.close({ save: false });
    const loaded = await UdsIndex.open({ ...TINY, device, create: "never" });
    const found = await loaded.queryBatch(names);
    expect(found.foundCount).toBe(1280);
    await loaded.close();
  });
});

test("an index whose memory is taken at once answers as any other", async () => {
  const index = await UdsIndex.create({ memory: 0.25, prefault: true });
  const name = new Uint8Array(16).fill(3);
  const value = new Uint8Array(16).fill(4);
  expect(await index.post(name, value)).toBeUndefined();
  // Let some of the memory be taken between the requests.
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(await index.query(name)).toEqual(value);
  await index.close({ save: false });
});
