/** `vdo start`: have a daemon serve the volume, and say where it is. */
import { readFile } from "node:fs/promises";
import { isVdoError } from "@vdo/base";
import type { Configuration } from "../config/configuration.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import type { ReadyReport } from "../daemon/launcher.ts";
import { recoveryReason, recoveryText } from "../daemon/recovery-text.ts";
import type { DaemonState } from "../daemon/state.ts";
import type { RecoveryProgress } from "../engine.ts";
import { advised, commandError } from "../errors.ts";
import type { Paths } from "../host/paths.ts";
import type { StatusPageState } from "../status-page/status-page.ts";
import type { AttachChoice, LogLevel, StatusPageChoice } from "../values.ts";
import { checkCache, checkMemory } from "./checks.ts";
import { askDaemon, type CommandContext, isRunning, requireFinished } from "./context.ts";
import { memoryLine } from "./memory.ts";
import { markForRebuild } from "./offline.ts";
import type { Undo } from "./undo.ts";

export interface StartOptions {
  readOnly: boolean;
  /** Overrides the stored choice for this start. */
  attach?: AttachChoice | undefined;
  socketGroup?: string | undefined;
  logLevel?: LogLevel | undefined;
  /** Rebuild a volume that is in read-only mode. */
  forceRebuild?: boolean | undefined;
  /** Overrides the stored choice for this start. */
  statusPage?: StatusPageChoice | undefined;
  /** Seconds; 0 waits without limit. */
  timeoutSeconds: number;
}

const DEFAULTS: StartOptions = { readOnly: false, timeoutSeconds: 0 };

export async function start(
  context: CommandContext,
  configuration: Configuration,
  name: string,
  options: StartOptions,
): Promise<void> {
  const { log } = context;
  const settings = configuration.get(name);
  requireActivated(settings);
  log.announce(`Starting VDO ${name}`);
  requireFinished(settings);
  if (await isRunning(context, name)) warnAlreadyStarted(context, name);
  else {
    log.announce(`      ${memoryLine(context, settings)}`);
    await launch(context, settings, options);
  }
  await announceReady(context, settings, "");
}

function warnAlreadyStarted({ log }: CommandContext, name: string): void {
  log.warning(`VDO service ${name} already started; no changes made`);
}

/** Refuses to start a volume that is not activated. */
export function requireActivated({ name, activated }: VolumeSettings): void {
  if (activated === "enabled") return;
  throw commandError(
    "VDO_WRONG_STATE",
    advised(`VDO volume ${name} not activated`, `Activate it first: vdo activate --name=${name}`),
    name,
  );
}

/** The start within `create` and `import`: announced, and left out for a volume that is not activated. */
export async function launchVolume(
  context: CommandContext,
  settings: VolumeSettings,
  { undo, logLevel }: { undo: Undo; logLevel: LogLevel | undefined },
): Promise<void> {
  context.log.announce(`Starting VDO ${settings.name}`);
  if (settings.activated === "disabled") return;
  undo.push(`stop ${settings.name}`, async () => {
    if (await isRunning(context, settings.name)) await askDaemon(context, settings.name, "stop", { force: true });
  });
  await launch(context, settings, { ...DEFAULTS, logLevel });
}

async function launch(context: CommandContext, settings: VolumeSettings, options: StartOptions): Promise<void> {
  const { environment, paths, log, configurationFile } = context;
  const { name } = settings;
  await checkMemory(context, settings);
  checkCache(settings);
  const attach = options.attach ?? settings.attach ?? (environment.uid === 0 ? "auto" : "none");
  let report: ReadyReport;
  let recovering = "";
  try {
    if (options.forceRebuild === true) await rebuildAtStart(context, settings);
    log.step(`serve ${settings.device} on ${paths.volume(name).nbdSocket}`);
    report = await environment.launcher({
      name,
      configurationFile,
      readOnly: options.readOnly,
      attach,
      socketGroup: options.socketGroup,
      logLevel: options.logLevel,
      statusPage: options.statusPage,
      timeoutSeconds: options.timeoutSeconds,
      environment,
      paths,
      onRecovery: (progress) => {
        if (recovering === "") log.announce(recoveryReason(name, progress));
        if (recovering !== progress.phase) log.step(recoveryText(progress));
        else log.announce(`      ${recoveryText(progress)}`);
        recovering = progress.phase;
      },
      onSlow: () => log.announce(`VDO ${name} is still starting; its progress is in ${paths.volume(name).logFile}`),
    });
  } catch (error) {
    // Another command was faster.
    if (isVdoError(error, "VDO_WRONG_STATE") && (await isRunning(context, name))) {
      return warnAlreadyStarted(context, name);
    }
    log.error(new Error(`Could not set up device mapper for ${name}`));
    throw error;
  }
  announceLaunch(context, settings, { ...options, attach }, report);
}

/** Asks for the rebuild of a volume in read-only mode. Throws `VDO_COMMAND_FAILED` for one in another state. */
export async function rebuildAtStart(context: CommandContext, { device, name }: VolumeSettings): Promise<void> {
  const failures: string[] = [];
  const output = { out: (line: string) => context.log.step(line), err: (line: string) => failures.push(line) };
  if ((await markForRebuild(context, { device, output, dryRun: false })) === 0) return;
  context.log.error(new Error(`Device ${name} not read-only`));
  throw commandError("VDO_COMMAND_FAILED", failures.join("\n"), device);
}

/** What a start tells before the ready line. */
export function announceLaunch(
  { environment, log }: Pick<CommandContext, "environment" | "log">,
  { name, compression }: VolumeSettings,
  { attach, readOnly }: { attach: AttachChoice; readOnly: boolean },
  report: Pick<ReadyReport, "attach" | "mode">,
): void {
  if (report.mode === "read-only" && !readOnly) {
    log.warning(
      `VDO ${name} is in read-only mode: it can be read, and writes fail. ` +
        `When its storage is sound: vdo stop --name=${name}, vdo forceRebuild --name=${name} --dryRun`,
    );
  }
  if (compression === "enabled" && !readOnly && report.mode !== "read-only")
    log.announce(`Starting compression on VDO ${name}`);
  const { kind, reason } = report.attach;
  if (attach === "auto" && kind === "none" && environment.uid === 0) {
    log.warning(`VDO ${name} has no block device: ${reason}`);
  } else if (attach === "auto" && kind === "fuse") {
    log.announce(`      Attached through FUSE and a loop device (${reason}).`);
  } else log.step(`attached as ${kind} (${reason})`);
}

/**
 * The last line of `create`, `import` and `start`; `otherwise` for a volume that is not activated. Throws `VDO_COMMAND_FAILED`
 * when the daemon, which was ready, is not there any more.
 */
export async function announceReady(context: CommandContext, { name, activated }: VolumeSettings, otherwise: string) {
  if (!(await isRunning(context, name))) {
    if (activated === "enabled") {
      const text = `the daemon of ${name} has ended; see ${context.paths.volume(name).logFile}, and start it again`;
      throw commandError("VDO_COMMAND_FAILED", text, name);
    }
    context.log.announce(otherwise);
    return;
  }
  const { state, statusPage } = (await askDaemon(context, name, "ready")) as ReadyAnswer;
  await announceStatusPage(context, name, statusPage);
  if (state === null) context.log.announce(`VDO ${name} is starting`);
  else context.log.announce(readyLine(state));
}

/** The answer of a daemon to the operation `ready`; daemons of older versions leave keys out. */
export interface ReadyAnswer {
  state: DaemonState | null;
  recovery?: RecoveryProgress | null;
  statusPage?: StatusPageState | null;
}

/** Where the status page is, for those who may open it. */
export async function announceStatusPage(
  { log, paths }: Pick<CommandContext, "log" | "paths">,
  name: string,
  page: StatusPageState | null | undefined,
): Promise<void> {
  if (page === null || page === undefined) return;
  if ("failure" in page) log.warning(page.failure);
  else log.announce(`      Status page: ${await statusPageUrl(paths, name, page.url)}`);
}

/** The page's URL, with the token for users who can read it: the browser keeps what follows the number sign to itself. */
export async function statusPageUrl(paths: Paths, name: string, url: string): Promise<string> {
  const token = await readFile(paths.volume(name).tokenFile, "utf8").catch(() => undefined);
  return token === undefined ? url : `${url}#token=${token.trim()}`;
}

export function readyLine({ instance, attach }: Pick<DaemonState, "instance" | "attach">): string {
  return `VDO instance ${instance} volume is ready at ${attach.path}`;
}
