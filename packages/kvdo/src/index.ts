export { forceRebuild, setReadOnly } from "./admin/force-rebuild.ts";
export {
  type FormatOptions,
  type FormatReport,
  type FormatResult,
  findSignatures,
  format,
  type PlanOptions,
  planFormat,
  readVolumeInfo,
  type Signature,
  setVolumeUuid,
  type VolumeInfo,
} from "./admin/index.ts";
export { type MemoryNeeded, memoryNeeded } from "./admin/memory-needed.ts";
export type {
  RecoveryCause,
  RecoveryPhase,
  VolumeConfigReport,
  VolumeEvent,
  VolumeOptions,
  VolumeStatus,
} from "./admin/volume-options.ts";
export { type AuditLine, type AuditOptions, auditVolume, ReferenceTable, type VolumeAudit } from "./audit/index.ts";
export { BlockCompressor, BlockHasher, HASH_BATCH_MAX } from "./compute/index.ts";
export type { IndexState } from "./dedupe/index-manager.ts";
export { type KernelStatus, kernelStatus, kernelStatusText } from "./errors.ts";
export {
  type DumpedPages,
  dumpMetadata,
  type EstimatorOptions,
  findGeometries,
  type GeometryCandidate,
  type MapEntry,
  MetadataDump,
  type MetadataRegion,
  metadataRegions,
  type SavingsEstimate,
  SavingsEstimator,
  StoppedVolume,
  writeGeometry,
} from "./offline/index.ts";
export type { RebuildReport } from "./recovery/rebuild.ts";
export {
  emptyStatistics,
  kibibytes,
  NOT_AVAILABLE,
  STATISTIC_ENTRIES,
  type StatisticEntry,
  savingPercent,
  statisticValue,
  statsMessage,
  usedBlocks,
  usePercent,
  type VdoStatistics,
  verboseLines,
  writeAmplification,
} from "./statistics/index.ts";
export { VdoVolume } from "./volume.ts";
