/** `vdo status`: host, configuration and every key of every volume, as YAML that the legacy manager's readers understand. */
import { stat } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { nbdUri } from "../attach/attachment.ts";
import type { Configuration } from "../config/configuration.ts";
import { settingsFromPlain, type VolumeSettings } from "../config/volume-settings.ts";
import { readStatusLine } from "../daemon/kernel-text.ts";
import { recoveryShare } from "../daemon/recovery-text.ts";
import type { DaemonState } from "../daemon/state.ts";
import type { RecoveryProgress, VolumeStatistics } from "../engine.ts";
import { renderSize } from "../size.ts";
import { statisticsMap } from "../stats/verbose.ts";
import type { StatusPageState } from "../status-page/status-page.ts";
import { yamlText } from "../yaml-text.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished } from "./context.ts";
import { inspectVolume } from "./inspect.ts";
import { type ReadyAnswer, statusPageUrl } from "./start.ts";

const NOT_AVAILABLE = "not available";

export interface StatusOptions {
  /** Shows settings of running volumes that await a restart, as `ACTIVE    [CONFIGURED]`. */
  pending: boolean;
}

/** The whole document. All information is gathered before the first line exists. */
export async function statusText(
  context: CommandContext,
  configuration: Configuration,
  { names, pending }: StatusOptions & { names: readonly string[] },
): Promise<string> {
  const { environment } = context;
  const volumes: Record<string, unknown> = {};
  for (const name of names) volumes[name] = await volumeOrMessage(context, configuration.get(name), { pending });
  const note = environment.uid === 0 ? {} : { Note: "Not running as root, some status may be unavailable" };
  return yamlText({
    "VDO status": { Date: rfc3339(environment.clock.wallMicroseconds()), Node: environment.hostname, ...note },
    "Kernel module": {
      Loaded: false,
      Name: "kvdo",
      "Version information": { "kvdo version": environment.version },
    },
    Configuration: await configurationFile(configuration.path),
    VDOs: volumes,
  });
}

/** A volume that cannot be read has its message in place of its mapping. */
async function volumeOrMessage(
  context: CommandContext,
  settings: VolumeSettings,
  options: StatusOptions,
): Promise<unknown> {
  try {
    requireFinished(settings);
    return await volumeStatus(context, settings, options);
  } catch (error) {
    return errorMessage(error);
  }
}

async function volumeStatus(
  context: CommandContext,
  settings: VolumeSettings,
  { pending }: StatusOptions,
): Promise<Record<string, unknown>> {
  const { name } = settings;
  const stored = await inspectVolume(context, settings);
  const asked = (await isRunning(context, name)) ? await runningStatus(context, name) : undefined;
  const running = asked?.running;
  return {
    ...storedStatus(settings),
    ...changeableStatus(settings, running?.settings ?? settings, pending),
    ...recoveryStatus(asked?.recovery ?? null),
    "Block size": 4096,
    "Device mapper status": running?.line ?? NOT_AVAILABLE,
    "Index checkpoint frequency": 0,
    "Index memory setting": stored.indexMemory,
    "Index sparse": stored.indexSparse ? "enabled" : "disabled",
    "Index status": running === undefined ? NOT_AVAILABLE : readStatusLine(running.line).indexState,
    "Logical size": renderSize(BigInt(stored.logicalBlocks) * 4096n),
    "Physical size": renderSize(BigInt(stored.physicalBlocks) * 4096n),
    "Slab size": renderSize(BigInt(stored.slabBlocks) * 4096n),
    UUID: `VDO-${stored.uuidText}`,
    "Attached as": running === undefined ? NOT_AVAILABLE : running.state.attach.path,
    "Daemon process": running?.state.pid ?? NOT_AVAILABLE,
    "Status page": asked === undefined ? NOT_AVAILABLE : await statusPageStatus(context, name, asked.statusPage),
    "NBD URI": running === undefined ? NOT_AVAILABLE : nbdUri(name, running.state.nbdSocket),
    "VDO statistics":
      running === undefined ? NOT_AVAILABLE : { [`/dev/mapper/${name}`]: statisticsMap(running.statistics) },
  };
}

/** The page's URL, why there is none, or that none was asked for. */
async function statusPageStatus(
  { paths }: CommandContext,
  name: string,
  page: StatusPageState | null | undefined,
): Promise<string> {
  if (page === null || page === undefined) return "disabled";
  return "url" in page ? statusPageUrl(paths, name, page.url) : `${NOT_AVAILABLE}: ${page.failure}`;
}

/** What is as the configuration says, whether the volume runs or not. */
function storedStatus(settings: VolumeSettings): Record<string, unknown> {
  return {
    Activate: settings.activated,
    Compression: settings.compression,
    Deduplication: settings.deduplication,
    "Index parallel factor": settings.indexThreads,
  };
}

/** Status keys of the settings that apply when a volume starts: `modify` changes them for the next start. */
const MODIFIABLE: { readonly [key: string]: (settings: VolumeSettings) => string | number } = {
  "Acknowledgement threads": ({ ackThreads }) => ackThreads,
  "Bio rotation interval": ({ bioRotationInterval }) => bioRotationInterval,
  "Bio submission threads": ({ bioThreads }) => bioThreads,
  "Block map cache size": ({ blockMapCacheSize }) => renderSize(blockMapCacheSize),
  "Block map period": ({ blockMapPeriod }) => blockMapPeriod,
  "CPU-work threads": ({ cpuThreads }) => cpuThreads,
  "Hash zone threads": ({ hashZoneThreads }) => hashZoneThreads,
  "Logical threads": ({ logicalThreads }) => logicalThreads,
  "Max discard size": ({ maxDiscardSize }) => renderSize(maxDiscardSize),
  "Physical threads": ({ physicalThreads }) => physicalThreads,
};

/** Four blanks and brackets, as the legacy manager has them. */
const pendingText = (active: string | number, configured: string | number): string => `${active}    [${configured}]`;

/** What a running volume was started with, or what is configured. */
function changeableStatus(
  configured: VolumeSettings,
  active: VolumeSettings,
  pending: boolean,
): Record<string, unknown> {
  const shown = Object.entries(MODIFIABLE).map(([key, of]) => {
    const waits = pending && of(active) !== of(configured);
    return [key, waits ? pendingText(of(active), of(configured)) : of(active)];
  });
  return {
    ...Object.fromEntries(shown),
    "Configured write policy": active.writePolicy,
    "Emulate 512 byte": active.logicalBlockSize === 512 ? "enabled" : "disabled",
    "Storage device": active.device,
  };
}

/** Keys that a volume has while it is recovered: before it is served, and while its last slabs are. */
function recoveryStatus(recovery: RecoveryProgress | null): Record<string, string> {
  return recovery === null ? {} : { "Operating mode": "recovering", "Recovery progress": recoveryShare(recovery) };
}

interface RunningStatus {
  line: string;
  state: DaemonState;
  statistics: VolumeStatistics;
  /** What the volume was started with. */
  settings: VolumeSettings;
}

interface AskedStatus extends Pick<ReadyAnswer, "statusPage"> {
  /** Undefined while the daemon is still starting. */
  running?: RunningStatus;
  recovery: RecoveryProgress | null;
}

async function runningStatus(context: CommandContext, name: string): Promise<AskedStatus> {
  const { state, recovery = null, statusPage = null } = (await askDaemon(context, name, "ready")) as ReadyAnswer;
  if (state === null) return { recovery, statusPage };
  const line = String(await askDaemon(context, name, "status"));
  const statistics = (await askDaemon(context, name, "stats")) as VolumeStatistics;
  const plain = (await askDaemon(context, name, "settings")) as Record<string, unknown>;
  return { running: { line, state, statistics, settings: settingsFromPlain(plain, name) }, recovery, statusPage };
}

async function configurationFile(path: string): Promise<Record<string, string>> {
  try {
    const { mtimeMs } = await stat(path);
    return { File: path, "Last modified": rfc3339(mtimeMs * 1000).slice(0, 19) };
  } catch {
    return { File: "does not exist", "Last modified": NOT_AVAILABLE };
  }
}

/** Local time with its offset: `2024-01-01 12:00:00+00:00`. */
export function rfc3339(wallMicroseconds: number): string {
  const date = new Date(wallMicroseconds / 1000);
  const offset = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + offset * 60_000).toISOString();
  const two = (n: number): string => String(n).padStart(2, "0");
  const sign = offset < 0 ? "-" : "+";
  const zone = `${sign}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${local.slice(0, 10)} ${local.slice(11, 19)}${zone}`;
}
