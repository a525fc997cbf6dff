/** Changes of stored settings: `vdo modify`, `activate`, `deactivate`, `changeWritePolicy`. */
import { errorMessage } from "@vdo/base";
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { commandError } from "../errors.ts";
import { openStorage } from "../host/storage.ts";
import { uuidBytes, type WritePolicy } from "../values.ts";
import { checkThreads, checkUuidFree } from "./checks.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished, type Selection } from "./context.ts";
import type { GivenSettings } from "./create.ts";

/** Refuses the same UUID for several volumes. */
export function checkModification(selection: Selection, { uuid }: GivenSettings): void {
  if (!("all" in selection) || uuid === undefined || uuid === null || uuid === "") return;
  throw commandError("VDO_USER", "Cannot change uuid to a specific value when --all is set");
}

/** Stores the given settings; they apply at the next start, except the UUID, which is written to the storage at once. */
export async function modify(
  context: CommandContext,
  configuration: Configuration,
  name: string,
  { uuid, ...given }: GivenSettings,
): Promise<void> {
  const settings = configuration.get(name);
  requireFinished(settings);
  checkThreads({ ...settings, ...given });
  Object.assign(settings, given);
  const running = await isRunning(context, name);
  if (uuid !== undefined && uuid !== null) await modifyUuid(context, configuration, { settings, uuid, running });
  if (Object.keys(given).length > 0 && running) {
    context.log.announce(`Note: Changes will not apply until VDO ${name} is restarted`);
  }
}

interface UuidChange {
  settings: VolumeSettings;
  uuid: string;
  running: boolean;
}

async function modifyUuid(
  context: CommandContext,
  configuration: Configuration,
  { settings, uuid, running }: UuidChange,
): Promise<void> {
  const { environment, paths, log } = context;
  const { name, device: path } = settings;
  if (running) {
    log.announce(`Can't modify uuid on VDO ${name} while it is running. Skipping change.`);
    return;
  }
  try {
    await checkUuidFree(context, configuration, uuid);
    const storage = await openStorage({ path, readOnly: false, command: "modify", environment, paths });
    try {
      await environment.engine.setUuid(storage.device, uuidBytes(uuid));
    } finally {
      await storage.release();
    }
    settings.uuid = uuid;
  } catch (error) {
    log.announce(`Can't modify uuid on VDO ${name}. Skipping change: ${errorMessage(error)}.`);
  }
}

/** Sets whether `start` starts the volume. One that runs goes on running. */
export async function setActivated({ log }: CommandContext, configuration: Configuration, name: string, on: boolean) {
  const settings = configuration.get(name);
  requireFinished(settings);
  const value = on ? "enabled" : "disabled";
  if (settings.activated === value) {
    log.announce(`${name} already ${on ? "activated" : "deactivated"}`);
    return;
  }
  log.announce(`${on ? "Activating" : "Deactivating"} VDO ${name}`);
  settings.activated = value;
}

/** Stores when writes are acknowledged, and has the daemon of a running volume do so from now on. */
export async function changeWritePolicy(
  context: CommandContext,
  configuration: Configuration,
  name: string,
  policy: WritePolicy,
): Promise<void> {
  const settings = configuration.get(name);
  requireFinished(settings);
  if (settings.writePolicy === policy) return;
  settings.writePolicy = policy;
  if (!(await isRunning(context, name))) return;
  settings._operationState = "beginRunningSetWritePolicy";
  await configuration.save();
  await askDaemon(context, name, "writePolicy", { policy });
  settings._operationState = "finished";
}
