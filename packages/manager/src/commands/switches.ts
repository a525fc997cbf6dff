/** `vdo enableCompression`, `disableCompression`, `enableDeduplication`, `disableDeduplication`. */
import type { Configuration } from "../config/configuration.ts";
import { readStatusLine } from "../daemon/kernel-text.ts";
import { commandError } from "../errors.ts";
import { pause } from "../host/lock.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished } from "./context.ts";

/** Attempts, one second apart, to see the index online. */
const ONLINE_ATTEMPTS = 20;

export async function setCompression(context: CommandContext, configuration: Configuration, name: string, on: boolean) {
  const { log } = context;
  const settings = configuration.get(name);
  log.announce(`${on ? "Enabling" : "Disabling"} compression on vdo ${name}`);
  requireFinished(settings);
  const value = on ? "enabled" : "disabled";
  if (settings.compression === value) {
    log.info(`compression already ${value} on VDO ${name}`);
    return;
  }
  settings.compression = value;
  if (!(await isRunning(context, name))) return;
  log.announce(`${on ? "Starting" : "Stopping"} compression on VDO ${name}`);
  await askDaemon(context, name, "message", { args: ["compression", on ? "on" : "off"] });
}

export async function setDeduplication(
  context: CommandContext,
  configuration: Configuration,
  name: string,
  on: boolean,
): Promise<void> {
  const { log } = context;
  const settings = configuration.get(name);
  log.announce(`${on ? "Enabling" : "Disabling"} deduplication on vdo ${name}`);
  requireFinished(settings);
  const value = on ? "enabled" : "disabled";
  if (settings.deduplication === value) {
    log.info(`deduplication already ${value} on VDO ${name}`);
    return;
  }
  settings.deduplication = value;
  if (!(await isRunning(context, name))) return;
  if (on) await openIndex(context, name);
  else await closeIndex(context, name);
}

async function closeIndex(context: CommandContext, name: string): Promise<void> {
  try {
    await askDaemon(context, name, "message", { args: ["index-close"] });
  } catch (error) {
    throw commandError("VDO_COMMAND_FAILED", `Cannot stop deduplication on VDO ${name}`, name, error);
  }
}

async function openIndex(context: CommandContext, name: string): Promise<void> {
  await askDaemon(context, name, "message", { args: ["index-enable"] });
  for (let attempt = 0; attempt < ONLINE_ATTEMPTS; attempt++) {
    const { indexState: state } = readStatusLine(String(await askDaemon(context, name, "status")));
    if (state === "online") return;
    if (state === "error") throw commandError("VDO_SYSTEM", `Error enabling deduplication for ${name}`, name);
    if (state !== "opening") {
      throw commandError("VDO_SYSTEM", `Unexpected kernel status ${state} enabling deduplication for ${name}`, name);
    }
    await pause(1000, context.environment.clock);
  }
  context.log.warning(`Timeout enabling deduplication for ${name}, continuing`);
}
