/** Checks of values against each other and against the machine, made before anything is written. */
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { advised, commandError } from "../errors.ts";
import { renderFormatterSize, renderSize } from "../size.ts";
import { type CommandContext, isRunning } from "./context.ts";
import { inspectVolume } from "./inspect.ts";

const GIB = 1024 ** 3;

/** Pages of the block map cache that each logical thread needs at least. */
const CACHE_PAGES_PER_LOGICAL_THREAD = 4096;

/** Hash zone, logical and physical thread counts are all zero or all non-zero. */
export function checkThreads({ name, hashZoneThreads, logicalThreads, physicalThreads }: VolumeSettings): void {
  const zero = [hashZoneThreads, logicalThreads, physicalThreads].filter((count) => count === 0).length;
  if (zero === 0 || zero === 3) return;
  const text = "hash zone, logical and physical threads must either all be zero or all be non-zero";
  const counts = `${hashZoneThreads}, ${logicalThreads} and ${physicalThreads}`;
  const options = "--vdoHashZoneThreads, --vdoLogicalThreads and --vdoPhysicalThreads";
  throw commandError("VDO_USER", advised(text, `They are ${counts}: change ${options}.`), name);
}

/** Least and most of each thread count, in the order in which the kernel's target looks at them. */
const THREAD_LIMITS = [
  ["ack", "ackThreads", 0, 100],
  ["bio", "bioThreads", 1, 100],
  ["cpu", "cpuThreads", 1, 100],
  ["hash", "hashZoneThreads", 0, 100],
  ["logical", "logicalThreads", 0, 60],
  ["physical", "physicalThreads", 0, 16],
] as const;

const ROTATION_MAX = 1024;

/**
 * The stored thread counts as the kernel's target takes them in its table line (Linux 6.12): what options refuse, a configuration
 * that was edited may hold. Throws `VDO_COMMAND_FAILED` with the target's texts.
 */
export function checkThreadConfiguration(settings: VolumeSettings): void {
  const { name, bioRotationInterval: rotation } = settings;
  const refuse = (reason: string, detail?: string): never => {
    const text = `Device ${name} could not be activated; ${reason}${detail === undefined ? "" : ` (${detail})`}`;
    throw commandError("VDO_COMMAND_FAILED", text, name);
  };
  const refuseThreads = (detail: string): never =>
    refuse("Invalid optional argument configuration", `thread config string error: ${detail}`);
  for (const [word, key, least, most] of THREAD_LIMITS) {
    if (settings[key] < least) refuseThreads(`at least one '${word}' thread required`);
    if (settings[key] > most) refuseThreads(`at most ${most} '${word}' threads are allowed`);
  }
  if (rotation === 0) refuseThreads(" 'bioRotationInterval' of at least 1 is required");
  if (rotation > ROTATION_MAX) refuseThreads(`'bioRotationInterval' cannot be higher than ${ROTATION_MAX}`);
  const { hashZoneThreads, logicalThreads, physicalThreads } = settings;
  const zero = [hashZoneThreads, logicalThreads, physicalThreads].filter((count) => count === 0).length;
  if (zero === 1 || zero === 2) refuse("Logical, physical, and hash zones counts must all be zero or all non-zero");
}

/** The cache holds enough pages for the logical threads. */
export function checkCache({ name, blockMapCacheSize, logicalThreads }: VolumeSettings): void {
  if (Math.floor(blockMapCacheSize / 4096) >= CACHE_PAGES_PER_LOGICAL_THREAD * logicalThreads) return;
  const needed = renderSize(CACHE_PAGES_PER_LOGICAL_THREAD * logicalThreads * 4096);
  const least = `${logicalThreads} logical threads need ${needed}, and it has ${renderSize(blockMapCacheSize)}`;
  const text = advised(
    `Insufficient block map cache for ${name}`,
    `${least}: change --blockMapCacheSize or --vdoLogicalThreads.`,
  );
  throw commandError("VDO_USER", text, name);
}

/** The machine has the memory that the index takes; where it does not say, a note in the log. */
export async function checkMemory({ environment, log }: CommandContext, settings: VolumeSettings): Promise<void> {
  const available = await environment.memoryAvailable();
  const needed = settings.indexMemory * GIB;
  if (available === undefined) log.info("the available memory is not known; the check is skipped");
  else if (available <= needed) {
    const text = `Not enough available memory in system for index requirement of ${renderSize(needed)}`;
    const present = `${renderFormatterSize(available)} are available`;
    throw commandError(
      "VDO_USER",
      advised(text, `${present}: free memory, or make the volume with a smaller --indexMem.`),
      settings.name,
    );
  }
}

/** The name is free: neither configured nor running. */
export async function checkNameFree(
  context: CommandContext,
  configuration: Configuration,
  name: string,
): Promise<void> {
  if (name === "") throw commandError("VDO_USER", "Missing required argument '--name'");
  if (configuration.volumes.has(name)) {
    const text = advised(
      `VDO volume ${name} already exists`,
      `Choose another name, or remove it: vdo remove --name=${name}`,
    );
    throw commandError("VDO_USER", text, name);
  }
  if (configuration.pools.has(name)) throw commandError("VDO_USER", `Thin pool ${name} already exists`, name);
  if (await isRunning(context, name)) {
    throw commandError("VDO_WRONG_STATE", `Name conflict with extant VDO volume ${name}`, name);
  }
}

/** No configured volume has the UUID that is asked for. Devices that cannot be read are ignored. */
export async function checkUuidFree(context: CommandContext, configuration: Configuration, uuid: string | null) {
  if (uuid === null || uuid === "") return;
  const owners: string[] = [];
  for (const settings of configuration.volumes.values()) {
    const stored = await inspectVolume(context, settings).catch(() => undefined);
    if (stored?.uuidText === uuid) owners.push(settings.device);
  }
  if (owners.length === 0) return;
  const text = `UUID ${uuid} already exists in VDO volume(s) stored on ${owners.join(", ")}`;
  throw commandError("VDO_WRONG_STATE", text, uuid);
}
