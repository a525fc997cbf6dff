/**
 * Sizes and limits of a volume, each derived from the figures it depends on and checked against the stated values when
 * the module loads. Unless a line says otherwise the figures are those of Linux 6.12 dm-vdo.
 */
import { invariant } from "@vdo/base";

/** Bytes per block; the only size there is. */
export const BLOCK_SIZE = 4096;
/** Bytes that a device is assumed not to tear. */
export const SECTOR_SIZE = 512;
export const SECTORS_PER_BLOCK = BLOCK_SIZE / SECTOR_SIZE;

/** Requests of one block in flight at once. The journal reserve below is computed from it: fewer are fine, more are not. */
export const DATA_VIOS_MAX = 2048;
/** Discards in flight at once: three quarters of all requests. */
export const DISCARD_PERMITS = (DATA_VIOS_MAX * 3) / 4;
/** Finished requests recycled in one pass. */
export const RELEASE_BATCH = 128;

/** Bytes of one block map entry. */
export const MAPPING_SIZE = 5;
/** Bytes before the first entry of a block map page. */
export const BLOCK_MAP_PAGE_HEADER_SIZE = 36;
export const BLOCK_MAP_ENTRIES_PER_PAGE = (BLOCK_SIZE - BLOCK_MAP_PAGE_HEADER_SIZE) / MAPPING_SIZE;
/** Trees of the block map; the root pages have fixed places. */
export const BLOCK_MAP_ROOTS = 60;
/** Heights of pages on disk: leaves are 0, interior pages 1 to 3, roots 4; height 5 is a super-root in memory. */
export const BLOCK_MAP_TREE_HEIGHT = 5;
/** The word "flat page origin" of old volumes: must be this. */
export const BLOCK_MAP_FLAT_PAGE_ORIGIN = 1;

/** Blocks of the recovery journal as formatted. */
export const DEFAULT_RECOVERY_JOURNAL_BLOCKS = 32768;
export const JOURNAL_ENTRY_SIZE = 16;
export const JOURNAL_SECTOR_HEADER_SIZE = 3;
/** Entries in each of the sectors 1 to 7 of a recovery journal block. */
export const JOURNAL_ENTRIES_PER_SECTOR = Math.floor((SECTOR_SIZE - JOURNAL_SECTOR_HEADER_SIZE) / JOURNAL_ENTRY_SIZE);
export const JOURNAL_ENTRIES_PER_BLOCK = JOURNAL_ENTRIES_PER_SECTOR * (SECTORS_PER_BLOCK - 1);
/** Blocks kept free so that every request in flight can make its entry; also the number of block buffers in memory. */
export const JOURNAL_RESERVED_BLOCKS = Math.floor(DATA_VIOS_MAX / JOURNAL_ENTRIES_PER_BLOCK) + 2;
/** Sequence numbers at or above it do not fit in a packed journal point: the volume becomes read-only there. */
export const SEQUENCE_LIMIT = 2 ** 48;
export const MAXIMUM_SEQUENCE = SEQUENCE_LIMIT - 1;

/** Journal blocks that may hold live entries: 32757 of 32768. */
export function journalUsableBlocks(journalBlocks: number): number {
  return journalBlocks - Math.min(Math.floor(journalBlocks / 4), JOURNAL_RESERVED_BLOCKS);
}

/** Distance from tail to slab journal head beyond which slab journals are told to commit: 21845 of 32768. */
export function slabJournalCommitThreshold(journalBlocks: number): number {
  return Math.floor((journalBlocks * 2) / 3);
}

/** Blocks of each slab's journal as formatted. */
export const DEFAULT_SLAB_JOURNAL_BLOCKS = 224;
export const SLAB_JOURNAL_HEADER_SIZE = 36;
export const SLAB_JOURNAL_ENTRY_SIZE = 3;
export const SLAB_JOURNAL_PAYLOAD_SIZE = BLOCK_SIZE - SLAB_JOURNAL_HEADER_SIZE;
/** Entries of a slab journal block without block map increments. */
export const SLAB_JOURNAL_ENTRIES_PER_BLOCK = Math.floor(SLAB_JOURNAL_PAYLOAD_SIZE / SLAB_JOURNAL_ENTRY_SIZE);
/** Entries of one with block map increments: 25 bits each, 24 of entry and one in the bit map at the end. */
export const SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK = Math.floor((SLAB_JOURNAL_PAYLOAD_SIZE * 8) / 25);
/** Bytes of that bit map. */
export const SLAB_JOURNAL_BITMAP_SIZE = Math.ceil(SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK / 8);

/** Lengths (tail - head) of a slab journal of S blocks at which something happens. */
export interface SlabJournalThresholds {
  /** From here each new block writes some reference blocks. */
  flushing: number;
  /** From here no entry is accepted. */
  blocking: number;
  /** From here at load the slab is scrubbed before the volume comes online. */
  scrubbing: number;
}

/** Thresholds as the formatter computes and stores them: 168, 208, 222 for 224 blocks. */
export function slabJournalThresholds(slabJournalBlocks: number): SlabJournalThresholds {
  const flushing = Math.floor((slabJournalBlocks * 3 + 3) / 4);
  const remaining = slabJournalBlocks - flushing;
  const unthrottled = flushing + Math.floor((remaining * 5) / 7);
  const reserve = 1 + Math.floor(DATA_VIOS_MAX / SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK);
  const scrubbing = slabJournalBlocks > reserve ? slabJournalBlocks - reserve : unthrottled;
  return { flushing, blocking: Math.min(unthrottled, scrubbing), scrubbing };
}

/** Length from which all dirty reference blocks are written: 203 for 224 blocks. */
export function slabJournalFlushingDeadline({ flushing, blocking }: SlabJournalThresholds): number {
  return blocking - flushing > 5 ? blocking - 5 : flushing;
}

/** Reference counts in one sector, after its commit point. */
export const COUNTS_PER_SECTOR = SECTOR_SIZE - 8;
export const COUNTS_PER_BLOCK = COUNTS_PER_SECTOR * SECTORS_PER_BLOCK;
/** References that one block can have; block map pages always have this count. */
export const MAXIMUM_REFERENCE_COUNT = 254;
/** The count of a block that is allocated but not yet referenced; read as 0 at load. */
export const PROVISIONAL_REFERENCE_COUNT = 255;

export const MINIMUM_SLAB_BITS = 13;
export const MAXIMUM_SLAB_BITS = 23;
export const DEFAULT_SLAB_BITS = 19;
export const MAXIMUM_SLAB_BLOCKS = 2 ** MAXIMUM_SLAB_BITS;
export const MAXIMUM_SLABS = 8192;
export const MAXIMUM_PHYSICAL_ZONES = 16;
export const MAXIMUM_LOGICAL_ZONES = 60;
/** The slab summary: 16 zones of 8192 entries of 2 bytes. */
export const SUMMARY_ENTRY_SIZE = 2;
export const SUMMARY_ENTRIES_PER_BLOCK = BLOCK_SIZE / SUMMARY_ENTRY_SIZE;
export const SUMMARY_ZONES = MAXIMUM_PHYSICAL_ZONES;
export const SLAB_SUMMARY_BLOCKS_PER_ZONE = MAXIMUM_SLABS / SUMMARY_ENTRIES_PER_BLOCK;
export const SLAB_SUMMARY_BLOCKS = SLAB_SUMMARY_BLOCKS_PER_ZONE * SUMMARY_ZONES;
/** Slots of the fullness hint: 6 bits. */
export const FULLNESS_HINT_BITS = 6;

/** 4 PiB. */
export const MAXIMUM_LOGICAL_BLOCKS = 2 ** 40;
/** 256 TiB: a mapping has 36 bits of block number. */
export const MAXIMUM_PHYSICAL_BLOCKS = 2 ** 36;

export const PACKER_BINS = 16;
export const COMPRESSED_BLOCK_SLOTS = 14;
export const COMPRESSED_BLOCK_HEADER_SIZE = 8 + 2 * COMPRESSED_BLOCK_SLOTS;
export const COMPRESSED_BLOCK_DATA_SIZE = BLOCK_SIZE - COMPRESSED_BLOCK_HEADER_SIZE;
/** Longest fragment: one byte less than the data area, so that two always could share a block. */
export const MAXIMUM_FRAGMENT_SIZE = COMPRESSED_BLOCK_DATA_SIZE - 1;

/** PBN locks per physical zone. */
export const MAXIMUM_PBN_LOCKS = DATA_VIOS_MAX * 2;
/** Index queries older than this are given up, and the shortest timer the engine sets. */
export const INDEX_TIMEOUT_MS = 5000;
export const INDEX_TIMER_MINIMUM_MS = 100;

/** Pages of the block map cache: 128 MiB. */
export const DEFAULT_BLOCK_MAP_CACHE_BLOCKS = 32768;
export const DEFAULT_BLOCK_MAP_MAXIMUM_AGE = 16380;

/** Journal blocks after which a dirty block map page is written, from the configured age: 16380 gives 11738. */
export function blockMapEraLength(configuredAge: number): number {
  return Math.ceil((configuredAge * 311) / 434);
}

/** Seed of MurmurHash3 x64-128 for record names. */
export const RECORD_NAME_SEED = 0x62ea60be;
export const RECORD_NAME_SIZE = 16;

invariant(BLOCK_MAP_ENTRIES_PER_PAGE === 812, "a block map page has 812 entries");
invariant(JOURNAL_ENTRIES_PER_SECTOR === 31, "a journal sector has 31 entries");
invariant(JOURNAL_ENTRIES_PER_BLOCK === 217, "a journal block has 217 entries");
invariant(JOURNAL_RESERVED_BLOCKS === 11, "11 journal blocks are reserved");
invariant(journalUsableBlocks(DEFAULT_RECOVERY_JOURNAL_BLOCKS) === 32757, "32757 journal blocks are usable");
invariant(SLAB_JOURNAL_ENTRIES_PER_BLOCK === 1353, "a plain slab journal block has 1353 entries");
invariant(SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK === 1299, "a full slab journal block has 1299 entries");
invariant(COUNTS_PER_BLOCK === 4032, "a reference block has 4032 counts");
invariant(SLAB_SUMMARY_BLOCKS === 64, "the slab summary has 64 blocks");
invariant(COMPRESSED_BLOCK_DATA_SIZE === 4060, "a compressed block holds 4060 bytes");
invariant(blockMapEraLength(DEFAULT_BLOCK_MAP_MAXIMUM_AGE) === 11738, "the default age is 11738 journal blocks");
