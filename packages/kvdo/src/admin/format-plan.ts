/**
 * What a format would make: all checks of the options and the sizes, and the figures, without I/O.
 *
 * Limits and defaults are those of vdoformat 8.3.
 */
import { VdoError } from "@vdo/base";
import {
  BLOCK_SIZE,
  DEFAULT_SLAB_BITS,
  MAXIMUM_LOGICAL_BLOCKS,
  MAXIMUM_PHYSICAL_BLOCKS,
  MAXIMUM_SLAB_BITS,
  MINIMUM_SLAB_BITS,
} from "../constants.ts";
import { computeLayout, indexMemoryFromGib, minimumVolumeBlocks, type VolumeLayout } from "../format/index.ts";

export interface PlanOptions {
  /** Size of the presented device in bytes, a multiple of 4096, at most 4 PiB. Default, or 0: as much as surely fits. */
  logicalSize?: number;
  /** Slabs have 2^slabBits blocks: 13 (32 MiB) to 23 (32 GiB), default 19 (2 GiB). A volume has at most 8192 slabs. */
  slabBits?: number;
  /** Memory of the deduplication index in GiB: 0.25 (default), 0.5, 0.75 or 1 to 1024. */
  indexMemory?: number;
  /** A sparse index: ten times the window in the same memory, on ten times the storage. Default no. */
  sparse?: boolean;
  /** Blocks of the device to use; default all. */
  physicalBlocks?: number;
}

/** Figures of a new volume. Counts are of blocks of 4096 bytes. */
export interface FormatReport {
  physicalBlocks: number;
  logicalBlocks: number;
  /** No logical size was asked for. */
  logicalSizeDefaulted: boolean;
  slabBlocks: number;
  slabCount: number;
  /** Blocks of each slab that can hold data. */
  dataBlocksPerSlab: number;
  /** Blocks that the index takes. */
  indexBlocks: number;
  /** Smallest device on which these options fit. */
  minimumBlocks: number;
  /** GiB. */
  indexMemory: number;
  indexSparse: boolean;
}

/** A plan with what the formatter needs beyond the report. */
export interface FormatPlan {
  report: FormatReport;
  layout: VolumeLayout;
  index: { memory: number; unused: number; sparse: number };
}

function badArgument(argument: string, value: unknown, needed: string): never {
  throw new VdoError("VDO_BAD_ARGUMENT", `${argument} ${value} is not possible: ${needed}`, { argument, value });
}

function checkLimit(argument: string, value: number, limit: number): void {
  if (value <= limit) return;
  throw new VdoError("VDO_SIZE_LIMIT", `${argument} of ${value} bytes exceeds the maximum of ${limit}`, {
    argument,
    value,
    limit,
  });
}

/** Checks of the options alone. Throws `VDO_BAD_ARGUMENT` or `VDO_SIZE_LIMIT`. */
export function checkFormatOptions(blockCount: number, options: PlanOptions): void {
  const { logicalSize = 0, slabBits = DEFAULT_SLAB_BITS, physicalBlocks = blockCount } = options;
  if (!Number.isInteger(slabBits) || slabBits < MINIMUM_SLAB_BITS || slabBits > MAXIMUM_SLAB_BITS) {
    badArgument("slabBits", slabBits, `${MINIMUM_SLAB_BITS} to ${MAXIMUM_SLAB_BITS}`);
  }
  if (
    !Number.isSafeInteger(physicalBlocks) ||
    physicalBlocks < Math.min(1, blockCount) ||
    physicalBlocks > blockCount
  ) {
    badArgument("physicalBlocks", physicalBlocks, `1 to the ${blockCount} blocks of the device`);
  }
  checkLimit("physical size", physicalBlocks * BLOCK_SIZE, MAXIMUM_PHYSICAL_BLOCKS * BLOCK_SIZE);
  if (!Number.isSafeInteger(logicalSize) || logicalSize < 0 || logicalSize % BLOCK_SIZE !== 0) {
    badArgument("logicalSize", logicalSize, `a multiple of the block size ${BLOCK_SIZE}`);
  }
  checkLimit("logical size", logicalSize, MAXIMUM_LOGICAL_BLOCKS * BLOCK_SIZE);
  indexMemoryFromGib(options.indexMemory ?? 0.25);
}

/** {@link planFormat} with the layout. */
export function makePlan(blockCount: number, options: PlanOptions): FormatPlan {
  checkFormatOptions(blockCount, options);
  const { logicalSize = 0, slabBits = DEFAULT_SLAB_BITS, indexMemory = 0.25, sparse = false } = options;
  const index = { memory: indexMemoryFromGib(indexMemory), unused: 0, sparse: sparse ? 1 : 0 };
  const layout = computeLayout({ physicalBlocks: options.physicalBlocks ?? blockCount, slabBits, index });
  const report: FormatReport = {
    physicalBlocks: layout.physicalBlocks,
    logicalBlocks: logicalSize === 0 ? layout.defaultLogicalBlocks : logicalSize / BLOCK_SIZE,
    logicalSizeDefaulted: logicalSize === 0,
    slabBlocks: layout.slabConfig.slabBlocks,
    slabCount: layout.slabCount,
    dataBlocksPerSlab: layout.slabConfig.dataBlocks,
    indexBlocks: layout.index.count,
    minimumBlocks: minimumVolumeBlocks({ slabBits, index }),
    indexMemory,
    indexSparse: sparse,
  };
  return { report, layout, index };
}

/**
 * The figures of a volume on a device of `blockCount` blocks of 4096 bytes, and every check that {@link format} makes
 * without reading. Throws `VDO_BAD_ARGUMENT`, `VDO_SIZE_LIMIT`, `VDO_DEVICE_TOO_SMALL` (with the least size and the
 * index's share of it) or `VDO_TOO_MANY_SLABS`.
 */
export function planFormat(blockCount: number, options: PlanOptions = {}): FormatReport {
  return makePlan(blockCount, options).report;
}
