export {
  BLOCK_SECTORS_MAX,
  BLOCK_SECTORS_MIN,
  DEVICE_ID_MAX,
  METADATA_BLOCK_BYTES,
  METADATA_BLOCKS_MAX,
  SECTOR_BYTES,
} from "./constants.ts";
export { THIN_ERRORS } from "./errors.ts";
export { type DeviceDetails, deviceDetails } from "./format/device-details.ts";
export { isShared, type Mapping, mappingBlock, mappingTime, setMapping } from "./format/mapping.ts";
export { type PoolExtent, type PoolLabel, poolExtent, poolLabel } from "./format/pool-label.ts";
export {
  STREAM_VERSION,
  type ThinStreamHeader,
  type ThinStreamRecord,
  type ThinStreamTrailer,
  thinStreamHeader,
  thinStreamRecord,
  thinStreamTrailer,
} from "./format/stream.ts";
export {
  decodeSuperblock,
  encodeSuperblock,
  NEEDS_CHECK,
  type SpaceMapRoot,
  SUPERBLOCK_MAGIC,
  spaceMapRoot,
  type ThinSuperblock,
  thinSuperblock,
} from "./format/superblock.ts";
export {
  DEFAULT_FEATURES,
  type DiscardMode,
  formatPoolTable,
  type PoolFeatures,
  type PoolTable,
  parseFeatures,
  parsePoolTable,
} from "./pool/features.ts";
export { type PoolMessage, parseMessage } from "./pool/message.ts";
export { POOL_MODE_MOVES, type PoolMode } from "./pool/modes.ts";
export type { PoolEvent } from "./pool/pool-core.ts";
export { type PoolFigures, type PoolReload, ThinPool, type ThinPoolOptions } from "./pool/thin-pool.ts";
export { ThinVolume, type ThinVolumeOptions } from "./pool/thin-volume.ts";
export { JoinedDevice } from "./split/joined-device.ts";
export { recommendedMetadataBytes, SplitDevice, type SplitOptions } from "./split/split-device.ts";
export { ContentDigest } from "./stream/content-digest.ts";
export { readStream, type StreamVisitor } from "./stream/read-stream.ts";
export { type ReceiveOptions, receive, type VerifiedStream, verifyStream } from "./stream/receive.ts";
export { type SendOptions, type SendReport, type StreamProgress, send } from "./stream/send.ts";
export { type CheckOptions, type CheckReport, check, isHealthy } from "./tools/check.ts";
export type { Leak } from "./tools/check-counts.ts";
export { clearNeedsCheck, fixLeaks } from "./tools/check-fix.ts";
export type { CheckProblem, Severity } from "./tools/check-log.ts";
export { type Delta, type DeltaKind, type DeltaOptions, type DeltaRun, delta, formatDelta } from "./tools/delta.ts";
export { type DumpOptions, dump } from "./tools/dump.ts";
export { type DeviceUsage, deviceUsage, LS_FIELDS, type LsOptions, ls } from "./tools/ls.ts";
export type { MappingRun } from "./tools/mapping-runs.ts";
export { type MetadataSizeOptions, metadataBlocks, metadataBytes } from "./tools/metadata-size.ts";
export { type DeviceRecord, PoolReader, type ReadOptions } from "./tools/pool-reader.ts";
export { type RepairOptions, type RepairReport, repair } from "./tools/repair.ts";
export { type RestoreOptions, restore } from "./tools/restore.ts";
export { formatReverseMap, parseRegion, type Region, type ReverseRun, reverseMap } from "./tools/rmap.ts";
export { trim } from "./tools/trim.ts";
