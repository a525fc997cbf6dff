/**
 * Everything of the machine that the manager uses, as one argument: variables, user, clock, programs, engine. Nothing in
 * this package reads `process` but {@link systemEnvironment}, so a test can hold a whole machine in a temporary folder.
 */
import { readFile } from "node:fs/promises";
import { homedir, hostname, tmpdir } from "node:os";
import { type Clock, systemClock } from "@vdo/base";
import type { Exporter } from "../daemon/exporter.ts";
import type { Launcher } from "../daemon/launcher.ts";
import type { Engine } from "../engine.ts";
import type { PoolLauncher } from "../thin/pool-launcher.ts";
import { type Programs, systemPrograms } from "./programs.ts";

export interface Environment {
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Numeric user: 0 is root. */
  readonly uid: number;
  readonly home: string;
  readonly temporaryFolder: string;
  readonly platform: NodeJS.Platform;
  readonly hostname: string;
  /** Version of this software, as `vdo version` prints it. */
  readonly version: string;
  readonly clock: Clock;
  readonly programs: Programs;
  readonly engine: Engine;
  readonly exporter: Exporter;
  /** Starts daemons. */
  readonly launcher: Launcher;
  /** Starts the daemons of thin pools. */
  readonly poolLauncher: PoolLauncher;
  /** Put before paths in `/sys`, `/proc` and `/dev`; empty on a real machine. */
  readonly systemRoot: string;
  /** Bytes of memory that can be taken without swapping, or `undefined` where the system does not say. */
  memoryAvailable(): Promise<number | undefined>;
}

/**
 * The environment of a program that only asks daemons, as `vdostats` does: it opens no volume and starts no daemon.
 */
export type ClientEnvironment = Omit<Environment, "engine" | "exporter" | "launcher" | "poolLauncher">;

/** A {@link ClientEnvironment} of the running process. */
export function clientEnvironment(version: string): ClientEnvironment {
  return {
    version,
    variables: process.env,
    uid: process.getuid?.() ?? -1,
    home: homedir(),
    temporaryFolder: tmpdir(),
    platform: process.platform,
    hostname: hostname(),
    clock: systemClock,
    programs: systemPrograms(process.env["PATH"] ?? ""),
    systemRoot: "",
    memoryAvailable,
  };
}

/** The environment of the running process. */
export function systemEnvironment(
  own: Pick<Environment, "version" | "engine" | "exporter" | "launcher" | "poolLauncher">,
): Environment {
  return { ...clientEnvironment(own.version), ...own };
}

async function memoryAvailable(): Promise<number | undefined> {
  try {
    const match = /^MemAvailable:\s*(\d+) kB$/m.exec(await readFile("/proc/meminfo", "utf8"));
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined;
  }
}
