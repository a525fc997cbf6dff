/** The body of a daemon process: starts the volume, tells the parent, obeys signals, ends when the volume is stopped. */
import { closeSync, writeSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { Configuration } from "../config/configuration.ts";
import type { RecoveryProgress } from "../engine.ts";
import { exitStatus } from "../errors.ts";
import { timestamp } from "../host/command-log.ts";
import type { Environment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import type { AttachChoice } from "../values.ts";
import { Daemon, type LogText } from "./daemon.ts";
import { recoveryText } from "./recovery-text.ts";
import type { LaunchReport } from "./spawn-launcher.ts";

export interface ServeOptions {
  name: string;
  configurationFile: string;
  readOnly: boolean;
  /** Overrides the choice stored in the configuration. */
  attach?: AttachChoice | undefined;
  socketGroup?: string | undefined;
  environment: Environment;
  /** Told when the volume is ready; a foreground start prints its lines here. */
  onReady(daemon: Daemon): void;
}

/** First descriptor of socket activation. */
const LISTEN_FDS_START = 3;

/** Serves until stopped. Resolves with the exit status of the process. */
export async function serve(options: ServeOptions): Promise<number> {
  const { environment, name } = options;
  const log: LogText = (level, text) => {
    process.stderr.write(
      `${timestamp(environment.clock.wallMicroseconds())} ${name}: ${level.toUpperCase()} - ${text}\n`,
    );
  };
  process.on("uncaughtException", (error) => {
    log("error", `${error.stack ?? errorMessage(error)}`);
    process.exit(1);
  });
  const signals = new SignalStop(log);
  let daemon: Daemon;
  try {
    await spareFromMemoryShortage(environment);
    const configuration = await Configuration.load(options.configurationFile, { mustExist: true, command: "start" });
    daemon = await Daemon.start({
      settings: configuration.get(name),
      readOnly: options.readOnly,
      attach: options.attach,
      socketGroup: options.socketGroup,
      descriptor: inheritedSocket(environment),
      environment,
      paths: new Paths(environment),
      log,
      onRecovery: new RecoveryReports(environment, log).tell,
      logDescriptor: 2,
    });
  } catch (error) {
    log("error", errorMessage(error));
    const status = exitStatus(error);
    const code = String((error as { code?: unknown }).code ?? "EIO");
    report(environment, { error: { code, message: errorMessage(error), status } });
    return status;
  }
  const { pid, instance, attach } = daemon.state;
  options.onReady(daemon);
  report(environment, { ready: { pid, instance, attach, mode: daemon.volume.status().mode } });
  signals.apply(daemon);
  await keepAlive(daemon.ended);
  log("info", `VDO ${name} stopped`);
  return 0;
}

/**
 * SIGTERM and SIGINT stop as `vdo stop` does, cutting clients off. One that comes while the volume is still starting takes
 * effect when it has started, so that it is closed cleanly; a second one during the save is ignored.
 */
class SignalStop {
  readonly #log: LogText;
  #daemon: Daemon | undefined;
  #wanted = false;

  constructor(log: LogText) {
    this.#log = log;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        log("info", `received ${signal}`);
        this.#wanted = true;
        this.#stop();
      });
    }
    process.on("SIGHUP", () => log("info", "received SIGHUP"));
  }

  /** The volume has started: signals act on it from now on. */
  apply(daemon: Daemon): void {
    this.#daemon = daemon;
    if (this.#wanted) this.#stop();
  }

  #stop(): void {
    const daemon = this.#daemon;
    if (daemon === undefined) return;
    const force = daemon.state.attach.kind === "none";
    daemon.stop({ force }).catch((error: unknown) => this.#log("error", errorMessage(error)));
  }
}

/** Least time between two reports of one phase. */
const RECOVERY_REPORT_MILLISECONDS = 2000;

/** Tells the parent and the log how a recovery goes on, without telling every step. */
class RecoveryReports {
  readonly #environment: Environment;
  readonly #log: LogText;
  #phase = "";
  #last = 0;

  constructor(environment: Environment, log: LogText) {
    this.#environment = environment;
    this.#log = log;
  }

  readonly tell = (recovery: RecoveryProgress): void => {
    const { phase, done, of } = recovery;
    const now = this.#environment.clock.now();
    const isEnd = phase === "slabs" && done >= of;
    if (phase === this.#phase && now - this.#last < RECOVERY_REPORT_MILLISECONDS && !isEnd) return;
    this.#phase = phase;
    this.#last = now;
    this.#log("info", recoveryText(recovery));
    report(this.#environment, { recovery });
  };
}

/** An ordinary promise keeps no process alive. */
async function keepAlive(ended: Promise<void>): Promise<void> {
  const timer = setInterval(() => undefined, 1 << 30);
  await ended;
  clearInterval(timer);
}

let isReported = false;

function report({ variables }: Environment, content: LaunchReport): void {
  const descriptor = Number(variables["VDO_REPORT_DESCRIPTOR"] ?? Number.NaN);
  if (!Number.isInteger(descriptor)) return;
  try {
    // After the report of the end the parent has gone, and the descriptor may be another file.
    if (isReported) return;
    writeSync(descriptor, `${JSON.stringify(content)}\n`);
    if ("recovery" in content) return;
    isReported = true;
    closeSync(descriptor);
  } catch {
    // The parent has gone; the volume is served all the same.
  }
}

/** The listening NBD socket that a service manager passes. */
function inheritedSocket({ variables }: Environment): number | undefined {
  const count = Number(variables["LISTEN_FDS"] ?? 0);
  return count >= 1 && Number(variables["LISTEN_PID"] ?? process.pid) === process.pid ? LISTEN_FDS_START : undefined;
}

/** A daemon may serve the file system through which the kernel frees memory, so it is the last to be killed for it. */
async function spareFromMemoryShortage({ uid }: Environment): Promise<void> {
  if (uid === 0) await writeFile("/proc/self/oom_score_adj", "-1000").catch(() => undefined);
}
