/**
 * The statistics as data: every value with its name in the `stats` message, its label in `vdostats --verbose`, and when
 * it is printed. Order is the order of both outputs. Types, factory and printers are checked against this table.
 */

/** When `vdostats` prints N/A instead of a value. */
export type Availability = "always" | "not read-only or recovering" | "not recovering" | "recovering";

/** A value. `derived` ones are computed by the printer and have no name in the `stats` message. */
export interface StatisticEntry {
  /** Place in the statistics object, for example `journal.entries.started`; of a derived value, a name of its own. */
  path: string;
  /** Name in the `stats` message; undefined for a derived value. */
  name?: string;
  /** Label of `vdostats --verbose`; undefined for a value that it does not print. */
  label?: string;
  kind: "count" | "mode" | "flag" | "emulation" | "derived";
  availability?: Availability;
}

const count = (path: string, label: string, availability?: Availability): StatisticEntry => ({
  path,
  name: path.slice(path.lastIndexOf(".") + 1),
  label,
  kind: "count",
  ...(availability === undefined ? {} : { availability }),
});

const derived = (path: string, label: string, availability?: Availability): StatisticEntry => ({
  path,
  label,
  kind: "derived",
  ...(availability === undefined ? {} : { availability }),
});

/** `words` maps members of `group` to labels, in order. */
function group(path: string, words: Record<string, string>): StatisticEntry[] {
  return Object.entries(words).map(([member, label]) => count(`${path}.${member}`, label));
}

function commits(path: string, what: string): StatisticEntry[] {
  return [
    derived(`${path}.batching`, `journal ${what} batching`),
    count(`${path}.started`, `journal ${what} started`),
    derived(`${path}.writing`, `journal ${what} writing`),
    count(`${path}.written`, `journal ${what} written`),
    count(`${path}.committed`, `journal ${what} committed`),
  ];
}

/** Groups of requests, with what comes after "bios". */
export const BIO_GROUPS = {
  biosIn: "in",
  biosInPartial: "in partial",
  biosOut: "out",
  biosMeta: "meta",
  biosJournal: "journal",
  biosPageCache: "page cache",
  biosOutCompleted: "out completed",
  biosMetaCompleted: "meta completed",
  biosJournalCompleted: "journal completed",
  biosPageCacheCompleted: "page cache completed",
  biosAcknowledged: "acknowledged",
  biosAcknowledgedPartial: "acknowledged partial",
  biosInProgress: "in progress",
} as const;
export type BioGroup = keyof typeof BIO_GROUPS;

function bios(): StatisticEntry[] {
  return Object.entries(BIO_GROUPS).flatMap(([path, words]) =>
    group(path, {
      read: `bios ${words} read`,
      write: `bios ${words} write`,
      emptyFlush: `bios ${words} empty flush`,
      discard: `bios ${words} discard`,
      flush: `bios ${words} flush`,
      fua: `bios ${words} fua`,
    }),
  );
}

const UNLESS_READ_ONLY: Availability = "not read-only or recovering";

const VOLUME: StatisticEntry[] = [
  count("version", "version"),
  count("dataBlocksUsed", "data blocks used", UNLESS_READ_ONLY),
  count("overheadBlocksUsed", "overhead blocks used", "not recovering"),
  count("logicalBlocksUsed", "logical blocks used", "not recovering"),
  count("physicalBlocks", "physical blocks"),
  count("logicalBlocks", "logical blocks"),
  derived("oneKBlocks", "1K-blocks"),
  derived("oneKBlocksUsed", "1K-blocks used", UNLESS_READ_ONLY),
  derived("oneKBlocksAvailable", "1K-blocks available", UNLESS_READ_ONLY),
  derived("usedPercent", "used percent", UNLESS_READ_ONLY),
  derived("savingPercent", "saving percent", UNLESS_READ_ONLY),
  count("blockMapCacheSize", "block map cache size"),
  count("blockSize", "block size"),
  count("completeRecoveries", "completed recovery count"),
  count("readOnlyRecoveries", "read-only recovery count"),
  { path: "mode", name: "mode", label: "operating mode", kind: "mode" },
  { path: "inRecoveryMode", name: "inRecoveryMode", kind: "flag" },
  count("recoveryPercentage", "recovery progress (%)", "recovering"),
];

const STORAGE: StatisticEntry[] = [
  ...group("packer", {
    compressedFragmentsWritten: "compressed fragments written",
    compressedBlocksWritten: "compressed blocks written",
    compressedFragmentsInPacker: "compressed fragments in packer",
  }),
  ...group("allocator", {
    slabCount: "slab count",
    slabsOpened: "slabs opened",
    slabsReopened: "slabs reopened",
  }),
  ...group("journal", {
    diskFull: "journal disk full count",
    slabJournalCommitsRequested: "journal commits requested count",
  }),
  ...commits("journal.entries", "entries"),
  ...commits("journal.blocks", "blocks"),
  ...group("slabJournal", {
    diskFullCount: "slab journal disk full count",
    flushCount: "slab journal flush count",
    blockedCount: "slab journal blocked count",
    blocksWritten: "slab journal blocks written",
    tailBusyCount: "slab journal tail busy count",
  }),
  ...group("slabSummary", { blocksWritten: "slab summary blocks written" }),
  ...group("refCounts", { blocksWritten: "reference blocks written" }),
];

const BLOCK_MAP: StatisticEntry[] = group("blockMap", {
  dirtyPages: "block map dirty pages",
  cleanPages: "block map clean pages",
  freePages: "block map free pages",
  failedPages: "block map failed pages",
  incomingPages: "block map incoming pages",
  outgoingPages: "block map outgoing pages",
  cachePressure: "block map cache pressure",
  readCount: "block map read count",
  writeCount: "block map write count",
  failedReads: "block map failed reads",
  failedWrites: "block map failed writes",
  reclaimed: "block map reclaimed",
  readOutgoing: "block map read outgoing",
  foundInCache: "block map found in cache",
  discardRequired: "block map discard required",
  waitForPage: "block map wait for page",
  fetchRequired: "block map fetch required",
  pagesLoaded: "block map pages loaded",
  pagesSaved: "block map pages saved",
  flushCount: "block map flush count",
});

const DEDUPLICATION: StatisticEntry[] = [
  ...group("hashLock", {
    dedupeAdviceValid: "dedupe advice valid",
    dedupeAdviceStale: "dedupe advice stale",
    concurrentDataMatches: "concurrent data matches",
    concurrentHashCollisions: "concurrent hash collisions",
    currDedupeQueries: "current dedupe queries",
  }),
  ...group("errors", {
    invalidAdvicePBNCount: "invalid advice PBN count",
    noSpaceErrorCount: "no space error count",
    readOnlyErrorCount: "read only error count",
  }),
];

const REQUESTS: StatisticEntry[] = [
  count("instance", "instance"),
  // vdostats prints the block size here, as "512 byte emulation"; the message sends it after the four that follow.
  { path: "logicalBlockSize", name: "logicalBlockSize", label: "512 byte emulation", kind: "emulation" },
  count("currentVIOsInProgress", "current VDO IO requests in progress"),
  count("maxVIOs", "maximum VDO IO requests in progress"),
  count("dedupeAdviceTimeouts", "dedupe advice timeouts"),
  count("flushOut", "flush out"),
  derived("writeAmplificationRatio", "write amplification ratio"),
  ...bios(),
];

const RESOURCES: StatisticEntry[] = [
  ...group("memoryUsage", {
    bytesUsed: "KVDO module bytes used",
    peakBytesUsed: "KVDO module peak bytes used",
  }),
  ...group("index", {
    entriesIndexed: "entries indexed",
    postsFound: "posts found",
    postsNotFound: "posts not found",
    queriesFound: "queries found",
    queriesNotFound: "queries not found",
    updatesFound: "updates found",
    updatesNotFound: "updates not found",
    entriesDiscarded: "entries discarded",
  }),
];

/** All entries, in the order of `vdostats --verbose`. */
export const STATISTIC_ENTRIES: readonly StatisticEntry[] = [
  ...VOLUME,
  ...STORAGE,
  ...BLOCK_MAP,
  ...DEDUPLICATION,
  ...REQUESTS,
  ...RESOURCES,
];
