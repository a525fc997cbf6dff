/** Values that `vdostats` computes from the statistics. */
import type { VdoStatistics } from "./statistics.ts";

/** What cannot be told: printed as N/A. */
export const NOT_AVAILABLE = "N/A";

/** Blocks in use: data, metadata, and block map pages. */
export function usedBlocks({ dataBlocksUsed, overheadBlocksUsed }: VdoStatistics): number {
  return dataBlocksUsed + overheadBlocksUsed;
}

/** Blocks as a number of 1024 bytes, rounded down. */
export function kibibytes(blocks: number, blockSize: number): number {
  return Math.floor((blocks * blockSize) / 1024);
}

/** Percent of the physical blocks in use, rounded to the nearest: the Use% of the table. */
export function usePercent(statistics: VdoStatistics): number {
  return Math.trunc((100 * usedBlocks(statistics)) / statistics.physicalBlocks + 0.5);
}

/**
 * Percent of the physical blocks in use, rounded down: the "used percent" of `--verbose`. (Observed with vdostats 8.3.0.71,
 * which shows 37 where its table shows 38; from 8.3.1 on both are rounded to the nearest.)
 */
export function usedPercentFloor(statistics: VdoStatistics): number {
  return Math.floor((100 * usedBlocks(statistics)) / statistics.physicalBlocks);
}

/**
 * Percent of the used logical blocks that needed no data block, truncated; undefined when more data than logical blocks
 * are in use, or no logical block is.
 */
export function savingPercent({ dataBlocksUsed, logicalBlocksUsed }: VdoStatistics): number | undefined {
  if (logicalBlocksUsed === 0 || dataBlocksUsed > logicalBlocksUsed) return undefined;
  return Math.trunc((100 * (logicalBlocksUsed - dataBlocksUsed)) / logicalBlocksUsed);
}

/** Writes to the storage for each write that came in: whole, as the 8.3 tools divide; 0 when none came in. */
export function writeAmplification({ biosMeta, biosOut, biosIn }: VdoStatistics): number {
  return biosIn.write === 0 ? 0 : Math.floor((biosMeta.write + biosOut.write) / biosIn.write);
}
