/** Programs of the system, run without a shell. An argument of everything that runs any, so that tests can stand in. */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { commandError } from "../errors.ts";

/** Outcome of one program. `status` is -1 when it could not be started or died of a signal. */
export interface ProgramResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** A program that goes on running on its own after the caller has ended. */
export interface BackgroundProgram {
  readonly pid: number;
  /** Resolves with the exit status when the program ends. */
  readonly ended: Promise<number>;
}

export interface Programs {
  /** Absolute path of a program on the search path, or `undefined`. */
  find(name: string): string | undefined;
  run(program: string, args: readonly string[]): Promise<ProgramResult>;
  /** Starts a program that outlives the caller; its output goes to the file descriptor `log`. */
  background(program: string, args: readonly string[], log: number): BackgroundProgram;
}

/** Output kept of one program; what comes after is dropped. */
const OUTPUT_BYTES_MAX = 1024 * 1024;

/** Folders of administrators' programs that an ordinary user's search path may lack. */
const ADMINISTRATION_FOLDERS = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/** The machine's programs, found on `searchPath` (the form of `$PATH`). */
export function systemPrograms(searchPath: string): Programs {
  const folders = [...searchPath.split(":").filter((folder) => folder !== ""), ...ADMINISTRATION_FOLDERS];
  const find = (name: string): string | undefined => {
    for (const folder of folders) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not in this folder: the next one.
      }
    }
    return undefined;
  };
  return {
    find,
    run: (program, args) => run(find(program) ?? program, args),
    background: (program, args, log) => background(find(program) ?? program, args, log),
  };
}

function run(program: string, args: readonly string[]): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LC_ALL: "C" } });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        if (output[name].length < OUTPUT_BYTES_MAX) output[name] += text;
      });
    }
    child.on("error", (error) => resolve({ status: -1, stdout: "", stderr: error.message }));
    child.on("close", (status) => resolve({ status: status ?? -1, ...output }));
  });
}

function background(program: string, args: readonly string[], log: number): BackgroundProgram {
  const child = spawn(program, args, { detached: true, stdio: ["ignore", log, log] });
  const ended = new Promise<number>((resolve) => {
    child.on("error", () => resolve(-1));
    child.on("close", (status) => resolve(status ?? -1));
  });
  child.unref();
  return { pid: child.pid ?? -1, ended };
}

/** What to say about a program that failed: the first line of its standard error, or its name and status. */
export function programFailure(program: string, result: ProgramResult): string {
  const [first = ""] = result.stderr.trim().split("\n");
  return first === "" ? `${program}: command failed, exit status ${result.status}` : first;
}

/** Runs a program that must succeed. Throws `VDO_COMMAND_FAILED` with the first line of its standard error. */
export async function mustRun(programs: Programs, program: string, args: readonly string[]): Promise<string> {
  const result = await programs.run(program, args);
  if (result.status !== 0) throw commandError("VDO_COMMAND_FAILED", programFailure(program, result), program);
  return result.stdout;
}
