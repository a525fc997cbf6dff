/** `vdo import`: take a volume that is formatted already, by the kernel's tools or by us, into the configuration. */
import type { Configuration } from "../config/configuration.ts";
import { checkStorageFree } from "../config/storage-owners.ts";
import { openStorage } from "../host/storage.ts";
import { locateStorage, stablePath } from "../host/storage-location.ts";
import { uuidBytes } from "../values.ts";
import { checkCache, checkMemory, checkNameFree, checkThreads, checkUuidFree } from "./checks.ts";
import { type CommandContext, requireFinished } from "./context.ts";
import { type CreateOptions, newSettings } from "./create.ts";
import { type InspectedVolume, inspectStorage } from "./inspect.ts";
import { announceReady, launchVolume } from "./start.ts";
import { Undo } from "./undo.ts";

export type ImportOptions = Omit<CreateOptions, "force" | "physicalSize">;

export async function importVolume(context: CommandContext, configuration: Configuration, options: ImportOptions) {
  const { environment, log } = context;
  const { name, device } = options;
  log.announce(`Importing VDO ${name}`);
  const previous = configuration.volumes.get(name);
  if (previous !== undefined) requireFinished(previous);
  const stored = await inspectStorage(context, device);
  const settings = { ...newSettings(context, { ...options, force: false }), ...settingsOf(stored) };
  await checkNameFree(context, configuration, name);
  await checkStorageFree(configuration, device);
  checkThreads(settings);
  checkCache(settings);
  await checkMemory(context, settings);
  await checkUuidFree(context, configuration, settings.uuid ?? stored.uuidText);
  settings.device = await stablePath(device, await locateStorage(device, "import"), environment);
  const undo = new Undo(log);
  try {
    settings._operationState = "beginImport";
    configuration.volumes.set(name, settings);
    await configuration.save();
    undo.push(`remove ${name} from the configuration`, async () => {
      configuration.volumes.delete(name);
      await configuration.save();
    });
    if (settings.uuid !== null) await setUuid(context, settings.device, settings.uuid);
    await launchVolume(context, settings, { undo, logLevel: options.logLevel });
    settings._operationState = "finished";
    await configuration.save();
  } catch (error) {
    await undo.run();
    throw error;
  }
  await announceReady(context, settings, `VDO volume created at ${device}`);
}

/** The device knows better than the options: sizes and index settings are its own. */
function settingsOf({ physicalBlocks, logicalBlocks, slabBlocks, indexMemory, indexSparse }: InspectedVolume) {
  return {
    physicalSize: physicalBlocks * 4096,
    logicalSize: logicalBlocks * 4096,
    slabSize: slabBlocks * 4096,
    indexMemory,
    indexSparse: indexSparse ? ("enabled" as const) : ("disabled" as const),
  };
}

async function setUuid({ environment, paths }: CommandContext, path: string, uuid: string): Promise<void> {
  const storage = await openStorage({ path, readOnly: false, command: "import", environment, paths });
  try {
    await environment.engine.setUuid(storage.device, uuidBytes(uuid));
  } finally {
    await storage.release();
  }
}
