/**
 * The real commands, with every file below one temporary folder. Daemons are processes of their own, run from source; the
 * short-lived commands run in the test's process, where they take a tenth of the time, or as processes too.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type DaemonState, spawnLauncher, spawnPoolLauncher } from "@vdo/manager";
import { commandEnvironment, type RunOptions, runVdo } from "../../src/run.ts";
import { runStandalone } from "../../src/standalone/run.ts";

export interface Outcome {
  status: number;
  out: string;
  err: string;
}

const LOADER = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
const PROGRAMS = { vdo: "../../src/main.ts", vdostats: "../../../vdostats/src/main.ts" };

export class CommandLine {
  readonly folder: string;
  readonly #environment: NodeJS.ProcessEnv;

  /** Run the short-lived commands as processes of their own. */
  readonly #apart: boolean;

  private constructor(folder: string, apart: boolean) {
    this.folder = folder;
    this.#apart = apart;
    this.#environment = {
      ...process.env,
      NODE_OPTIONS: "",
      VDO_CONF_DIR: join(folder, "etc"),
      VDO_RUN_DIR: join(folder, "run"),
      VDO_LOG_DIR: join(folder, "log"),
      VDO_DEV_DIR: join(folder, "dev"),
    };
  }

  static async make({ apart = false } = {}): Promise<CommandLine> {
    const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
    return new CommandLine(await mkdtemp(join(base, "vdo-cli-")), apart);
  }

  vdo(...words: string[]): Promise<Outcome> {
    return this.#run("vdo", words);
  }

  /** An offline tool under its own name: `vdoaudit`. */
  tool(name: string, ...words: string[]): Promise<Outcome> {
    return this.#runHere((call) => runStandalone({ name, words, ...call }));
  }

  vdostats(...words: string[]): Promise<Outcome> {
    return this.#run("vdostats", words);
  }

  /** Runs a shell script in which `$vdo` is the real command. */
  shell(script: string): Promise<Outcome> {
    const vdo = [process.execPath, ...nodeWords("vdo", [])].join(" ");
    return runProgram("bash", ["-c", script], { ...this.#environment, vdo });
  }

  /** Starts `vdo` without waiting for its end, as a service manager does: `socket` is a listening socket to inherit. */
  spawnVdo(words: string[], socket?: number): ChildProcess {
    const activation = socket === undefined ? {} : { LISTEN_FDS: "1" };
    return spawn(process.execPath, nodeWords("vdo", words), {
      env: { ...this.#environment, ...activation },
      stdio: ["ignore", "pipe", "pipe", ...(socket === undefined ? [] : [socket])],
    });
  }

  /** How `vdo` is run by a program that starts it. */
  vdoProcess(...words: string[]): { program: string; args: string[]; env: NodeJS.ProcessEnv } {
    return { program: process.execPath, args: nodeWords("vdo", words), env: this.#environment };
  }

  /** `state.json` of a running volume. */
  async state(name: string): Promise<DaemonState> {
    return JSON.parse(await readFile(join(this.folder, "run", name, "state.json"), "utf8")) as DaemonState;
  }

  /** Stops what runs, by force, and deletes the folder. */
  async remove(): Promise<void> {
    await this.vdo("stop", "--all", "--force");
    await rm(this.folder, { recursive: true, force: true });
  }

  async #run(program: keyof typeof PROGRAMS, words: string[]): Promise<Outcome> {
    if (this.#apart || program === "vdostats")
      return runProgram(process.execPath, nodeWords(program, words), this.#environment);
    return this.#runHere((call) => runVdo({ words, ...call }));
  }

  async #runHere(run: (call: Omit<RunOptions, "words">) => Promise<number>): Promise<Outcome> {
    const outcome = { status: 0, out: "", err: "" };
    const streams = {
      out: (text: string) => {
        outcome.out += text;
      },
      err: (text: string) => {
        outcome.err += text;
      },
    };
    const command = [process.execPath, ...nodeWords("vdo", [])];
    const [launcher, poolLauncher] = [spawnLauncher(command), spawnPoolLauncher(command)];
    const environment = {
      ...commandEnvironment("0.0.0", fileURLToPath(import.meta.url)),
      variables: this.#environment,
    };
    outcome.status = await run({ streams, environment: { ...environment, launcher, poolLauncher } });
    return outcome;
  }
}

function nodeWords(program: keyof typeof PROGRAMS, words: readonly string[]): string[] {
  const script = fileURLToPath(new URL(PROGRAMS[program], import.meta.url));
  return ["--conditions=@vdo/source", "--import", LOADER, script, ...words];
}

/** Runs any program to its end. */
export function runProgram(program: string, words: readonly string[], env = process.env): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(program, words, { env, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      err += text;
    });
    child.on("error", (error) => resolve({ status: -1, out, err: error.message }));
    child.on("close", (status) => resolve({ status: status ?? -1, out, err }));
  });
}

/** Waits until the process `pid` is gone. */
export async function processGone(pid: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`process ${pid} is still there`);
}
