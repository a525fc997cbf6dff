/** `vdo status`: host, configuration and every key of every volume, as YAML that the legacy manager's readers understand. */
import { stat } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { nbdUri } from "../attach/attachment.ts";
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { recoveryShare } from "../daemon/recovery-text.ts";
import type { DaemonState } from "../daemon/state.ts";
import type { RecoveryProgress, VolumeStatistics } from "../engine.ts";
import { renderSize } from "../size.ts";
import { statisticsMap } from "../stats/verbose.ts";
import { yamlText } from "../yaml-text.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished } from "./context.ts";
import { inspectStorage } from "./inspect.ts";

const NOT_AVAILABLE = "not available";

/** The whole document. All information is gathered before the first line exists. */
export async function statusText(
  context: CommandContext,
  configuration: Configuration,
  names: readonly string[],
): Promise<string> {
  const { environment } = context;
  const volumes: Record<string, unknown> = {};
  for (const name of names) volumes[name] = await volumeOrMessage(context, configuration.get(name));
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
async function volumeOrMessage(context: CommandContext, settings: VolumeSettings): Promise<unknown> {
  try {
    requireFinished(settings);
    return await volumeStatus(context, settings);
  } catch (error) {
    return errorMessage(error);
  }
}

async function volumeStatus(context: CommandContext, settings: VolumeSettings): Promise<Record<string, unknown>> {
  const { name } = settings;
  const stored = await inspectStorage(context, settings.device);
  const asked = (await isRunning(context, name)) ? await runningStatus(context, name) : undefined;
  const running = asked?.running;
  return {
    ...configuredStatus(settings),
    ...recoveryStatus(asked?.recovery ?? null),
    "Block size": 4096,
    "Device mapper status": running?.line ?? NOT_AVAILABLE,
    "Index checkpoint frequency": 0,
    "Index memory setting": stored.indexMemory,
    "Index sparse": stored.indexSparse ? "enabled" : "disabled",
    "Index status": running?.line.split(" ")[6] ?? NOT_AVAILABLE,
    "Logical size": renderSize(BigInt(stored.logicalBlocks) * 4096n),
    "Physical size": renderSize(BigInt(stored.physicalBlocks) * 4096n),
    "Slab size": renderSize(BigInt(stored.slabBlocks) * 4096n),
    UUID: `VDO-${stored.uuidText}`,
    "Attached as": running === undefined ? NOT_AVAILABLE : running.state.attach.path,
    "Daemon process": running?.state.pid ?? NOT_AVAILABLE,
    "NBD URI": running === undefined ? NOT_AVAILABLE : nbdUri(name, running.state.nbdSocket),
    "VDO statistics":
      running === undefined
        ? NOT_AVAILABLE
        : { [running.state.attach.link ?? name]: statisticsMap(running.statistics) },
  };
}

function configuredStatus(settings: VolumeSettings): Record<string, unknown> {
  return {
    "Acknowledgement threads": settings.ackThreads,
    Activate: settings.activated,
    "Bio rotation interval": settings.bioRotationInterval,
    "Bio submission threads": settings.bioThreads,
    "Block map cache size": renderSize(settings.blockMapCacheSize),
    "Block map period": settings.blockMapPeriod,
    "CPU-work threads": settings.cpuThreads,
    Compression: settings.compression,
    "Configured write policy": settings.writePolicy,
    Deduplication: settings.deduplication,
    "Emulate 512 byte": settings.logicalBlockSize === 512 ? "enabled" : "disabled",
    "Hash zone threads": settings.hashZoneThreads,
    "Index parallel factor": settings.indexThreads,
    "Logical threads": settings.logicalThreads,
    "Max discard size": renderSize(settings.maxDiscardSize),
    "Physical threads": settings.physicalThreads,
    "Storage device": settings.device,
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
}

/** `running` is undefined while the daemon is still starting. */
async function runningStatus(
  context: CommandContext,
  name: string,
): Promise<{ running?: RunningStatus; recovery: RecoveryProgress | null }> {
  const ready = (await askDaemon(context, name, "ready")) as {
    state: DaemonState | null;
    recovery?: RecoveryProgress | null;
  };
  const { state, recovery = null } = ready;
  if (state === null) return { recovery };
  const line = String(await askDaemon(context, name, "status"));
  const statistics = (await askDaemon(context, name, "stats")) as VolumeStatistics;
  return { running: { line, state, statistics }, recovery };
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
