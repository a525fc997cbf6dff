/** The read-only rebuild of a whole volume: block map, slab journals, counts, summary; everything but the super block. */
import { zeroBlocks } from "@vdo/block-device";
import type { OpenParts } from "../admin/build-parts.ts";
import { BLOCK_SIZE } from "../constants.ts";
import { defaultSummaryEntry, fullnessHint } from "../format/index.ts";
import { IO_META } from "../io/storage-io.ts";
import { Rebuild, type RebuildReport } from "./rebuild.ts";
import type { RecoveryContext } from "./recover.ts";
import type { Salvage } from "./salvage.ts";

export interface RebuildRun {
  parts: OpenParts;
  salvage: Salvage;
  /** False: nothing is written. */
  save: boolean;
  context: RecoveryContext;
}

/** Runs the rebuild and returns its report. Throws what the storage throws when it cannot be written. */
export async function rebuildParts({ parts, salvage, save, context }: RebuildRun): Promise<RebuildReport> {
  const { depot, geometry, io, keeper } = parts;
  const { vdo, blockMap } = keeper.value;
  const { config } = depot;
  if (save) {
    depot.summary.setDefaults(defaultSummaryEntry(fullnessHint(config.dataBlocks, config.hintShift)));
    await depot.summary.writeAllCopies();
    let done = 0;
    for (const slab of depot.slabs) {
      await zeroBlocks(io.device, slab.journalOrigin - geometry.bioOffset, config.slabJournalBlocks);
      context.progress("slab journals", ++done, depot.slabs.length);
    }
  }
  const rebuild = new Rebuild({
    io,
    depot,
    nonce: vdo.nonce,
    rootOrigin: blockMap.rootOrigin,
    logicalBlocks: vdo.config.logicalBlocks,
    changes: salvage.changes,
    save,
    onProgress: (leaves) => context.progress("block map", leaves, leaves),
  });
  const report = await rebuild.run();
  report.missingJournalBlocks = salvage.missingBlocks;
  report.badJournalEntries = salvage.badEntries;
  if (save) await saveCounts(parts);
  return report;
}

/** Writes the counts of every slab with any reference, then a summary that says that they are exact. */
async function saveCounts({ depot, io }: OpenParts): Promise<void> {
  const bytes = new Uint8Array(BLOCK_SIZE);
  for (const slab of depot.slabs) {
    if (slab.freeBlocks === depot.config.dataBlocks) continue;
    for (const block of slab.counts.blocks) {
      slab.counts.encode(block.index, bytes);
      await io.writeMeta(IO_META, slab.countsOrigin + block.index, bytes);
    }
    depot.summary.set(slab.number, { tailOffset: 0, fullnessHint: slab.hint, loadCounts: true, isDirty: false });
  }
  await io.flush(IO_META);
  await depot.summary.writeAllCopies();
  await io.flush(IO_META);
}
