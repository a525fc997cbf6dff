/** Statistics of a volume to which nothing has happened. */
import { BIO_GROUPS, type BioGroup } from "./entries.ts";
import type {
  BioCounters,
  BlockMapStatistics,
  CommitCounters,
  HashLockStatistics,
  IndexStatistics,
  VdoStatistics,
} from "./statistics.ts";

/** Version of the statistics structure of Linux 6.12. */
export const STATISTICS_VERSION = 36;

export function emptyBioCounters(): BioCounters {
  return { read: 0, write: 0, emptyFlush: 0, discard: 0, flush: 0, fua: 0 };
}

function emptyCommits(): CommitCounters {
  return { started: 0, written: 0, committed: 0 };
}

function emptyBlockMap(): BlockMapStatistics {
  return {
    dirtyPages: 0,
    cleanPages: 0,
    freePages: 0,
    failedPages: 0,
    incomingPages: 0,
    outgoingPages: 0,
    cachePressure: 0,
    readCount: 0,
    writeCount: 0,
    failedReads: 0,
    failedWrites: 0,
    reclaimed: 0,
    readOutgoing: 0,
    foundInCache: 0,
    discardRequired: 0,
    waitForPage: 0,
    fetchRequired: 0,
    pagesLoaded: 0,
    pagesSaved: 0,
    flushCount: 0,
  };
}

function emptyHashLock(): HashLockStatistics {
  return {
    dedupeAdviceValid: 0,
    dedupeAdviceStale: 0,
    concurrentDataMatches: 0,
    concurrentHashCollisions: 0,
    currDedupeQueries: 0,
  };
}

function emptyIndex(): IndexStatistics {
  return {
    entriesIndexed: 0,
    postsFound: 0,
    postsNotFound: 0,
    queriesFound: 0,
    queriesNotFound: 0,
    updatesFound: 0,
    updatesNotFound: 0,
    entriesDiscarded: 0,
  };
}

function emptyBios(): Record<BioGroup, BioCounters> {
  const groups = {} as Record<BioGroup, BioCounters>;
  for (const name of Object.keys(BIO_GROUPS) as BioGroup[]) groups[name] = emptyBioCounters();
  return groups;
}

/** A new object with every counter 0, mode `normal`, block size 4096; its members keep the order of the `stats` message. */
export function emptyStatistics(): VdoStatistics {
  return {
    version: STATISTICS_VERSION,
    dataBlocksUsed: 0,
    overheadBlocksUsed: 0,
    logicalBlocksUsed: 0,
    physicalBlocks: 0,
    logicalBlocks: 0,
    blockMapCacheSize: 0,
    blockSize: 4096,
    completeRecoveries: 0,
    readOnlyRecoveries: 0,
    mode: "normal",
    inRecoveryMode: false,
    recoveryPercentage: 100,
    packer: { compressedFragmentsWritten: 0, compressedBlocksWritten: 0, compressedFragmentsInPacker: 0 },
    allocator: { slabCount: 0, slabsOpened: 0, slabsReopened: 0 },
    journal: { diskFull: 0, slabJournalCommitsRequested: 0, entries: emptyCommits(), blocks: emptyCommits() },
    slabJournal: { diskFullCount: 0, flushCount: 0, blockedCount: 0, blocksWritten: 0, tailBusyCount: 0 },
    slabSummary: { blocksWritten: 0 },
    refCounts: { blocksWritten: 0 },
    blockMap: emptyBlockMap(),
    hashLock: emptyHashLock(),
    errors: { invalidAdvicePBNCount: 0, noSpaceErrorCount: 0, readOnlyErrorCount: 0 },
    instance: 0,
    currentVIOsInProgress: 0,
    maxVIOs: 0,
    dedupeAdviceTimeouts: 0,
    flushOut: 0,
    logicalBlockSize: 4096,
    ...emptyBios(),
    memoryUsage: { bytesUsed: 0, peakBytesUsed: 0 },
    index: emptyIndex(),
  };
}
