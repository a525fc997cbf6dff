/**
 * `vdo growLogical` and `vdo growPhysical`: a running volume becomes larger. Its daemon does the work; the configuration
 * follows what the storage says afterwards, so a command that was cut off is made good by the next one.
 */
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { advised, commandError } from "../errors.ts";
import { prepareFile } from "../host/storage-location.ts";
import { renderSize } from "../size.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished } from "./context.ts";
import { inspectVolume, type KnownVolume } from "./inspect.ts";

const BLOCK = 4096;

export interface GrowLogicalOptions {
  name: string;
  /** Bytes; rounded down to whole blocks. */
  logicalSize: number;
}

export interface GrowPhysicalOptions {
  name: string;
  /** Extends the regular file under the volume to this size first, in bytes. */
  physicalSize?: number | undefined;
}

/** Grows the device that users see. Throws `VDO_WRONG_STATE` when it does not run, `VDO_USER` for a size that is no growth. */
export async function growLogical(
  context: CommandContext,
  configuration: Configuration,
  { name, logicalSize }: GrowLogicalOptions,
): Promise<void> {
  const settings = configuration.get(name);
  requireFinished(settings);
  await requireRunning(context, name);
  const { logicalBlocks } = await inspectVolume(context, settings);
  const bytes = logicalSize - (logicalSize % BLOCK);
  requireGrowth(settings, bytes, logicalBlocks * BLOCK);
  await grow(context, configuration, settings, { state: "beginGrowLogical", op: "growLogical", bytes });
}

/** Grows the volume to the size that its storage has now. Throws as {@link growLogical}. */
export async function growPhysical(
  context: CommandContext,
  configuration: Configuration,
  { name, physicalSize }: GrowPhysicalOptions,
): Promise<void> {
  const settings = configuration.get(name);
  requireFinished(settings);
  await requireRunning(context, name);
  const { physicalBlocks } = await inspectVolume(context, settings);
  if (physicalSize !== undefined) {
    requireGrowth(settings, physicalSize, physicalBlocks * BLOCK);
    context.log.step(`extend ${settings.device} to ${renderSize(physicalSize)}`);
    await prepareFile(settings.device, physicalSize, "growPhysical");
  }
  const { blocks } = (await askDaemon(context, name, "storageSize")) as { blocks: number };
  const bytes = blocks * BLOCK;
  requireGrowth(settings, bytes, physicalBlocks * BLOCK);
  await grow(context, configuration, settings, { state: "beginGrowPhysical", op: "growPhysical", bytes });
}

async function requireRunning(context: CommandContext, name: string): Promise<void> {
  if (await isRunning(context, name)) return;
  throw commandError(
    "VDO_WRONG_STATE",
    advised(`VDO volume ${name} must be running`, `Start it first: vdo start --name=${name}`),
    name,
  );
}

function requireGrowth({ name }: VolumeSettings, bytes: number, present: number): void {
  if (bytes < present) {
    throw commandError("VDO_USER", `Can't shrink a VDO volume (old size ${renderSize(present)})`, name);
  }
  if (bytes === present) throw commandError("VDO_USER", `Can't grow a VDO volume by less than ${BLOCK} bytes`, name);
}

interface Growth {
  state: "beginGrowLogical" | "beginGrowPhysical";
  op: "growLogical" | "growPhysical";
  bytes: number;
}

async function grow(
  context: CommandContext,
  configuration: Configuration,
  settings: VolumeSettings,
  { state, op, bytes }: Growth,
): Promise<void> {
  const { name } = settings;
  settings._operationState = state;
  await configuration.save();
  try {
    context.log.step(`${op} ${name} to ${renderSize(bytes)}`);
    const { warning } = (await askDaemon(context, name, op, { blocks: bytes / BLOCK })) as { warning?: string };
    if (warning !== undefined) context.log.warning(warning);
  } finally {
    // What the storage says counts, whether the growth succeeded or not.
    takeSizes(settings, await inspectVolume(context, settings));
    settings._operationState = "finished";
    await configuration.save();
  }
}

/** Stores the sizes that the volume has on its storage. */
export function takeSizes(settings: VolumeSettings, { logicalBlocks, physicalBlocks }: KnownVolume): void {
  settings.logicalSize = logicalBlocks * BLOCK;
  settings.physicalSize = physicalBlocks * BLOCK;
}
