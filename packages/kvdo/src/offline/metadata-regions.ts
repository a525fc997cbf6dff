/** Where the metadata of a volume lies, region by region, in the order in which `vdolistmetadata` tells (tools 8.3). */
import { BLOCK_MAP_ROOTS } from "../constants.ts";
import { findPartition, PARTITION, slabCount } from "../format/index.ts";
import type { StoppedVolume } from "./stopped-volume.ts";

/** Blocks from `start` on. */
export interface MetadataRegion {
  label: string;
  start: number;
  count: number;
}

/** Regions of each slab: reference blocks, then the journal. */
export function slabRegions({ superBlock }: Pick<StoppedVolume, "superBlock">): MetadataRegion[] {
  const { slabConfig, firstBlock } = superBlock.slabDepot;
  const { slabBlocks, dataBlocks, referenceCountBlocks, slabJournalBlocks } = slabConfig;
  const regions: MetadataRegion[] = [];
  for (let slab = 0; slab < slabCount(superBlock.slabDepot); slab++) {
    const start = firstBlock + slab * slabBlocks + dataBlocks;
    regions.push({ label: `slab ${slab} reference blocks`, start, count: referenceCountBlocks });
    regions.push({ label: `slab ${slab} journal`, start: start + referenceCountBlocks, count: slabJournalBlocks });
  }
  return regions;
}

/** Recovery journal and slab summary. */
export function journalRegions({ superBlock }: Pick<StoppedVolume, "superBlock">): MetadataRegion[] {
  const journal = findPartition(superBlock.layout, PARTITION.recoveryJournal);
  const summary = findPartition(superBlock.layout, PARTITION.slabSummary);
  return [
    { label: "recovery journal", start: journal.start, count: journal.count },
    { label: "slab summary", start: summary.start, count: summary.count },
  ];
}

/** All regions. */
export function metadataRegions(volume: StoppedVolume): MetadataRegion[] {
  const { indexStart, dataStart } = volume.geometry;
  return [
    { label: "geometry block", start: 0, count: 1 },
    { label: "index", start: indexStart, count: dataStart - indexStart },
    { label: "super block", start: dataStart, count: 1 },
    { label: "block map tree roots", start: volume.superBlock.blockMap.rootOrigin, count: BLOCK_MAP_ROOTS },
    ...slabRegions(volume),
    ...journalRegions(volume),
  ];
}
