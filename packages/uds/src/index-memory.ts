/** How much memory an index takes, known before it is taken. */

import { ChapterWriter } from "./chapter/chapter-writer.ts";
import { RECORD_BYTES } from "./constants.ts";
import { PageCache } from "./engine/page-cache.ts";
import { SparseCache } from "./engine/sparse-cache.ts";
import { type IndexConfig, indexGeometry } from "./geometry.ts";

/** Bytes taken by the parts of an index; fixed when it is opened. */
export interface IndexMemory {
  /** Delta lists of the volume index. */
  volumeIndex: number;
  /** Position, size and flush chapter of each list. */
  lists: number;
  /** Open and writing chapter, with their hash tables. */
  chapters: number;
  chapterWriter: number;
  pageCache: number;
  pageMap: number;
  /** Chapter indexes of sparse chapters; 0 when dense. */
  sparseCache: number;
  total: number;
  /** Records that can be found: the deduplication window, in records. */
  records: number;
  /** Bytes of storage. */
  storage: number;
}

/** Bytes of bookkeeping per delta list: start (4), size (2), flush chapter (8), three marks (6 each). */
const LIST_BYTES = 32;

/** The memory that opening an index with `config` takes. Throws `UDS_BAD_CONFIGURATION`. */
export function indexMemory(config: IndexConfig): IndexMemory {
  const geometry = indexGeometry(config);
  const { recordsPerChapter, chaptersPerVolume, indexPagesPerChapter } = geometry;
  let volumeIndex = 0;
  let lists = 0;
  for (const sub of geometry.subIndexes) {
    volumeIndex += sub.zoneMemory;
    lists += sub.listCount * LIST_BYTES;
  }
  const slots = 2 ** (33 - Math.clz32(recordsPerChapter * 2 - 1));
  const chapters = 2 * (recordsPerChapter * (RECORD_BYTES + 1) + slots * 4);
  const chapterWriter = ChapterWriter.memory(geometry);
  const pageCache = PageCache.memory(geometry);
  const pageMap = 2 * chaptersPerVolume * (indexPagesPerChapter - 1);
  const sparseCache = geometry.sampleRate > 0 ? SparseCache.memory(geometry) : 0;
  return {
    volumeIndex,
    lists,
    chapters,
    chapterWriter,
    pageCache,
    pageMap,
    sparseCache,
    total: volumeIndex + lists + chapters + chapterWriter + pageCache + pageMap + sparseCache,
    records: recordsPerChapter * chaptersPerVolume,
    storage: geometry.totalBlocks * 4096,
  };
}
