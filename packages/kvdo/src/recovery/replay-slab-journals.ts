/** Puts the entries of the recovery journal that the slab journals lack into them (Linux 6.12, slab depot recovery). */
import { JOURNAL_OPERATION_BLOCK_MAP } from "../format/index.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import type { JournalAnalysis } from "./journal-analysis.ts";
import { forEachEntry } from "./journal-entries.ts";

/**
 * In journal order, the increment of each entry before its decrement. An entry whose point the slab journal has passed is
 * there already, so a recovery that is cut short and repeated adds nothing twice. Counts are not touched: scrubbing makes
 * them exact. Returns the number of entries made; all are on the storage, and the summary names them, when it resolves.
 */
export async function replaySlabJournals({ scan, tail }: JournalAnalysis, depot: SlabDepot): Promise<number> {
  if (tail === null) return 0;
  let made = 0;
  forEachEntry({ scan, from: scan.slabJournalHead, tail }, (entry, sequence, index) => {
    const isBlockMap = entry.operation === JOURNAL_OPERATION_BLOCK_MAP;
    if (entry.newPbn !== 0) {
      const slab = depot.slabOf(entry.newPbn);
      const change = { pbn: entry.newPbn, isIncrement: true, isBlockMap, sequence, index };
      if (slab?.journal.replay(change) === true) made++;
    }
    if (entry.oldPbn !== 0) {
      const slab = depot.slabOf(entry.oldPbn);
      const change = { pbn: entry.oldPbn, isIncrement: false, isBlockMap: false, sequence, index };
      if (slab?.journal.replay(change) === true) made++;
    }
  });
  await depot.commitReplayed();
  return made;
}
