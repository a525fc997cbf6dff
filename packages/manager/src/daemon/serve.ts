/** The body of a daemon process: starts the volume, tells the parent, obeys signals, ends when the volume is stopped. */
import { errorMessage } from "@vdo/base";
import { Configuration } from "../config/configuration.ts";
import type { RecoveryProgress } from "../engine.ts";
import { timestamp } from "../host/command-log.ts";
import type { Environment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { type AttachChoice, LOG_LEVELS, type LogLevel, type StatusPageChoice } from "../values.ts";
import { calmLog } from "./calm-log.ts";
import { Daemon, type LogText } from "./daemon.ts";
import { endOnUncaught, keepAlive, report, reportFailure, SignalStop, spareFromMemoryShortage } from "./process.ts";
import { recoveryText } from "./recovery-text.ts";
import { inheritedSocket, tellServiceManager } from "./service-manager.ts";

export interface ServeOptions {
  name: string;
  configurationFile: string;
  readOnly: boolean;
  /** Overrides the choice stored in the configuration. */
  attach?: AttachChoice | undefined;
  socketGroup?: string | undefined;
  /** What is logged: this level and those that are worse. The default is `info`. */
  logLevel?: LogLevel | undefined;
  statusPage?: StatusPageChoice | undefined;
  environment: Environment;
  /** Told when the volume is ready; a foreground start prints its lines here. */
  onReady(daemon: Daemon): void | Promise<void>;
}

/** Serves until stopped. Resolves with the exit status of the process. */
export async function serve(options: ServeOptions): Promise<number> {
  const { environment, name, logLevel = "info" } = options;
  const write: LogText = (level, text) => {
    if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(logLevel)) return;
    process.stderr.write(
      `${timestamp(environment.clock.wallMicroseconds())} ${name}: ${level.toUpperCase()} - ${text}\n`,
    );
  };
  const log = calmLog(write, environment.clock);
  endOnUncaught(log);
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
      statusPage: options.statusPage,
      configurationFile: options.configurationFile,
      descriptor: inheritedSocket(environment),
      environment,
      paths: new Paths(environment),
      log,
      onStopping: () => void tellServiceManager(environment, "STOPPING=1"),
      onRecovery: new RecoveryReports(environment, log).tell,
      logDescriptor: 2,
    });
  } catch (error) {
    log("error", errorMessage(error));
    return reportFailure(environment, error);
  }
  const { pid, instance, attach } = daemon.state;
  await options.onReady(daemon);
  report(environment, { ready: { pid, instance, attach, mode: daemon.volume.status().mode } });
  await tellServiceManager(environment, "READY=1", `STATUS=VDO ${name} is served at ${attach.path}`);
  signals.apply(() => daemon.stop({ force: daemon.state.attach.kind === "none" }));
  await keepAlive(daemon.ended);
  log("info", `VDO ${name} stopped`);
  return 0;
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
