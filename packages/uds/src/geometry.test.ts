import { isVdoError } from "@vdo/base";
import { describe, expect, test } from "vitest";
import { regionRows, subIndexRows } from "../test/support/format-tables.ts";
import { indexGeometry, indexMemory, memoryFromStored, memoryToStored } from "./index.ts";

function configOf(row: readonly string[]): { memory: number; sparse: boolean } {
  return { memory: Number(row[0]), sparse: row[1] === "sparse" };
}

describe("index geometry", () => {
  test.each(regionRows)("has the region sizes of the format: %s GiB %s", (...row) => {
    const geometry = indexGeometry(configOf(row));
    const { chaptersPerVolume, volumeBlocks, volumeIndexBlocks, pageMapBlocks, openChapterBlocks, saveBlocks } =
      geometry;
    expect([
      chaptersPerVolume,
      volumeBlocks,
      volumeIndexBlocks,
      pageMapBlocks,
      openChapterBlocks,
      saveBlocks,
      geometry.totalBlocks,
    ]).toEqual(row.slice(2).map(Number));
  });

  test.each(subIndexRows)("has the volume index figures of the format: %s GiB %s, sub-index %s", (...row) => {
    const sub = indexGeometry(configOf(row)).subIndexes.find(({ tag }) => tag === row[2]);
    expect(sub).toBeDefined();
    expect([
      sub?.recordsPerChapter,
      sub?.chapterCount,
      sub?.listCount,
      sub?.chapterBits,
      sub?.meanDelta,
      sub?.chapterSizeBits,
      sub?.zoneMemory,
    ]).toEqual(row.slice(3).map(Number));
    expect(sub?.addressBits).toBe(20);
  });

  test.each([
    { memory: 0.25, payload: 6, listBits: 10, address: 22, indexPages: 6, pages: 70 },
    { memory: 0.5, payload: 7, listBits: 11, address: 22, indexPages: 13, pages: 141 },
    { memory: 0.75, payload: 8, listBits: 12, address: 22, indexPages: 20, pages: 212 },
    { memory: 1024, payload: 8, listBits: 12, address: 22, indexPages: 26, pages: 282 },
  ])(
    "has the chapter figures of the format: $memory GiB",
    ({ memory, payload, listBits, address, indexPages, pages }) => {
      const geometry = indexGeometry({ memory });
      expect(geometry.chapterPayloadBits).toBe(payload);
      expect(geometry.chapterListBits).toBe(listBits);
      expect(geometry.chapterAddressBits).toBe(address);
      expect(geometry.indexPagesPerChapter).toBe(indexPages);
      expect(geometry.pagesPerChapter).toBe(pages);
    },
  );

  test.each([
    { page: 4096, pages: 1, chapters: 8, sparse: 0, rate: 0, lists: 2, indexPages: 1, mean: [209715], total: 96 },
    { page: 4096, pages: 2, chapters: 8, sparse: 0, rate: 0, lists: 4, indexPages: 1, mean: [104857], total: 106 },
    { page: 4096, pages: 32, chapters: 8, sparse: 0, rate: 0, lists: 64, indexPages: 3, mean: [6553], total: 454 },
    {
      page: 4096,
      pages: 64,
      chapters: 8,
      sparse: 4,
      rate: 2,
      lists: 128,
      indexPages: 7,
      mean: [10922, 6553],
      total: 840,
    },
    { page: 32768, pages: 32, chapters: 4, sparse: 0, rate: 0, lists: 512, indexPages: 3, mean: [2730], total: 1879 },
  ])("has the figures of small geometries: $pages pages of $page bytes", (row) => {
    const geometry = indexGeometry({
      chapters: {
        bytesPerPage: row.page,
        recordPagesPerChapter: row.pages,
        chaptersPerVolume: row.chapters,
        sparseChapters: row.sparse,
        sampleRate: row.rate,
      },
    });
    expect(geometry.listsPerChapter).toBe(row.lists);
    expect(geometry.indexPagesPerChapter).toBe(row.indexPages);
    expect(geometry.subIndexes.map(({ meanDelta }) => meanDelta)).toEqual(row.mean);
    expect(geometry.totalBlocks).toBe(row.total);
  });

  test.each([
    { memory: 0 },
    { memory: 0.3 },
    { memory: 1.5 },
    { memory: 1025 },
    { memory: -1 },
    { memory: Number.NaN },
    { chapters: { bytesPerPage: 1000, recordPagesPerChapter: 1, chaptersPerVolume: 8 } },
    { chapters: { bytesPerPage: 4096, recordPagesPerChapter: 0, chaptersPerVolume: 8 } },
    { chapters: { bytesPerPage: 4096, recordPagesPerChapter: 1, chaptersPerVolume: 7 } },
    { chapters: { bytesPerPage: 4096, recordPagesPerChapter: 1, chaptersPerVolume: 8, sparseChapters: 4 } },
    {
      chapters: {
        bytesPerPage: 4096,
        recordPagesPerChapter: 1,
        chaptersPerVolume: 8,
        sparseChapters: 8,
        sampleRate: 2,
      },
    },
    {
      chapters: {
        bytesPerPage: 4096,
        recordPagesPerChapter: 1,
        chaptersPerVolume: 8,
        sparseChapters: 4,
        sampleRate: 500,
      },
    },
  ])("is refused for a configuration that no index can have: %o", (config) => {
    let error: unknown;
    try {
      indexGeometry(config);
    } catch (thrown) {
      error = thrown;
    }
    expect(isVdoError(error, "UDS_BAD_CONFIGURATION")).toBe(true);
  });
});

test("the stored form of the memory size is converted both ways, and unknown forms are refused", () => {
  expect(memoryFromStored(0xffffff00)).toBe(0.25);
  expect(memoryFromStored(-512)).toBe(0.5);
  expect(memoryFromStored(1024)).toBe(1024);
  for (const memory of [0.25, 0.5, 0.75, 1, 77, 1024]) expect(memoryFromStored(memoryToStored(memory))).toBe(memory);
  for (const stored of [0, -1, -1280, 1025, 4097]) expect(() => memoryFromStored(stored)).toThrow(/index memory/);
});

test("the memory of an index is known before it is taken, and is about that of the kernel", () => {
  // What the kernel takes for the volume index alone, with its bookkeeping of 32 bytes a list.
  const kernel = { "0.25 dense": 218169768, "0.25 sparse": 180749136, "1 dense": 872677800, "1 sparse": 722797392 };
  for (const [name, bytes] of Object.entries(kernel)) {
    const [memory, kind] = name.split(" ");
    const stated = indexMemory({ memory: Number(memory), sparse: kind === "sparse" });
    expect(stated.volumeIndex + stated.lists).toBeLessThan(bytes);
  }
  expect(indexMemory({ memory: 0.25 }).total).toBeLessThan(241e6);
  expect(indexMemory({ memory: 0.25 }).records).toBe(64 * 2 ** 20);
  expect(indexMemory({ memory: 0.25, sparse: true }).records).toBe(640 * 2 ** 20);
});
