/**
 * Starting a volume that was not stopped cleanly (Linux 6.12, recovery).
 *
 * ```
 * scan ▸ find the tail ▸ check every entry ▸ block map pages ▸ summary ▸ slab journals ▸ SUPER BLOCK ▸ serve ▸ scrub slabs
 *                                                                        └ the commit point
 * ```
 * Before the super block is written nothing is lost by starting over: pages are given absolute values, and slab journals
 * know by their recovery points what they have. After it the old journal is void: its recovery count is that of the past.
 */
import { isVdoError } from "@vdo/base";
import type { SuperBlockKeeper } from "../admin/super-block-keeper.ts";
import type { RecoveryPhase } from "../admin/volume-options.ts";
import { findPartition, PARTITION, slabCount } from "../format/index.ts";
import type { StorageIo } from "../io/storage-io.ts";
import { analyseJournal, type JournalAnalysis } from "./journal-analysis.ts";
import type { EntryBounds, MappingChanges } from "./journal-entries.ts";
import { JournalScan } from "./journal-scan.ts";
import { replayBlockMap } from "./replay-block-map.ts";
import { salvageJournal } from "./salvage.ts";

/** Told as recovery goes on: a phase by name, and how much of it is done. */
export type RecoveryProgress = (phase: RecoveryPhase, done: number, of: number) => void;

export interface RecoveryContext {
  io: StorageIo;
  keeper: SuperBlockKeeper;
  log: (level: "info" | "warning" | "error", text: string) => void;
  progress: RecoveryProgress;
}

/** What the journal of a dirty volume means for its start. */
export interface RecoveryPlan {
  /** Set when the journal can be replayed. */
  analysis: JournalAnalysis | null;
  /** Changes to be made to pages as they are read: when nothing may be written. */
  overlay: MappingChanges | null;
  /** Why the volume can only be read; null when it can be recovered. */
  failure: unknown;
}

/** Bounds of valid entries, from the super block. */
export function entryBounds({ value }: SuperBlockKeeper): EntryBounds {
  const { slabConfig, firstBlock } = value.slabDepot;
  const slabs = slabCount(value.slabDepot);
  return {
    physicalBlocks: value.vdo.config.physicalBlocks,
    isDataBlock(pbn) {
      const offset = pbn - firstBlock;
      const slab = Math.floor(offset / slabConfig.slabBlocks);
      return offset >= 0 && slab < slabs && offset - slab * slabConfig.slabBlocks < slabConfig.dataBlocks;
    },
  };
}

/** Reads the whole recovery journal. */
export function scanJournal({ io, keeper, progress }: RecoveryContext): Promise<JournalScan> {
  const { vdo, layout, recoveryJournal } = keeper.value;
  const partition = findPartition(layout, PARTITION.recoveryJournal);
  const place = {
    io,
    origin: partition.start,
    size: partition.count,
    nonce: vdo.nonce,
    recoveries: vdo.completeRecoveries,
    start: recoveryJournal.journalStart,
  };
  return JournalScan.read(place, (done, of) => progress("journal", done, of));
}

/**
 * Reads and checks the journal of a dirty volume; nothing is written. A journal of the old format is refused with
 * `VDO_UNSUPPORTED_VERSION`, unless the volume is only to be read: then what can be saved of it is.
 */
export async function planRecovery(context: RecoveryContext, readOnly: boolean): Promise<RecoveryPlan> {
  const scan = await scanJournal(context);
  const bounds = entryBounds(context.keeper);
  try {
    const analysis = analyseJournal(scan, bounds);
    return { analysis, overlay: readOnly ? analysis.changes : null, failure: null };
  } catch (error) {
    if (readOnly) {
      const { changes, missingBlocks, badEntries } = salvageJournal(scan, bounds);
      const lost = `${missingBlocks} journal blocks and ${badEntries} entries are lost`;
      context.log(
        "warning",
        `the recovery journal cannot be replayed as a whole, ${lost}: ${(error as Error).message}`,
      );
      return { analysis: null, overlay: changes, failure: null };
    }
    if (isVdoError(error, "VDO_UNSUPPORTED_VERSION") || !isVdoError(error)) throw error;
    return { analysis: null, overlay: null, failure: error };
  }
}

/** Stores the journal's mappings in the block map pages, and the figures of the new journal in the super block in memory. */
export async function recoverBlockMap(context: RecoveryContext, analysis: JournalAnalysis): Promise<void> {
  const { io, keeper, log, progress } = context;
  const { scan, changes, usage, tail } = analysis;
  const { vdo, recoveryJournal } = keeper.value;
  if (tail === null) log("info", "nothing in the recovery journal to replay");
  else
    log(
      "info",
      `replaying ${changes.length} recovery entries into the block map, up to journal block ${tail.sequence}`,
    );
  const onProgress = (pages: number): void => progress("block map", pages, changes.length);
  await replayBlockMap({ io, nonce: vdo.nonce, changes, onProgress });
  vdo.completeRecoveries++;
  recoveryJournal.journalStart = scan.highest + 1;
  if (usage === null) return;
  recoveryJournal.logicalBlocksUsed = usage.logicalBlocksUsed;
  recoveryJournal.blockMapDataBlocks = usage.blockMapDataBlocks;
}
