/** The slab depot's part of a super block: the shape of each slab, and where the slabs are. */
import { struct, u8, u64le, type ValueOf } from "@vdo/base";
import { componentHeader } from "./component-header.ts";

/** Used exactly as stored: thresholds are not computed again at load. */
export const slabConfig = struct("SlabConfig", 56, {
  slabBlocks: u64le,
  /** Blocks of a slab that hold data or block map pages; they come first. */
  dataBlocks: u64le,
  /** Blocks reserved for reference counts; from slab bits 20 on, one more than used. */
  referenceCountBlocks: u64le,
  slabJournalBlocks: u64le,
  flushingThreshold: u64le,
  blockingThreshold: u64le,
  scrubbingThreshold: u64le,
});
export type SlabConfig = ValueOf<typeof slabConfig>;

export const slabDepotComponent = struct("SlabDepotComponent", 93, {
  header: componentHeader,
  slabConfig,
  /** First block of slab 0. */
  firstBlock: u64le,
  /** The block after the last whole slab. */
  lastBlock: u64le,
  /** Physical zones in use when the summary was last written; 0, after formatting, is treated as 1. */
  zoneCount: u8,
});
export type SlabDepotComponent = ValueOf<typeof slabDepotComponent>;

export const SLAB_DEPOT_HEADER = { id: 3, version: { major: 2, minor: 0 }, size: 73 };

/** Whole slabs of a depot. */
export function slabCount(depot: SlabDepotComponent): number {
  return Math.floor((depot.lastBlock - depot.firstBlock) / depot.slabConfig.slabBlocks);
}
