/**
 * Starts a daemon as a detached process of its own.
 *
 * The daemon tells its parent over a pipe, descriptor 3, how starting ended: one JSON line, `{"ready":…}` or `{"error":…}`.
 * Lines before it tell how far it has come. A daemon that ends without such a line left its last words in its log.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import type { ControlFailure } from "../control/protocol.ts";
import { accessError, commandError, errorFromStatus } from "../errors.ts";
import { rotate } from "../host/command-log.ts";
import type { Environment } from "../host/environment.ts";
import { SLOW_START_MILLISECONDS } from "./launcher.ts";

/** Descriptor of the pipe in the daemon. */
export const REPORT_DESCRIPTOR = 3;

/** How starting ended. */
export type LaunchEnd<T> = { ready: T } | { error: ControlFailure };

export interface SpawnRequest {
  /** Program and arguments. */
  command: readonly string[];
  /** What is started, for errors: `VDO vdo0`. */
  what: string;
  logFile: string;
  environment: Environment;
  /** Seconds to wait; 0 waits without limit. */
  timeoutSeconds: number;
  /** Told once when starting takes longer than {@link SLOW_START_MILLISECONDS}. */
  onSlow(): void;
  /** Told of what comes before the end. */
  onReport?(report: Record<string, unknown>): void;
}

/** Starts the program and waits until it serves; resolves with what it reports. Throws the daemon's own error, with its class. */
export async function spawnDaemon<T>(request: SpawnRequest): Promise<T> {
  const { logFile, what, environment } = request;
  const log = openLog(logFile);
  const [program = "", ...args] = request.command;
  const child = spawn(program, args, {
    detached: true,
    cwd: "/",
    stdio: ["ignore", log, log, "pipe"],
    env: { ...environment.variables, VDO_REPORT_DESCRIPTOR: String(REPORT_DESCRIPTOR) },
  });
  closeSync(log);
  const pipe = child.stdio[REPORT_DESCRIPTOR] as Readable;
  const cancelSlow = environment.clock.after(SLOW_START_MILLISECONDS, request.onSlow);
  const kill = (): void => {
    child.kill("SIGTERM");
  };
  try {
    const report = await withTimeout(lastReport<T>(pipe, child, request), request, kill);
    if (report === undefined) throw commandError("VDO_COMMAND_FAILED", lastWords(logFile, what), what);
    if ("error" in report) throw errorFromStatus(report.error, what);
    return report.ready;
  } finally {
    cancelSlow();
    pipe.destroy();
    child.unref();
  }
}

function openLog(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    rotate(path);
    return openSync(path, "a", 0o640);
  } catch (error) {
    throw accessError(error, path, "start");
  }
}

/** The line of the pipe that tells how starting ended; `undefined` when the daemon ended without one. */
function lastReport<T>(
  pipe: Readable,
  child: { on(event: "error", listener: (error: Error) => void): unknown },
  { onReport }: SpawnRequest,
) {
  return new Promise<LaunchEnd<T> | undefined>((resolve, reject) => {
    let text = "";
    child.on("error", reject);
    pipe.setEncoding("utf8");
    pipe.on("data", (part: string) => {
      text += part;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const report = JSON.parse(text.slice(0, end)) as LaunchEnd<T> | Record<string, unknown>;
        text = text.slice(end + 1);
        if ("ready" in report || "error" in report) resolve(report as LaunchEnd<T>);
        else onReport?.(report);
      }
    });
    pipe.on("error", () => resolve(undefined));
    pipe.on("close", () => resolve(undefined));
    pipe.on("end", () => resolve(undefined));
  });
}

function withTimeout<T>(result: Promise<T>, { timeoutSeconds, environment, what }: SpawnRequest, kill: () => void) {
  if (timeoutSeconds === 0) return result;
  return new Promise<T>((resolve, reject) => {
    const cancel = environment.clock.after(timeoutSeconds * 1000, () => {
      kill();
      reject(commandError("VDO_SYSTEM", `${what} was not ready after ${timeoutSeconds} seconds`, what));
    });
    result.then(resolve, reject).finally(cancel);
  });
}

function lastWords(logFile: string, what: string): string {
  const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
  const last = lines.at(-1) ?? "";
  return `the daemon of ${what} ended while starting; see ${logFile}${last === "" ? "" : `: ${last}`}`;
}
