/** How much memory an open volume takes, known before it is taken. */
import { type IndexConfig, indexMemory } from "@vdo/uds";
import {
  BLOCK_MAP_ROOTS,
  BLOCK_SIZE,
  COUNTS_PER_BLOCK,
  DATA_VIOS_MAX,
  DEFAULT_BLOCK_MAP_CACHE_BLOCKS,
  JOURNAL_RESERVED_BLOCKS,
  SLAB_SUMMARY_BLOCKS_PER_ZONE,
} from "../constants.ts";
import { blockMapLevels, indexGeometry } from "../format/index.ts";
import type { VolumeInfo } from "./volume-info.ts";
import type { VolumeOptions } from "./volume-options.ts";

/** Bytes by part. All but what is said to grow is taken when the volume is opened. */
export interface MemoryNeeded {
  /** The deduplication index: volume index, open chapters, page cache. 0 without deduplication. */
  index: number;
  /** Leaf pages in the cache. Grows to this as leaves are used. */
  blockMapCache: number;
  /** Interior pages of the block map. Grows to this as the logical space is used. */
  blockMapTrees: number;
  /** Requests in flight: two blocks each. */
  dataVios: number;
  /** One byte per data block, and a record per 4032 of them. Slabs that were never used take theirs when opened. */
  referenceCounts: number;
  /** Of each slab: what holds each journal block, and the block being filled. */
  slabJournals: number;
  /** Blocks being filled or written, and three counts for each block of the journal. */
  recoveryJournal: number;
  /** Names and compression, reading in long runs, blocks being packed, slab summary. */
  buffers: number;
  total: number;
}

/** Bytes of an object with its fields, of the kinds that exist per page, request or reference block; measured. */
const OBJECT_BYTES = 320;
/** Hasher, compressor and decoder. */
const COMPUTE_BYTES = 4 * 2 ** 20;
/** Buffers for reads of more than one block, at most. */
const READ_BYTES = 16 * 64 * BLOCK_SIZE;

function indexBytes({ geometry }: VolumeInfo): number {
  const { gib, sparse, reduced, chapters, sparseChapters, recordPagesPerChapter } = indexGeometry(geometry.index);
  const config: IndexConfig = reduced
    ? {
        chapters: {
          bytesPerPage: 32768,
          recordPagesPerChapter,
          chaptersPerVolume: chapters,
          sparseChapters,
          ...(sparse ? { sampleRate: 32 } : {}),
        },
      }
    : { memory: gib, sparse };
  return indexMemory(config).total;
}

/**
 * Bytes that a volume, as `readVolumeInfo` describes it, takes when it is opened with `options`. What the runtime itself
 * needs (about 50 MB) comes on top; recovery of a large journal takes up to 300 MB more for a moment.
 */
export function memoryNeeded(info: VolumeInfo, options: VolumeOptions = {}): MemoryNeeded {
  const { slabConfig } = info.superBlock.slabDepot;
  const { recoveryJournalBlocks } = info.superBlock.vdo.config;
  const vios = options.dataVios ?? DATA_VIOS_MAX;
  const cachePages = options.blockMapCacheBlocks ?? DEFAULT_BLOCK_MAP_CACHE_BLOCKS;
  const treePages = blockMapLevels(options.logicalBlocks ?? info.logicalBlocks).reduce((sum, pages) => sum + pages, 0);
  const referenceBlocks = Math.ceil(slabConfig.dataBlocks / COUNTS_PER_BLOCK);
  const isIndexed = options.deduplication !== false && options.readOnly !== true;
  const parts = {
    index: isIndexed ? indexBytes(info) : 0,
    blockMapCache: cachePages * (BLOCK_SIZE + OBJECT_BYTES),
    blockMapTrees: treePages * BLOCK_MAP_ROOTS * (BLOCK_SIZE + OBJECT_BYTES),
    dataVios: vios * (2 * BLOCK_SIZE + 4 * OBJECT_BYTES),
    referenceCounts: info.slabCount * (slabConfig.dataBlocks + referenceBlocks * OBJECT_BYTES),
    slabJournals: info.slabCount * (slabConfig.slabJournalBlocks * 12 + BLOCK_SIZE + OBJECT_BYTES),
    recoveryJournal: JOURNAL_RESERVED_BLOCKS * BLOCK_SIZE + recoveryJournalBlocks * 12,
    buffers: COMPUTE_BYTES + READ_BYTES + SLAB_SUMMARY_BLOCKS_PER_ZONE * BLOCK_SIZE,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}
