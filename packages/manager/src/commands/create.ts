/** `vdo create`: format storage and start the volume on it. Everything that can be checked is checked before the first write. */
import { rm } from "node:fs/promises";
import type { Configuration } from "../config/configuration.ts";
import { checkStorageFree } from "../config/storage-owners.ts";
import { defaultSettings, type VolumeSettings } from "../config/volume-settings.ts";
import type { FormatFigures, FormatRequest } from "../engine.ts";
import { commandError, placeError } from "../errors.ts";
import { describeSignature, findSignatures } from "../host/signatures.ts";
import { openStorage, type Storage } from "../host/storage.ts";
import { locateStorage, prepareFile, stablePath } from "../host/storage-location.ts";
import { renderFormatterSize } from "../size.ts";
import { type AttachChoice, type LogLevel, uuidBytes } from "../values.ts";
import { checkCache, checkMemory, checkNameFree, checkThreads, checkUuidFree } from "./checks.ts";
import { type CommandContext, requireFinished } from "./context.ts";
import { memoryLine } from "./memory.ts";
import { announceReady, launchVolume } from "./start.ts";
import { Undo } from "./undo.ts";
import { clearFirstBlock } from "./wipe.ts";

/** Settings that the options of `create` and `import` give; what is absent keeps its default. */
export type GivenSettings = Partial<Omit<VolumeSettings, "name" | "device" | "others" | "_operationState">>;

export interface CreateOptions {
  name: string;
  device: string;
  settings: GivenSettings;
  force: boolean;
  /** What the daemon of the new volume logs. */
  logLevel?: LogLevel | undefined;
  /** Bytes of the sparse file to make or extend. */
  physicalSize?: number | undefined;
}

/** Slab count at which a volume cannot grow any more. */
const SLABS_MAX = 8192;

/** Slab bits of the largest slabs, 32 GiB. */
const SLAB_BITS_MAX = 23;

export async function create(context: CommandContext, configuration: Configuration, options: CreateOptions) {
  const { environment, log } = context;
  const { name, device, force } = options;
  log.announce(`Creating VDO ${name}`);
  const previous = configuration.volumes.get(name);
  if (previous !== undefined) requireFinished(previous);
  const settings = newSettings(context, options);
  await checkNameFree(context, configuration, name);
  checkThreads(settings);
  checkCache(settings);
  await checkMemory(context, settings);
  await checkUuidFree(context, configuration, settings.uuid);
  const undo = new Undo(log);
  try {
    if (options.physicalSize !== undefined && (await prepareFile(device, options.physicalSize, "create"))) {
      undo.push(`delete the new file ${device}`, () => rm(device, { force: true }));
    }
    await checkStorageFree(configuration, device);
    settings.device = await stablePath(device, await locateStorage(device, "create"), environment);
    await formatStorage(context, configuration, settings, { force, undo });
    await launchVolume(context, settings, { undo, logLevel: options.logLevel });
    settings._operationState = "finished";
    await configuration.save();
  } catch (error) {
    await undo.run();
    throw error;
  }
  await announceReady(context, settings, `VDO volume created at ${device}`);
}

/** Defaults, what was given, and the way of attaching that suits the user. */
export function newSettings(
  { environment }: CommandContext,
  { name, device, settings }: CreateOptions,
): VolumeSettings {
  const attach: AttachChoice = environment.uid === 0 ? "auto" : "none";
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  return { ...defaultSettings(name, device), attach, ...given };
}

interface FormatContext {
  force: boolean;
  undo: Undo;
}

async function formatStorage(
  context: CommandContext,
  configuration: Configuration,
  settings: VolumeSettings,
  { force, undo }: FormatContext,
): Promise<void> {
  const { environment, paths, log } = context;
  const { engine } = environment;
  const storage = await openStorage({ path: settings.device, readOnly: false, command: "create", environment, paths });
  try {
    const notes = await checkSignatures(context, storage, settings.device, force);
    const request = formatRequest(settings);
    engine.plan(storage.device.blockCount, request);
    await storage.device.flush();
    settings._operationState = "beginCreate";
    configuration.volumes.set(settings.name, settings);
    await configuration.save();
    undo.push(`remove ${settings.name} from the configuration`, async () => {
      configuration.volumes.delete(settings.name);
      await configuration.save();
    });
    log.step(`format ${settings.device}`);
    const figures = await engine.format(storage.device, request);
    undo.push(`clear the first block of ${settings.device}`, () => clearFirstBlock(context, settings.device));
    for (const line of [...notes, ...formatLines(settings, figures), memoryLine(context, settings)]) {
      log.announce(`      ${line}`);
    }
    settings.logicalSize = figures.logicalBlocks * 4096;
    settings.physicalSize = figures.physicalBlocks * 4096;
    settings.slabSize = figures.slabBlocks * 4096;
    await configuration.save();
  } catch (error) {
    throw placeError(error, settings.device);
  } finally {
    await storage.release();
  }
}

function formatRequest(settings: VolumeSettings): FormatRequest {
  return {
    logicalSize: settings.logicalSize,
    slabBits: Math.log2(settings.slabSize / 4096),
    indexMemory: settings.indexMemory,
    sparse: settings.indexSparse === "enabled",
    ...(settings.uuid === null ? {} : { uuid: uuidBytes(settings.uuid) }),
  };
}

/** Lines about what is on the device already; refuses without `--force`. */
async function checkSignatures(context: CommandContext, storage: Storage, path: string, force: boolean) {
  const { environment, paths } = context;
  const { device, info } = storage;
  const search = { device, path: info.path, programs: environment.programs, temporaryFolder: paths.shortFolder };
  const found = await findSignatures(search);
  if (found.length === 0) return [];
  const lines = found.map((signature) => describeSignature(path, signature));
  if (force) return [...lines, "Formatting device already containing a known signature."];
  lines.push("Cannot format device already containing a known signature!");
  lines.push("If you are sure you want to format this device again, use the", "--force option.");
  throw commandError("VDO_WRONG_STATE", lines.join("\n"), path);
}

/** What the formatter prints about a new volume. */
export function formatLines({ logicalSize }: { logicalSize: number }, figures: FormatFigures): string[] {
  const { logicalBlocks, slabBlocks, slabCount } = figures;
  const slabBits = Math.log2(slabBlocks);
  const lines = logicalSize === 0 ? [`Logical blocks defaulted to ${logicalBlocks} blocks.`] : [];
  const slabBytes = slabBlocks * 4096;
  const each = slabCount > 1 ? `s, each ${renderFormatterSize(slabBytes)}.` : ".";
  lines.push(
    `The VDO volume can address ${renderFormatterSize(slabBytes * slabCount)} in ${slabCount} data slab${each}`,
  );
  if (slabCount < SLABS_MAX) {
    const most = renderFormatterSize(slabBytes * SLABS_MAX);
    lines.push(`It can grow to address at most ${most} of physical storage in ${SLABS_MAX} slabs.`);
    if (slabBits < SLAB_BITS_MAX) lines.push("If a larger maximum size might be needed, use bigger slabs.");
  } else {
    lines.push("The volume has the maximum number of slabs and so cannot grow.");
    if (slabBits < SLAB_BITS_MAX) lines.push("Consider using larger slabs to allow the volume to grow.");
  }
  return lines;
}
