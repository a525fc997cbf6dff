/** Runs client programs, with a time limit and their output kept. */
import { spawn } from "node:child_process";

export interface Outcome {
  status: number | null;
  output: string;
}

/** Runs a program to its end. After `limitMs` it is killed, by its process id. */
export function run(program: string, args: readonly string[], { limitMs = 60_000, cwd = "." } = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: limitMs,
      killSignal: "SIGKILL",
    });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, output }));
  });
}

/** Runs a program that has to succeed; its output. */
export async function succeed(
  program: string,
  args: readonly string[],
  options?: { limitMs?: number; cwd?: string },
): Promise<string> {
  const { status, output } = await run(program, args, options);
  if (status !== 0)
    throw new Error(`${program} ${args.join(" ")} ended with status ${status}:\n${output.slice(-4000)}`);
  return output;
}
