/**
 * Makes good the operations that may be cut off without harm: a growth is read back from the storage, a change of the write
 * policy is repeated. Interrupted creations are left to `remove --force`.
 */
import { errorMessage } from "@vdo/base";
import type { Configuration } from "../config/configuration.ts";
import { askDaemon, type CommandContext, isRunning } from "./context.ts";
import { takeSizes } from "./grow.ts";
import { inspectVolume } from "./inspect.ts";

const GROWTHS: readonly string[] = ["beginGrowLogical", "beginGrowPhysical"];

/** Finishes what an earlier command on `name` began; what cannot be finished now stays for the next command. */
export async function finishInterrupted(
  context: CommandContext,
  configuration: Configuration,
  name: string,
): Promise<void> {
  const settings = configuration.volumes.get(name);
  if (settings === undefined) return;
  const { _operationState: state, device, writePolicy } = settings;
  try {
    if (GROWTHS.includes(state)) takeSizes(settings, await inspectVolume(context, { name, device }));
    else if (state !== "beginRunningSetWritePolicy") return;
    else if (await isRunning(context, name)) await askDaemon(context, name, "writePolicy", { policy: writePolicy });
    settings._operationState = "finished";
    await configuration.save();
  } catch (error) {
    context.log.info(`could not finish the interrupted operation ${state} of ${name}: ${errorMessage(error)}`);
  }
}
