/**
 * All metadata of a volume one after the other, as `vdodumpmetadata` writes it (tools 8.3): geometry block, super block, block
 * map pages, for each slab its reference blocks and its journal, recovery journal, slab summary.
 */
import { VdoError } from "@vdo/base";
import { BLOCK_MAP_ROOTS, BLOCK_SIZE } from "../constants.ts";
import { journalRegions, slabRegions } from "./metadata-regions.ts";
import type { StoppedVolume } from "./stopped-volume.ts";

/** Which block map pages are dumped: all, none, or the leaves of these logical blocks (zeros where there is no leaf). */
export type DumpedPages = "all" | "none" | { readonly lbns: readonly number[] };

/** Yields the blocks of the dump in order, one or many at a time. Throws `VDO_OUT_OF_RANGE` for a logical block that the volume does not have. */
export async function* dumpMetadata(volume: StoppedVolume, pages: DumpedPages): AsyncGenerator<Uint8Array> {
  checkBlocks(volume, pages);
  yield await volume.readBlock(volume.geometry.bioOffset);
  yield await volume.readBlock(volume.geometry.dataStart);
  yield* dumpPages(volume, pages);
  for (const { start, count } of [...slabRegions(volume), ...journalRegions(volume)]) {
    yield* volume.readRuns(start, count);
  }
}

function checkBlocks({ superBlock }: StoppedVolume, pages: DumpedPages): void {
  const { logicalBlocks } = superBlock.vdo.config;
  for (const lbn of typeof pages === "string" ? [] : pages.lbns) {
    if (lbn < logicalBlocks) continue;
    throw new VdoError("VDO_OUT_OF_RANGE", `the volume has only ${logicalBlocks} logical blocks, not block ${lbn}`, {
      start: lbn,
      count: 1,
      blockCount: logicalBlocks,
    });
  }
}

async function* dumpPages(volume: StoppedVolume, pages: DumpedPages): AsyncGenerator<Uint8Array> {
  if (pages === "none") return;
  if (pages !== "all") {
    for (const lbn of pages.lbns) {
      const leaf = await volume.leafOf(lbn);
      yield leaf === 0 ? new Uint8Array(BLOCK_SIZE) : await volume.readBlock(leaf);
    }
    return;
  }
  const { rootOrigin } = volume.superBlock.blockMap;
  for (let root = 0; root < BLOCK_MAP_ROOTS; root++) yield await volume.readBlock(rootOrigin + root);
  for await (const { height, pbn } of volume.entries()) if (height > 0) yield await volume.readBlock(pbn);
}
