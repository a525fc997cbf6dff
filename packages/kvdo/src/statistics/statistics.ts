/**
 * The statistics of a volume: one object of plain counters, changed in place while the volume runs.
 *
 * Names and nesting are those of the kernel's `stats` message (statistics version 36). Counters are since the start of
 * the volume; values that are read off the volume's state are filled in by whoever takes the statistics.
 */

/** Requests by kind. One request may count as several: a write with a flush is a `write` and a `flush`. */
export interface BioCounters {
  read: number;
  write: number;
  /** Flushes without data; they count as `flush` too. */
  emptyFlush: number;
  discard: number;
  flush: number;
  fua: number;
}

/** Steps that journal entries, or journal blocks, went through. */
export interface CommitCounters {
  started: number;
  written: number;
  committed: number;
}

export type OperatingMode = "normal" | "recovering" | "read-only";

export interface PackerStatistics {
  compressedFragmentsWritten: number;
  compressedBlocksWritten: number;
  /** Fragments that wait in the packer now. */
  compressedFragmentsInPacker: number;
}

export interface AllocatorStatistics {
  slabCount: number;
  slabsOpened: number;
  slabsReopened: number;
}

/** The recovery journal. */
export interface JournalStatistics {
  diskFull: number;
  slabJournalCommitsRequested: number;
  entries: CommitCounters;
  blocks: CommitCounters;
}

/** All slab journals together. */
export interface SlabJournalStatistics {
  diskFullCount: number;
  flushCount: number;
  blockedCount: number;
  blocksWritten: number;
  tailBusyCount: number;
}

/** The cache of block map leaves. The `…Pages` are present numbers. */
export interface BlockMapStatistics {
  dirtyPages: number;
  cleanPages: number;
  freePages: number;
  failedPages: number;
  incomingPages: number;
  outgoingPages: number;
  cachePressure: number;
  readCount: number;
  writeCount: number;
  failedReads: number;
  failedWrites: number;
  reclaimed: number;
  readOutgoing: number;
  foundInCache: number;
  discardRequired: number;
  waitForPage: number;
  fetchRequired: number;
  pagesLoaded: number;
  pagesSaved: number;
  flushCount: number;
}

export interface HashLockStatistics {
  dedupeAdviceValid: number;
  dedupeAdviceStale: number;
  concurrentDataMatches: number;
  concurrentHashCollisions: number;
  /** Index queries in flight now. */
  currDedupeQueries: number;
}

export interface ErrorStatistics {
  invalidAdvicePBNCount: number;
  noSpaceErrorCount: number;
  readOnlyErrorCount: number;
}

/** Since the index was opened; zeros while it is not open. */
export interface IndexStatistics {
  /** Records in the index now. */
  entriesIndexed: number;
  postsFound: number;
  postsNotFound: number;
  queriesFound: number;
  queriesNotFound: number;
  updatesFound: number;
  updatesNotFound: number;
  entriesDiscarded: number;
}

export interface VdoStatistics {
  /** Version of this structure: 36. */
  version: number;
  /** Allocated blocks without block map pages. Printed as N/A while recovering or read-only, as the next two may be. */
  dataBlocksUsed: number;
  /** Blocks outside the slabs' data areas, and block map pages. */
  overheadBlocksUsed: number;
  /** Logical blocks with a mapping, zero blocks included. */
  logicalBlocksUsed: number;
  physicalBlocks: number;
  logicalBlocks: number;
  /** In bytes. */
  blockMapCacheSize: number;
  /** 4096. */
  blockSize: number;
  completeRecoveries: number;
  readOnlyRecoveries: number;
  mode: OperatingMode;
  inRecoveryMode: boolean;
  /** 100 when not recovering. */
  recoveryPercentage: number;
  packer: PackerStatistics;
  allocator: AllocatorStatistics;
  journal: JournalStatistics;
  slabJournal: SlabJournalStatistics;
  slabSummary: { blocksWritten: number };
  refCounts: { blocksWritten: number };
  blockMap: BlockMapStatistics;
  hashLock: HashLockStatistics;
  errors: ErrorStatistics;
  /** Number of this start, from 0. */
  instance: number;
  currentVIOsInProgress: number;
  maxVIOs: number;
  dedupeAdviceTimeouts: number;
  flushOut: number;
  /** 512 with emulation, else 4096. */
  logicalBlockSize: number;
  biosIn: BioCounters;
  biosInPartial: BioCounters;
  biosOut: BioCounters;
  biosMeta: BioCounters;
  biosJournal: BioCounters;
  biosPageCache: BioCounters;
  biosOutCompleted: BioCounters;
  biosMetaCompleted: BioCounters;
  biosJournalCompleted: BioCounters;
  biosPageCacheCompleted: BioCounters;
  biosAcknowledged: BioCounters;
  biosAcknowledgedPartial: BioCounters;
  biosInProgress: BioCounters;
  memoryUsage: { bytesUsed: number; peakBytesUsed: number };
  index: IndexStatistics;
}
