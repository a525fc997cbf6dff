/** What the slabs share: configuration, I/O, and the rest of the engine as they see it. */
import type { ReferenceUpdate } from "../data-path/data-vio.ts";
import type { SlabConfig } from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import type { StorageIo } from "../io/storage-io.ts";
import type { JournalLocks } from "../recovery-journal/journal-locks.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import type { PbnLockTable } from "./pbn-locks.ts";
import type { Slab } from "./slab.ts";
import type { SlabJournal } from "./slab-journal.ts";
import type { SlabSummary } from "./slab-summary.ts";
import type { StorageDiscards } from "./storage-discards.ts";

/** Slab configuration of a volume as its super block states it, and what follows from it. */
export interface SlabRules extends SlabConfig {
  flushingDeadline: number;
  /** Right shift of a free count that gives the fullness hint. */
  hintShift: number;
  nonce: bigint;
}

export interface SlabContext {
  readonly config: SlabRules;
  readonly io: StorageIo;
  readonly notifier: ReadOnlyNotifier;
  readonly statistics: VdoStatistics;
  readonly summary: SlabSummary;
  readonly journalLocks: JournalLocks;
  readonly pbnLocks: PbnLockTable;
  /** Journals with a tail block that has entries, in the order in which these were begun. */
  readonly dirtyJournals: Set<SlabJournal>;
  /** Discards freed blocks on the storage; null when that is not wanted. */
  readonly discards: StorageDiscards | null;
  /** An entry was made and the count was changed, or `update.vio.error` is set. */
  onUpdated(update: ReferenceUpdate): void;
  /** The number of free blocks of `slab` changed by `delta`. */
  onFreeChanged(slab: Slab, delta: number): void;
  /** An I/O began, or ended: a drain waits until as many ended as began. */
  busy(): void;
  idle(): void;
  /** Resolves after the next I/O of a slab has ended. */
  settle(): Promise<void>;
}
