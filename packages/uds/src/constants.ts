/** Figures of the UDS format (Linux 6.12, dm-vdo indexer) and limits of this implementation. */

/** Block size in which regions are counted. */
export const BLOCK_BYTES = 4096;
export const NAME_BYTES = 16;
export const VALUE_BYTES = 16;
export const RECORD_BYTES = 32;
/** Bits of a full record name in a collision entry. */
export const COLLISION_BITS = NAME_BYTES * 8;

export const PRODUCTION_PAGE_BYTES = 32768;
/** Chapters held by the page cache, and by the sparse cache. */
export const CACHE_CHAPTERS = 7;
export const VOLUME_INDEX_MEAN_DELTA = 4096;
export const SPARSE_SAMPLE_RATE = 32;
/** Mean delta of a chapter's own index. */
export const CHAPTER_MEAN_DELTA = 65536;
/** Records that a delta list of the volume index holds on average. */
export const RECORDS_PER_VOLUME_LIST = 256;
/** The fewest delta lists of a volume index, which is also 16 zones squared. */
export const VOLUME_LISTS_MIN = 256;
export const ZONES_MAX = 16;
export const SAVE_SLOTS = 2;
/** A list has at most this many bits: its size is stored in 16 bits. */
export const LIST_BITS_MAX = 65535;
/** Memory of a volume index zone is a multiple of this. */
export const ZONE_MEMORY_UNIT = 65536;

/** Page reads in flight together. */
export const PAGE_READS_MAX = 16;
/** Bytes of one read or write when a region is streamed. */
export const STREAM_BYTES = 1 << 20;
/** Consecutive misses after which a cached sparse chapter is no longer searched. */
export const SPARSE_MISSES_MAX = 20000;
/** Bad chapters in a row after which a rebuild gives up. */
export const BAD_CHAPTERS_MAX = 100;
