/** Statistics of a volume: the object, and its two printed forms. */
export {
  kibibytes,
  NOT_AVAILABLE,
  savingPercent,
  usedBlocks,
  usedPercentFloor,
  usePercent,
  writeAmplification,
} from "./derived.ts";
export { emptyBioCounters, emptyStatistics, STATISTICS_VERSION } from "./empty.ts";
export { type Availability, BIO_GROUPS, type BioGroup, STATISTIC_ENTRIES, type StatisticEntry } from "./entries.ts";
export { statsMessage } from "./message.ts";
export type {
  AllocatorStatistics,
  BioCounters,
  BlockMapStatistics,
  CommitCounters,
  ErrorStatistics,
  HashLockStatistics,
  IndexStatistics,
  JournalStatistics,
  OperatingMode,
  PackerStatistics,
  SlabJournalStatistics,
  VdoStatistics,
} from "./statistics.ts";
export { statisticValue, type VerboseOptions, verboseLines } from "./verbose.ts";
