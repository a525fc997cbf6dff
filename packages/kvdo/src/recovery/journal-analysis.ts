/** What a dirty volume's recovery journal says: the mappings to be stored, the usage counters, where it starts again. */
import { JOURNAL_ENTRIES_PER_BLOCK } from "../constants.ts";
import { JOURNAL_OPERATION_BLOCK_MAP, recoveryJournalHeader } from "../format/index.ts";
import { type EntryBounds, forEachEntry, MappingChanges } from "./journal-entries.ts";
import { corruptJournal, type JournalScan, type JournalTail } from "./journal-scan.ts";

export interface JournalAnalysis {
  scan: JournalScan;
  /** Null when there is nothing to replay. */
  tail: JournalTail | null;
  changes: MappingChanges;
  /** Null when those of the super block stand. */
  usage: { logicalBlocksUsed: number; blockMapDataBlocks: number } | null;
}

/** Analyses `scan`. Throws `VDO_CORRUPT_JOURNAL` or `VDO_UNSUPPORTED_VERSION`; nothing was changed then. */
export function analyseJournal(scan: JournalScan, bounds: EntryBounds): JournalAnalysis {
  const tail = scan.findTail();
  if (tail === null) return { scan, tail, changes: new MappingChanges(0), usage: null };
  const blocks = tail.sequence - scan.blockMapHead;
  const changes = new MappingChanges(Math.max(0, blocks) * JOURNAL_ENTRIES_PER_BLOCK + tail.entries);
  const usage = usageAt(scan, tail.sequence);
  forEachEntry({ scan, from: scan.head, tail }, (entry, sequence, index) => {
    const problem = entry.problem(bounds);
    if (problem !== null) throw corruptJournal(`block ${sequence}, entry ${index}`, problem, "valid", "not");
    if (sequence >= scan.blockMapHead) changes.add(entry);
    if (sequence !== tail.sequence) return;
    if (entry.operation === JOURNAL_OPERATION_BLOCK_MAP) usage.blockMapDataBlocks++;
    else usage.logicalBlocksUsed += (entry.newState !== 0 ? 1 : 0) - (entry.oldState !== 0 ? 1 : 0);
  });
  changes.sort();
  return { scan, tail, changes, usage };
}

/** The counters as they were when block `sequence` was opened. */
function usageAt(scan: JournalScan, sequence: number): { logicalBlocksUsed: number; blockMapDataBlocks: number } {
  const block = scan.block(sequence);
  if (block === undefined) throw corruptJournal(`block ${sequence}`, "block", "present", "missing");
  const { logicalBlocksUsed, blockMapDataBlocks } = recoveryJournalHeader.decode(block);
  return { logicalBlocksUsed, blockMapDataBlocks };
}
