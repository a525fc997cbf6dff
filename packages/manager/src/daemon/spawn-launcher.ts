/**
 * Starts a daemon as a detached process of its own.
 *
 * The daemon tells its parent over a pipe, descriptor 3, how starting ended: one JSON line, `{"ready":…}` or `{"error":…}`.
 * Lines before it, `{"recovery":…}`, tell how far the recovery of the volume has come.
 * A daemon that ends without one left its last words in its log.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import type { ControlFailure } from "../control/protocol.ts";
import type { RecoveryProgress } from "../engine.ts";
import { accessError, commandError, errorFromStatus } from "../errors.ts";
import { rotate } from "../host/command-log.ts";
import { type Launcher, type LaunchRequest, type ReadyReport, SLOW_START_MILLISECONDS } from "./launcher.ts";

/** Descriptor of the pipe in the daemon. */
export const REPORT_DESCRIPTOR = 3;

export type LaunchEnd = { ready: ReadyReport } | { error: ControlFailure };
export type LaunchReport = LaunchEnd | { recovery: RecoveryProgress };

/** A launcher that runs `command` followed by `_serve` and its options. */
export function spawnLauncher(command: readonly string[]): Launcher {
  return async (request) => {
    const { logFile } = request.paths.volume(request.name);
    const log = openLog(logFile);
    const [program = "", ...args] = command;
    const child = spawn(program, [...args, "_serve", ...serveArguments(request)], {
      detached: true,
      cwd: "/",
      stdio: ["ignore", log, log, "pipe"],
      env: { ...request.environment.variables, VDO_REPORT_DESCRIPTOR: String(REPORT_DESCRIPTOR) },
    });
    closeSync(log);
    const pipe = child.stdio[REPORT_DESCRIPTOR] as Readable;
    const cancelSlow = request.environment.clock.after(SLOW_START_MILLISECONDS, request.onSlow);
    const kill = (): void => {
      child.kill("SIGTERM");
    };
    try {
      const report = await withTimeout(lastReport(pipe, child, request), request, kill);
      if (report === undefined)
        throw commandError("VDO_COMMAND_FAILED", lastWords(logFile, request.name), request.name);
      if ("error" in report) throw errorFromStatus(report.error.status, report.error.message, request.name);
      return report.ready;
    } finally {
      cancelSlow();
      pipe.destroy();
      child.unref();
    }
  };
}

function serveArguments(request: LaunchRequest): string[] {
  const { name, configurationFile, readOnly, attach, socketGroup } = request;
  return [
    `--name=${name}`,
    `--confFile=${configurationFile}`,
    `--attach=${attach}`,
    ...(readOnly ? ["--readOnly"] : []),
    ...(socketGroup === undefined ? [] : [`--socketGroup=${socketGroup}`]),
  ];
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
function lastReport(
  pipe: Readable,
  child: { on(event: "error", listener: (error: Error) => void): unknown },
  { onRecovery }: LaunchRequest,
) {
  return new Promise<LaunchEnd | undefined>((resolve, reject) => {
    let text = "";
    child.on("error", reject);
    pipe.setEncoding("utf8");
    pipe.on("data", (part: string) => {
      text += part;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const report = JSON.parse(text.slice(0, end)) as LaunchReport;
        text = text.slice(end + 1);
        if ("recovery" in report) onRecovery?.(report.recovery);
        else resolve(report);
      }
    });
    pipe.on("error", () => resolve(undefined));
    pipe.on("close", () => resolve(undefined));
    pipe.on("end", () => resolve(undefined));
  });
}

function withTimeout<T>(result: Promise<T>, { timeoutSeconds, environment, name }: LaunchRequest, kill: () => void) {
  if (timeoutSeconds === 0) return result;
  return new Promise<T>((resolve, reject) => {
    const cancel = environment.clock.after(timeoutSeconds * 1000, () => {
      kill();
      reject(commandError("VDO_SYSTEM", `VDO ${name} was not ready after ${timeoutSeconds} seconds`, name));
    });
    result.then(resolve, reject).finally(cancel);
  });
}

function lastWords(logFile: string, name: string): string {
  const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
  const last = lines.at(-1) ?? "";
  return `the daemon of ${name} ended while starting; see ${logFile}${last === "" ? "" : `: ${last}`}`;
}
