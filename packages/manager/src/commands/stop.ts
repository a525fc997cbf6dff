/** `vdo stop` and `vdo remove`. */
import { existsSync } from "node:fs";
import { access } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { detach } from "../attach/attachment.ts";
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { readState, removeRuntimeFiles } from "../daemon/state.ts";
import { commandError } from "../errors.ts";
import { acquireLock, pause } from "../host/lock.ts";
import { examineStorage, isNbdUri, locateStorage } from "../host/storage-location.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished } from "./context.ts";
import { clearFirstBlock } from "./wipe.ts";

/** After this long a stop is worth a word: a large index takes its time to be saved. */
const SLOW_STOP_MILLISECONDS = 3000;

/** Attempts, 50 ms apart, to see the daemon gone after it has answered. */
const GONE_ATTEMPTS = 100;

export interface StopOptions {
  force: boolean;
}

export async function stop(
  context: CommandContext,
  configuration: Configuration,
  name: string,
  { force }: StopOptions,
): Promise<void> {
  const settings = configuration.get(name);
  context.log.announce(`Stopping VDO ${name}`);
  if (!force) requireFinishedOrExplain(context, settings);
  if (await isRunning(context, name)) {
    await stopDaemon(context, name, force);
    return;
  }
  await cleanUpAfterTheDead(context, name);
  const { _operationState: state } = settings;
  if (state === "finished" || state === "unknown") context.log.warning(`VDO service ${name} already stopped`);
}

async function stopDaemon(context: CommandContext, name: string, force: boolean): Promise<void> {
  const { environment, log } = context;
  const cancel = environment.clock.after(SLOW_STOP_MILLISECONDS, () => {
    log.announce(`VDO ${name} is finishing its writes and saving its index`);
  });
  try {
    await askDaemon(context, name, "stop", { force });
  } finally {
    cancel();
  }
  for (let attempt = 0; await isRunning(context, name); attempt++) {
    if (attempt === GONE_ATTEMPTS) throw commandError("VDO_SYSTEM", `cannot stop VDO service ${name}`, name);
    await pause(50, environment.clock);
  }
}

/** A killed daemon leaves its attachment, its files and its control socket, whose lock is taken while they are removed. */
async function cleanUpAfterTheDead({ environment, paths, log }: CommandContext, name: string): Promise<void> {
  const { folder, controlSocket, stateFile } = paths.volume(name);
  if (!existsSync(folder)) return;
  const lock = await acquireLock(controlSocket, 0, environment.clock);
  if (lock === undefined) return;
  try {
    const left = await readState(stateFile);
    if (left !== undefined) {
      log.step(`clean up after process ${left.pid}, which ended without stopping`);
      await detach(left.attach, environment);
    }
  } finally {
    await lock.release();
  }
  await removeRuntimeFiles(paths, name);
}

/** An interrupted `create` or `import`: says what `remove --force` would do, and refuses. */
function requireFinishedOrExplain({ paths, log }: CommandContext, settings: VolumeSettings): void {
  try {
    requireFinished(settings);
  } catch (error) {
    const { name, device } = settings;
    log.announce("A previous operation failed.");
    log.announce("Recovery from the failure either failed or was interrupted.");
    log.announce("Add '--force' to 'remove' to perform the following cleanup.");
    log.announce(`Steps to clean up VDO ${name}:`);
    log.announce(`    stop the daemon that answers on ${paths.volume(name).controlSocket}`);
    log.announce(`    clear the first block of ${device}`);
    log.announce(`    remove ${name} from the configuration`);
    throw error;
  }
}

export async function remove(
  context: CommandContext,
  configuration: Configuration,
  name: string,
  { force }: StopOptions,
): Promise<void> {
  const { log } = context;
  const settings = configuration.get(name);
  log.announce(`Removing VDO ${name}`);
  const running = await isRunning(context, name);
  const present = running || (await isPresent(settings.device));
  if (!present && !force) {
    const text = `Device ${settings.device} not found. Remove VDO with --force.`;
    throw commandError("VDO_WRONG_STATE", text, settings.device);
  }
  await stop(context, configuration, name, { force });
  configuration.volumes.delete(name);
  if (present) await wipe(context, settings.device, force);
}

/** True when the storage is there; an export, when it can be connected to. */
function isPresent(device: string): Promise<boolean> {
  return (isNbdUri(device) ? examineStorage(device, "remove") : access(device)).then(
    () => true,
    () => false,
  );
}

/** A block device or an export loses its geometry block; a regular file only with `--force`; neither is ever deleted. */
async function wipe(context: CommandContext, device: string, force: boolean): Promise<void> {
  try {
    const { kind } = await locateStorage(device, "remove");
    if (kind === "file" && !force) return;
    context.log.step(`clear the first block of ${device}`);
    await clearFirstBlock(context, device);
  } catch (error) {
    if (!force) throw error;
    context.log.warning(`could not clear the first block of ${device}: ${errorMessage(error)}`);
  }
}
