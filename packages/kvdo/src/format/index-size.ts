/**
 * How many blocks the index region takes, from the index configuration alone. (The formulas are those by which the
 * index lays out its volume, its two saves and its configuration; checked against what vdoformat 8.3 chose.)
 */
import { invariant } from "@vdo/base";
import { BLOCK_SIZE } from "../constants.ts";
import { indexGeometry } from "./index-config.ts";

const PAGE_SIZE = 32768;
const RECORDS_PER_PAGE = 1024;
const RECORD_SIZE = 32;
/** Bits of the address space that a chapter's delta lists share: 4096 × 256 values. */
const VOLUME_INDEX_ADDRESS_BITS = 20;

const divide = (a: number, b: number): number => Math.floor(a / b);
const ceilDiv = (a: number, b: number): number => Math.ceil(a / b);

/** Binary digits of `n`; 1 for 0. */
function bits(n: number): number {
  let count = 1;
  for (let rest = divide(n, 2); rest > 0; rest = divide(rest, 2)) count++;
  return count;
}

/** Expected bits of delta lists with `entries` entries of mean delta `mean` and `payload` bits each. */
function deltaSize(entries: number, mean: number, payload: number): number {
  const incremental = divide(836158 * mean + 603160, 1206321);
  return entries * (payload + bits(incremental + 1) + 1) + divide(entries, 2);
}

/** Index pages of one chapter. */
function indexPagesPerChapter(records: number, recordPages: number): number {
  const lists = 2 ** (bits((records - 1) | 63) - 6);
  const total = deltaSize(records, 65536, bits(recordPages - 1));
  const perList = divide(total, lists);
  const usable = (PAGE_SIZE - 20) * 8 - (19 + perList);
  return ceilDiv(total + 19 * lists, usable);
}

/** Saved bytes of one volume index over `chapters` chapters of `records` records. */
function volumeIndexBytes(records: number, chapters: number): number {
  const evenChapters = chapters + (chapters % 2);
  const lists = Math.max(divide(records * evenChapters, 256), 256);
  const window = evenChapters + Math.max(divide(evenChapters, 256), 2);
  const mean = divide(lists * 2 ** VOLUME_INDEX_ADDRESS_BITS, records * window);
  const expected = divide(deltaSize(records, mean, bits(evenChapters - 1)) * window, 8);
  const memory = divide(expected * 106, 100);
  return 40 + 8 * lists + 40 + 9 * lists + ceilDiv(memory, 65536) * 65536;
}

/**
 * Blocks of the index region for a stored memory value (see {@link indexGeometry}) and density.
 * 679127 for the default, 0.25 GiB dense. Throws `VDO_BAD_CONFIGURATION` for an unknown memory value.
 */
export function indexBlockCount(config: { memory: number; sparse: number | boolean }): number {
  const { chapters, sparseChapters, recordPagesPerChapter: recordPages } = indexGeometry(config);
  const records = RECORDS_PER_PAGE * recordPages;
  const indexPages = indexPagesPerChapter(records, recordPages);
  const volumeBlocks = (PAGE_SIZE / BLOCK_SIZE) * ((indexPages + recordPages) * chapters + 1);
  let volumeIndex: number;
  if (sparseChapters === 0) volumeIndex = volumeIndexBytes(records, chapters);
  else {
    // One record in 32 is a hook, kept for all chapters; the others only for the dense ones.
    const hooks = records / 32;
    volumeIndex = 12 + volumeIndexBytes(hooks, chapters) + volumeIndexBytes(records - hooks, chapters - sparseChapters);
  }
  const volumeIndexBlocks = ceilDiv(volumeIndex + 8, BLOCK_SIZE) + 16;
  const pageMapBlocks = ceilDiv(16 + 2 * chapters * (indexPages - 1), BLOCK_SIZE);
  const openChapterBlocks = ceilDiv(14 + RECORD_SIZE * records, BLOCK_SIZE);
  const saveBlocks = 1 + volumeIndexBlocks + pageMapBlocks + openChapterBlocks;
  const total = 3 + volumeBlocks + 2 * saveBlocks;
  invariant(Number.isSafeInteger(total), "an index region has a countable number of blocks");
  return total;
}
