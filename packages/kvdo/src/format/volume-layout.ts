/**
 * Where everything of a volume lies, computed as the formatter does.
 *
 * ```
 * 0         1       dataStart    +1         +61                physical - 32832     physical - 64
 * geometry │ index │ super block │ 60 roots │ slabs, remainder │ recovery journal  │ slab summary
 * ```
 */
import { VdoError } from "@vdo/base";
import {
  BLOCK_MAP_ENTRIES_PER_PAGE,
  BLOCK_MAP_ROOTS,
  BLOCK_SIZE,
  DEFAULT_RECOVERY_JOURNAL_BLOCKS,
  DEFAULT_SLAB_JOURNAL_BLOCKS,
  MAXIMUM_SLABS,
  SLAB_SUMMARY_BLOCKS,
} from "../constants.ts";
import type {} from "../errors.ts";
import { indexBlockCount } from "./index-size.ts";
import type { SlabConfig } from "./slab-depot-component.ts";
import { computeSlabConfig } from "./slab-geometry.ts";

/** A run of blocks by absolute numbers. */
export interface BlockRange {
  start: number;
  count: number;
}

export interface LayoutOptions {
  /** Blocks of the whole volume. */
  physicalBlocks: number;
  /** Slabs have 2^slabBits blocks. */
  slabBits: number;
  /** Stored memory value and density of the index. */
  index: { memory: number; sparse: number | boolean };
  recoveryJournalBlocks?: number;
  slabJournalBlocks?: number;
}

/** Positions and sizes in blocks of 4096 bytes. */
export interface VolumeLayout {
  physicalBlocks: number;
  index: BlockRange;
  /** Number of the super block. */
  dataStart: number;
  blockMap: BlockRange;
  slabDepot: BlockRange;
  recoveryJournal: BlockRange;
  slabSummary: BlockRange;
  slabConfig: SlabConfig;
  slabCount: number;
  /** First block of slab 0, and the block after the last whole slab. */
  firstBlock: number;
  lastBlock: number;
  /** Logical size when none is asked for: all data blocks without the block map pages that they need. */
  defaultLogicalBlocks: number;
}

/** Blocks of the smallest volume with these options: everything but one slab's worth of depot. */
export function minimumVolumeBlocks(options: Omit<LayoutOptions, "physicalBlocks">): number {
  const journal = options.recoveryJournalBlocks ?? DEFAULT_RECOVERY_JOURNAL_BLOCKS;
  return indexBlockCount(options.index) + 2 + BLOCK_MAP_ROOTS + journal + SLAB_SUMMARY_BLOCKS + 2 ** options.slabBits;
}

const gibibytes = (blocks: number): string => `${((blocks * BLOCK_SIZE) / 1024 ** 3).toFixed(2)} GiB`;

/**
 * Computes the layout of a new volume. Throws `VDO_DEVICE_TOO_SMALL` when no slab fits, `VDO_TOO_MANY_SLABS` above 8192,
 * `VDO_BAD_CONFIGURATION` for an unknown index memory or an impossible slab.
 */
export function computeLayout(options: LayoutOptions): VolumeLayout {
  const { physicalBlocks, slabBits } = options;
  const journalBlocks = options.recoveryJournalBlocks ?? DEFAULT_RECOVERY_JOURNAL_BLOCKS;
  const slabConfig = computeSlabConfig(2 ** slabBits, options.slabJournalBlocks ?? DEFAULT_SLAB_JOURNAL_BLOCKS);
  const indexBlocks = indexBlockCount(options.index);
  const minimumBlocks = minimumVolumeBlocks(options);
  if (physicalBlocks < minimumBlocks) {
    throw new VdoError(
      "VDO_DEVICE_TOO_SMALL",
      `${physicalBlocks * BLOCK_SIZE} bytes are too few: the smallest volume with these options takes ` +
        `${minimumBlocks * BLOCK_SIZE} bytes (${gibibytes(minimumBlocks)}), of which the index takes ${indexBlocks * BLOCK_SIZE} ` +
        `(${gibibytes(indexBlocks)}). Use a larger device, smaller slabs or a smaller index`,
      { physicalBlocks, minimumBlocks, indexBlocks },
    );
  }
  const dataStart = 1 + indexBlocks;
  const blockMap = { start: dataStart + 1, count: BLOCK_MAP_ROOTS };
  const slabSummary = { start: physicalBlocks - SLAB_SUMMARY_BLOCKS, count: SLAB_SUMMARY_BLOCKS };
  const recoveryJournal = { start: slabSummary.start - journalBlocks, count: journalBlocks };
  const firstBlock = blockMap.start + blockMap.count;
  const slabDepot = { start: firstBlock, count: recoveryJournal.start - firstBlock };
  const slabCount = Math.floor(slabDepot.count / slabConfig.slabBlocks);
  if (slabCount > MAXIMUM_SLABS) {
    throw new VdoError(
      "VDO_TOO_MANY_SLABS",
      `${slabCount} slabs are more than ${MAXIMUM_SLABS}: use larger slabs or a smaller device`,
      { slabCount, slabCountMax: MAXIMUM_SLABS },
    );
  }
  return {
    physicalBlocks,
    index: { start: 1, count: indexBlocks },
    dataStart,
    blockMap,
    slabDepot,
    recoveryJournal,
    slabSummary,
    slabConfig,
    slabCount,
    firstBlock,
    lastBlock: firstBlock + slabCount * slabConfig.slabBlocks,
    defaultLogicalBlocks: defaultLogicalBlocks(slabCount * slabConfig.dataBlocks),
  };
}

const ceilDiv = (a: number, b: number): number => Math.ceil(a / b);

/**
 * Pages per tree and level of a block map over `logicalBlocks` entries: index 0 are pages of height 1, 3 the roots.
 * The same for each of the 60 trees, so it is a slight over-estimate. Leaves are not in it.
 */
export function blockMapLevels(logicalBlocks: number): number[] {
  const leaves = Math.max(ceilDiv(logicalBlocks, BLOCK_MAP_ENTRIES_PER_PAGE), 1);
  const levels: number[] = [];
  let pages = ceilDiv(leaves, BLOCK_MAP_ROOTS);
  for (let height = 1; height <= 5; height++) {
    pages = ceilDiv(pages, BLOCK_MAP_ENTRIES_PER_PAGE);
    levels.push(pages);
  }
  return levels;
}

/** The default logical size over `dataBlocks` data blocks: what is left beside the block map pages that map it. */
export function defaultLogicalBlocks(dataBlocks: number): number {
  const [first, second, third] = blockMapLevels(dataBlocks) as [number, number, number];
  const interior = BLOCK_MAP_ROOTS * (first + second + third);
  const leaves = ceilDiv(dataBlocks - interior, BLOCK_MAP_ENTRIES_PER_PAGE);
  return dataBlocks - interior - leaves;
}
