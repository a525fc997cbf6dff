/** The daemon of a pool: starting it as a process of its own, and its body. */
import { errorMessage } from "@vdo/base";
import type { LogText } from "../daemon/daemon.ts";
import {
  endOnUncaught,
  keepAlive,
  report,
  reportFailure,
  SignalStop,
  spareFromMemoryShortage,
} from "../daemon/process.ts";
import { spawnDaemon } from "../daemon/spawn-daemon.ts";
import { timestamp } from "../host/command-log.ts";
import type { Environment } from "../host/environment.ts";
import type { PoolSettings } from "./pool-settings.ts";
import { ThinServer } from "./thin-server.ts";

export interface PoolLaunchRequest {
  settings: PoolSettings;
  /** NBD socket; default: one in the runtime folder. */
  socket?: string | undefined;
  environment: Environment;
  logFile: string;
  onSlow(): void;
}

/** A pool's daemon that serves. */
export interface PoolReady {
  pid: number;
  uri: string;
}

/** Starts a daemon and waits until it serves. Throws the daemon's own error, with its class. */
export type PoolLauncher = (request: PoolLaunchRequest) => Promise<PoolReady>;

/** A launcher that runs `command` followed by `_servePool` and its options. */
export function spawnPoolLauncher(command: readonly string[]): PoolLauncher {
  return ({ settings, socket, environment, logFile, onSlow }) =>
    spawnDaemon<PoolReady>({
      command: [
        ...command,
        "_servePool",
        `--settings=${JSON.stringify(settings)}`,
        ...(socket === undefined ? [] : [`--socket=${socket}`]),
      ],
      what: poolName(settings),
      logFile,
      environment,
      timeoutSeconds: 0,
      onSlow,
    });
}

/** How messages call a pool. */
export function poolName({ name, device, metadataDevice }: PoolSettings): string {
  return `thin pool ${name === "" ? device || metadataDevice : name}`;
}

export interface ServePoolOptions {
  settings: PoolSettings;
  socket?: string | undefined;
  environment: Environment;
  /** Told when clients can connect. */
  onReady(ready: PoolReady): void;
}

/** Serves until stopped. Resolves with the exit status of the process. */
export async function servePool({ settings, socket, environment, onReady }: ServePoolOptions): Promise<number> {
  const what = poolName(settings);
  const log: LogText = (level, text) => {
    const time = timestamp(environment.clock.wallMicroseconds());
    process.stderr.write(`${time} ${what}: ${level.toUpperCase()} - ${text}\n`);
  };
  endOnUncaught(log);
  const signals = new SignalStop(log);
  let server: ThinServer;
  try {
    await spareFromMemoryShortage(environment);
    const onText = (text: string): void => log("info", text);
    server = await ThinServer.start({
      settings,
      environment,
      onText,
      ...(socket === undefined ? {} : { socket }),
    });
  } catch (error) {
    log("error", errorMessage(error));
    return reportFailure(environment, error);
  }
  const ready = { pid: process.pid, uri: server.uri };
  log("info", `${what} is ready at ${server.uri}`);
  onReady(ready);
  report(environment, { ready });
  signals.apply(() => server.stop());
  await keepAlive(server.ended);
  log("info", `${what} stopped`);
  return 0;
}
