/** What the processes of all daemons have in common: the report to the parent, signals, the end. */
import { closeSync, writeSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { exitStatus, nextStepOf } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import type { LogText } from "./daemon.ts";

/** An error that nobody awaits ends the process, with its words in the log. */
export function endOnUncaught(log: LogText): void {
  process.on("uncaughtException", (error) => {
    log("error", `${error.stack ?? errorMessage(error)}`);
    process.exit(1);
  });
}

/** Tells the parent that starting failed; returns the exit status. */
export function reportFailure(environment: Environment, error: unknown): number {
  const status = exitStatus(error);
  const code = String((error as { code?: unknown }).code ?? "EIO");
  report(environment, { error: { code, message: errorMessage(error), status, nextStep: nextStepOf(error) } });
  return status;
}

/**
 * SIGTERM and SIGINT stop as `vdo stop` does, cutting clients off. One that comes while it is still starting takes
 * effect when it has started, so that it is closed cleanly; a second one during the save is ignored.
 */
export class SignalStop {
  readonly #log: LogText;
  #end: (() => Promise<void>) | undefined;
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

  /** What is served has started: signals call `stop` from now on. */
  apply(stop: () => Promise<void>): void {
    this.#end = stop;
    if (this.#wanted) this.#stop();
  }

  #stop(): void {
    this.#end?.().catch((error: unknown) => this.#log("error", errorMessage(error)));
  }
}

/** Resolves with `ended`. An ordinary promise keeps no process alive. */
export async function keepAlive(ended: Promise<void>): Promise<void> {
  const timer = setInterval(() => undefined, 1 << 30);
  await ended;
  clearInterval(timer);
}

let isReported = false;

/** Tells the parent how starting goes; after its end, `ready` or `error`, nothing more. */

export function report({ variables }: Environment, content: Record<string, unknown>): void {
  const descriptor = Number(variables["VDO_REPORT_DESCRIPTOR"] ?? Number.NaN);
  if (!Number.isInteger(descriptor)) return;
  try {
    // After the report of the end the parent has gone, and the descriptor may be another file.
    if (isReported) return;
    writeSync(descriptor, `${JSON.stringify(content)}\n`);
    if (!("ready" in content) && !("error" in content)) return;
    isReported = true;
    closeSync(descriptor);
  } catch {
    // The parent has gone; it serves all the same.
  }
}

/** A daemon may serve the file system through which the kernel frees memory, so it is the last to be killed for it. */
export async function spareFromMemoryShortage({ uid }: Environment): Promise<void> {
  if (uid === 0) await writeFile("/proc/self/oom_score_adj", "-1000").catch(() => undefined);
}
