/** What every command works with. */
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { askIfRunning, controlRequest } from "../control/client.ts";
import { commandError } from "../errors.ts";
import type { CommandLog } from "../host/command-log.ts";
import type { Environment } from "../host/environment.ts";
import type { Paths } from "../host/paths.ts";

export interface CommandContext {
  readonly environment: Environment;
  readonly paths: Paths;
  readonly log: CommandLog;
  readonly configurationFile: string;
}

/** One volume by name, or all of the configuration. */
export type Selection = { readonly all: true } | { readonly name: string };

/** True when the volume's daemon answers. */
export async function isRunning({ paths }: CommandContext, name: string): Promise<boolean> {
  return (await askIfRunning(paths.volume(name).controlSocket, "ping")) !== undefined;
}

/** Asks the daemon of a running volume. */
export function askDaemon(
  { paths }: CommandContext,
  name: string,
  op: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  return controlRequest(paths.volume(name).controlSocket, op, args);
}

/** Names that the states of interrupted operations have in messages. */
const OPERATIONS: { readonly [state: string]: string } = {
  beginCreate: "create",
  beginImport: "import",
  beginGrowLogical: "grow logical",
  beginGrowPhysical: "grow physical",
  beginRunningSetWritePolicy: "write policy",
};

/**
 * Refuses to go on with a volume whose last operation was interrupted: `VDO_WRONG_STATE` names the way out, and
 * `VDO_INCONSISTENT` a state that is unknown.
 */
export function requireFinished({ name, _operationState: state }: VolumeSettings): void {
  if (state === "finished" || state === "unknown") return;
  const operation = OPERATIONS[state];
  if (operation === undefined) {
    throw commandError("VDO_INCONSISTENT", `VDO volume ${name} in unknown operation state: ${state}`, name);
  }
  const text = `VDO volume ${name} previous operation (${operation}) is incomplete; recover by performing 'remove --force'`;
  throw commandError("VDO_WRONG_STATE", text, name);
}

/** Names that `selection` stands for. Throws `VDO_USER` for one that is not configured. */
export function selectedNames(configuration: Configuration, selection: Selection): string[] {
  if ("all" in selection) return configuration.names();
  if (selection.name === "") throw commandError("VDO_USER", "Missing required argument '--name'");
  configuration.get(selection.name);
  return [selection.name];
}
