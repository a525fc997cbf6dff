/**
 * Sizes of an index: from the parameters a user gives to every derived figure of the format.
 *
 * Sources of fact: Linux 6.12 dm-vdo indexer, configuration, geometry, index layout and volume index. The tables in
 * `geometry.test.ts` are those of the format's description.
 */
import { VdoError } from "@vdo/base";
import { bitsFor, ceilDiv, roundUp } from "./arithmetic.ts";
import {
  BLOCK_BYTES,
  CHAPTER_MEAN_DELTA,
  PRODUCTION_PAGE_BYTES,
  RECORD_BYTES,
  RECORDS_PER_VOLUME_LIST,
  SPARSE_SAMPLE_RATE,
  VOLUME_INDEX_MEAN_DELTA,
  VOLUME_LISTS_MIN,
  ZONE_MEMORY_UNIT,
} from "./constants.ts";
import { deltaCode, expectedBits } from "./delta/delta-code.ts";
import "./errors.ts";

/** A geometry given directly. Production indexes use `memory` and `sparse` instead; small ones are for tests. */
export interface ChapterGeometry {
  /** Bytes of a chapter page: a multiple of 4096, a power of two, at most 32768. */
  readonly bytesPerPage: number;
  readonly recordPagesPerChapter: number;
  readonly chaptersPerVolume: number;
  /** Chapters of the volume that are sparse; 0 for a dense index. */
  readonly sparseChapters?: number;
  /** One name in this many is a hook; must be given when `sparseChapters` is not 0. */
  readonly sampleRate?: number;
}

/** What an index is made for. */
export interface IndexConfig {
  /** Memory of the volume index in GiB: 0.25, 0.5, 0.75, or a whole number of 1 to 1024. Default 0.25. */
  readonly memory?: number;
  /** Ten times the window for the same memory, at the price of missed duplicates. Default false. */
  readonly sparse?: boolean;
  /** Takes the place of `memory` and `sparse`. */
  readonly chapters?: ChapterGeometry;
}

/** Figures of one sub-index of the volume index (the only one, or those of hooks and of other names). */
export interface SubIndexGeometry {
  /** Tag of its list records in a save. */
  readonly tag: "m" | "d" | "s";
  readonly recordsPerChapter: number;
  readonly chapterCount: number;
  readonly listCount: number;
  readonly addressBits: number;
  readonly chapterBits: number;
  readonly meanDelta: number;
  readonly chapterSizeBits: number;
  /** Bytes for the lists of one zone. */
  readonly zoneMemory: number;
  /** Bits of lists above which chapters are expired early. */
  readonly zoneBitsMax: number;
}

/** All derived figures of an index. Sizes ending in `Blocks` are in blocks of 4096 bytes. */
export interface IndexGeometry {
  readonly bytesPerPage: number;
  readonly recordPagesPerChapter: number;
  readonly chaptersPerVolume: number;
  readonly sparseChapters: number;
  readonly denseChapters: number;
  readonly sampleRate: number;
  readonly recordsPerPage: number;
  readonly recordsPerChapter: number;
  readonly chapterPayloadBits: number;
  readonly chapterListBits: number;
  readonly listsPerChapter: number;
  readonly chapterAddressBits: number;
  readonly indexPagesPerChapter: number;
  readonly pagesPerChapter: number;
  readonly subIndexes: readonly SubIndexGeometry[];
  readonly volumeBlocks: number;
  readonly pageMapBlocks: number;
  readonly openChapterBlocks: number;
  readonly volumeIndexBlocks: number;
  readonly saveBlocks: number;
  readonly totalBlocks: number;
}

function bad(field: string, value: unknown, rule: string): VdoError<"UDS_BAD_CONFIGURATION"> {
  return new VdoError("UDS_BAD_CONFIGURATION", `${field} is ${String(value)}; it must be ${rule}`, { field, value });
}

/** The memory in GiB that VDO's geometry block stores as 32 bits. Throws `UDS_BAD_CONFIGURATION` for reduced and unknown sizes. */
export function memoryFromStored(stored: number): number {
  const signed = stored | 0;
  if (signed === -256 || signed === -512 || signed === -768) return -signed / 1024;
  if (signed >= 1 && signed <= 1024) return signed;
  throw bad(
    "index memory",
    stored,
    "0.25, 0.5, 0.75 or 1 to 1024 GiB (reduced indexes of converted volumes are not supported)",
  );
}

/** The 32 bits in which VDO's geometry block stores `memory` GiB. */
export function memoryToStored(memory: number): number {
  chaptersFor({ memory });
  return memory < 1 ? (-memory * 1024) >>> 0 : memory;
}

function chaptersFor({ memory = 0.25, sparse = false }: IndexConfig): Required<ChapterGeometry> {
  const small = memory === 0.25 || memory === 0.5 || memory === 0.75;
  if (!small && !(Number.isInteger(memory) && memory >= 1 && memory <= 1024)) {
    throw bad("index memory", memory, "0.25, 0.5, 0.75 or a whole number of 1 to 1024 (GiB)");
  }
  const base = small ? 1024 : memory * 1024;
  return {
    bytesPerPage: PRODUCTION_PAGE_BYTES,
    recordPagesPerChapter: small ? memory * 256 : 256,
    chaptersPerVolume: sparse ? base * 10 : base,
    sparseChapters: sparse ? Math.floor((19 * base) / 2) : 0,
    sampleRate: sparse ? SPARSE_SAMPLE_RATE : 0,
  };
}

function checkChapters(chapters: Required<ChapterGeometry>): void {
  const { bytesPerPage, recordPagesPerChapter, chaptersPerVolume, sparseChapters, sampleRate } = chapters;
  if (![4096, 8192, 16384, 32768].includes(bytesPerPage)) {
    throw bad("bytes per page", bytesPerPage, "4096, 8192, 16384 or 32768");
  }
  if (!Number.isInteger(recordPagesPerChapter) || recordPagesPerChapter < 1 || recordPagesPerChapter > 256) {
    throw bad("record pages per chapter", recordPagesPerChapter, "1 to 256");
  }
  if (!Number.isInteger(chaptersPerVolume) || chaptersPerVolume < 2 || chaptersPerVolume > 2 ** 24) {
    throw bad("chapters per volume", chaptersPerVolume, "2 to 16777216");
  }
  if (chaptersPerVolume % 2 !== 0)
    throw bad("chapters per volume", chaptersPerVolume, "even (odd means a reduced index)");
  if (!Number.isInteger(sparseChapters) || sparseChapters < 0 || sparseChapters > chaptersPerVolume - 2) {
    throw bad("sparse chapters", sparseChapters, "at least 2 fewer than the chapters per volume");
  }
  if (!Number.isInteger(sampleRate) || sampleRate < 0 || sampleRate > 65535 || sparseChapters > 0 !== sampleRate > 0) {
    throw bad("sample rate", sampleRate, "1 to 65535 in a sparse index, 0 in a dense one");
  }
}

function indexPages(
  chapters: Required<ChapterGeometry>,
  { listBits, payloadBits }: { listBits: number; payloadBits: number },
): number {
  const records = (chapters.bytesPerPage / RECORD_BYTES) * chapters.recordPagesPerChapter;
  const lists = 2 ** listBits;
  const bits = expectedBits(records, CHAPTER_MEAN_DELTA, payloadBits);
  return ceilDiv(bits + 19 * lists, (chapters.bytesPerPage - 20) * 8 - 19 - Math.floor(bits / lists));
}

function subIndexGeometry(tag: "m" | "d" | "s", recordsPerChapter: number, chapterCount: number): SubIndexGeometry {
  const listCount = Math.max(
    Math.floor((recordsPerChapter * chapterCount) / RECORDS_PER_VOLUME_LIST),
    VOLUME_LISTS_MIN,
  );
  const addressBits = bitsFor(VOLUME_INDEX_MEAN_DELTA * RECORDS_PER_VOLUME_LIST - 1);
  const chapterBits = bitsFor(chapterCount - 1);
  // Room for entries of expired chapters that no look-up has removed yet.
  const invalidChapters = Math.max(Math.floor(chapterCount / 256), 2);
  const chapters = chapterCount + invalidChapters;
  if (recordsPerChapter < 1) throw bad("sample rate", chapterCount, "smaller: a chapter would have no hooks");
  const meanDelta = Math.floor((listCount * 2 ** addressBits) / (recordsPerChapter * chapters));
  const chapterSizeBits = expectedBits(recordsPerChapter, meanDelta, chapterBits);
  const expectedBytes = Math.floor((chapterSizeBits * chapters) / 8);
  // Widest field that is read with one load, and a code that fits in 32 bits with its position in a byte.
  if (deltaCode(meanDelta).minBits > 24) {
    throw bad("records per chapter", recordsPerChapter, "more, for this many chapters and this sample rate");
  }
  const zoneMemory = roundUp(Math.floor((expectedBytes * 106) / 100), ZONE_MEMORY_UNIT);
  const zoneBitsMax = (zoneMemory - Math.floor(expectedBytes / 20)) * 8;
  return {
    tag,
    recordsPerChapter,
    chapterCount,
    listCount,
    addressBits,
    chapterBits,
    meanDelta,
    chapterSizeBits,
    zoneMemory,
    zoneBitsMax,
  };
}

function subIndexes(records: number, chapters: Required<ChapterGeometry>): SubIndexGeometry[] {
  const { chaptersPerVolume, sparseChapters, sampleRate } = chapters;
  if (sampleRate === 0) return [subIndexGeometry("m", records, chaptersPerVolume)];
  const hooks = Math.floor(records / sampleRate);
  return [
    subIndexGeometry("d", records - hooks, chaptersPerVolume - sparseChapters),
    subIndexGeometry("s", hooks, chaptersPerVolume),
  ];
}

/** Computes every figure of the index that `config` describes. Throws `UDS_BAD_CONFIGURATION`. */
export function indexGeometry(config: IndexConfig): IndexGeometry {
  const chapters =
    config.chapters === undefined ? chaptersFor(config) : { sparseChapters: 0, sampleRate: 0, ...config.chapters };
  checkChapters(chapters);
  const { bytesPerPage, recordPagesPerChapter, chaptersPerVolume, sparseChapters } = chapters;
  const recordsPerPage = bytesPerPage / RECORD_BYTES;
  const recordsPerChapter = recordsPerPage * recordPagesPerChapter;
  const chapterPayloadBits = bitsFor(recordPagesPerChapter - 1);
  const chapterListBits = bitsFor((recordsPerChapter - 1) | 63) - 6;
  const indexPagesPerChapter = indexPages(chapters, { listBits: chapterListBits, payloadBits: chapterPayloadBits });
  const pagesPerChapter = indexPagesPerChapter + recordPagesPerChapter;
  const subs = subIndexes(recordsPerChapter, chapters);
  let saveBytes = (sparseChapters > 0 ? 12 : 0) + 8;
  for (const sub of subs) saveBytes += 40 + 8 * sub.listCount + 40 + 9 * sub.listCount + sub.zoneMemory;
  const volumeBlocks = (bytesPerPage * (pagesPerChapter * chaptersPerVolume + 1)) / BLOCK_BYTES;
  const pageMapBlocks = ceilDiv(16 + 2 * chaptersPerVolume * (indexPagesPerChapter - 1), BLOCK_BYTES);
  const openChapterBlocks = ceilDiv(14 + RECORD_BYTES * recordsPerChapter, BLOCK_BYTES);
  const volumeIndexBlocks = ceilDiv(saveBytes, BLOCK_BYTES) + 16;
  const saveBlocks = 1 + volumeIndexBlocks + pageMapBlocks + openChapterBlocks;
  return {
    ...chapters,
    denseChapters: chaptersPerVolume - sparseChapters,
    recordsPerPage,
    recordsPerChapter,
    chapterPayloadBits,
    chapterListBits,
    listsPerChapter: 2 ** chapterListBits,
    chapterAddressBits: 16 - chapterListBits + bitsFor(recordsPerChapter - 1),
    indexPagesPerChapter,
    pagesPerChapter,
    subIndexes: subs,
    volumeBlocks,
    pageMapBlocks,
    openChapterBlocks,
    volumeIndexBlocks,
    saveBlocks,
    totalBlocks: 3 + volumeBlocks + 2 * saveBlocks,
  };
}
