export { type Attachment, nbdUri } from "./attach/attachment.ts";
export type { SizeQuestion } from "./commands/calculate-size.ts";
export type { Selection } from "./commands/context.ts";
export type { CopyOptions } from "./commands/copy.ts";
export type { CreateOptions, GivenSettings } from "./commands/create.ts";
export { type EstimateOptions, type EstimateReport, estimateLines } from "./commands/estimate.ts";
export { type ExportVolumeOptions, IMAGE_FORMATS, type ImageFormat } from "./commands/export.ts";
export type { FormatVolumeOptions } from "./commands/format.ts";
export type { GrowLogicalOptions, GrowPhysicalOptions } from "./commands/grow.ts";
export type { ImportOptions } from "./commands/import.ts";
export type { StorageChoice, ToolOutput } from "./commands/offline.ts";
export { announceLaunch, announceStatusPage, readyLine, type StartOptions } from "./commands/start.ts";
export type { StopOptions } from "./commands/stop.ts";
export { CONFIGURATION_VERSION, Configuration } from "./config/configuration.ts";
export { defaultSettings, type VolumeSettings } from "./config/volume-settings.ts";
export { askIfRunning, controlRequest } from "./control/client.ts";
export type { ControlReply, ControlRequest } from "./control/protocol.ts";
export { Daemon, type DaemonOptions } from "./daemon/daemon.ts";
export type { Exporter, ExportOptions, ExportServer } from "./daemon/exporter.ts";
export type { Launcher, LaunchRequest, ReadyReport } from "./daemon/launcher.ts";
export { nbdExporter } from "./daemon/nbd-exporter.ts";
export { type ServeOptions, serve } from "./daemon/serve.ts";
export { spawnLauncher } from "./daemon/spawn-launcher.ts";
export { type DaemonState, readState, runningVolumes } from "./daemon/state.ts";
export type {
  Engine,
  FormatFigures,
  FormatRequest,
  MemoryNeed,
  OpenOptions,
  RecoveryProgress,
  StoredVolume,
  VolumeHandle,
  VolumeProperties,
  VolumeStatistics,
  VolumeStatus,
} from "./engine.ts";
export { commandError, errorText, exitStatus } from "./errors.ts";
export { CommandLog, type CommandLogOptions } from "./host/command-log.ts";
export { type ClientEnvironment, clientEnvironment, type Environment, systemEnvironment } from "./host/environment.ts";
export { type GetoptOption, type GetoptResult, type GivenOption, getopt } from "./host/getopt.ts";
export { Paths, type VolumePaths } from "./host/paths.ts";
export { type ProgramResult, type Programs, systemPrograms } from "./host/programs.ts";
export { isNbdUri } from "./host/storage-location.ts";
export { systemLog } from "./host/syslog.ts";
export { kvdoEngine } from "./kvdo-engine.ts";
export { Manager, type ManagerOptions } from "./manager.ts";
export { type MetricsAddress, MetricsServer } from "./metrics/metrics-server.ts";
export { metricsCatalogue, metricsText } from "./metrics/volume-metrics.ts";
export { OfflineTools } from "./offline-tools.ts";
export {
  actOnBitmapsAtRest,
  BITMAP_ACTIONS,
  type BitmapAction,
  type BitmapReport,
  type BitmapRequest,
} from "./ploop/ploop-bitmaps.ts";
export { copyDisk, type PloopCopyOptions } from "./ploop/ploop-copy.ts";
export {
  askPloop,
  createPloopDisk,
  loadPloopDisk,
  newPloopGuid,
  type PloopSockets,
  type PloopStatus,
  ploopSockets,
  ploopStatus,
} from "./ploop/ploop-disk.ts";
export { type PloopServeOptions, PloopServer } from "./ploop/ploop-server.ts";
export { parseSize, renderSize, type SizeStyle } from "./size.ts";
export { humanSize } from "./stats/human-size.ts";
export { type SizeForm, type TableRow, tableHeader, tableLine, tableLines } from "./stats/table.ts";
export { statisticsMap, verboseLines } from "./stats/verbose.ts";
export { type MeasuredVolume, RunningVolumes, type SampledVolume, type ShownVolume } from "./stats/volumes.ts";
export type { ActivityRates, Notice, VolumeHistory, VolumeSnapshot, VolumeSpace } from "./status-page/snapshot.ts";
export {
  type PoolLauncher,
  type PoolLaunchRequest,
  type PoolReady,
  poolName,
  type ServePoolOptions,
  servePool,
  spawnPoolLauncher,
} from "./thin/pool-launcher.ts";
export { type CreatePoolOptions, type ListedPool, PoolManager, type PoolManagerOptions } from "./thin/pool-manager.ts";
export {
  DISCARD_MODES,
  defaultPool,
  type PoolPlace,
  type PoolSettings,
  placeOf,
  sectorsOf,
  type ThinVolumeSettings,
} from "./thin/pool-settings.ts";
export { type PoolStatus, type ServedVolume, type ThinServeOptions, ThinServer } from "./thin/thin-server.ts";
export {
  ATTACH_CHOICES,
  type AttachChoice,
  absolutePath,
  blockMapCacheSize,
  ENABLED_CHOICES,
  type Enabled,
  indexMemory,
  integer,
  LOG_LEVELS,
  type LogLevel,
  logicalSize,
  maxDiscardSize,
  physicalSize,
  type StatusPageChoice,
  skipHeader,
  slabSize,
  startTimeout,
  statusPage,
  storageName,
  uuid,
  type ValueCheck,
  volumeName,
  WRITE_POLICIES,
  type WritePolicy,
} from "./values.ts";
