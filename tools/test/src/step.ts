/** One step of the run: a program with a time limit, its output shown as it comes, and a line of life when it is silent. */
import { spawn } from "node:child_process";

export interface Step {
  name: string;
  /** Program and arguments; programs of node_modules/.bin are on the PATH. */
  command: readonly string[];
  /** Past it the step is killed and has failed. */
  limitSeconds: number;
  env?: Readonly<Record<string, string>>;
}

export interface StepResult {
  name: string;
  ok: boolean;
  seconds: number;
  /** Why it failed; empty when it did not. */
  reason: string;
}

/** A silent step says that it lives this often. */
const HEARTBEAT_SECONDS = 20;

export function runStep(step: Step, folder: string): Promise<StepResult> {
  const [program, ...words] = step.command as [string, ...string[]];
  console.log(`\n=== ${step.name}`);
  const began = performance.now();
  const elapsed = (): number => Math.round((performance.now() - began) / 100) / 10;
  return new Promise((resolve) => {
    const child = spawn(program, words, {
      cwd: folder,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...step.env },
    });
    let lastOutput = performance.now();
    let reason = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        lastOutput = performance.now();
        process.stdout.write(chunk);
      });
    }
    const life = setInterval(() => {
      if (performance.now() - lastOutput >= HEARTBEAT_SECONDS * 1000) {
        lastOutput = performance.now();
        console.log(`... ${step.name}: ${Math.round(elapsed())} s`);
      }
    }, 1000);
    const limit = setTimeout(() => {
      reason = `took longer than ${step.limitSeconds} s`;
      killGroup(child.pid);
    }, step.limitSeconds * 1000);
    const finish = (failure: string): void => {
      clearInterval(life);
      clearTimeout(limit);
      process.off("exit", kill);
      resolve({ name: step.name, ok: failure === "", seconds: elapsed(), reason: failure });
    };
    const kill = (): void => killGroup(child.pid);
    process.once("exit", kill);
    child.once("error", (error) => finish(error.message));
    child.once("close", (code, signal) => {
      if (reason === "" && code !== 0) reason = code === null ? `ended by ${signal}` : `status ${code}`;
      finish(reason);
    });
  });
}

/** Ends the step with everything it started: it leads a process group of its own. */
function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // it ended meanwhile
  }
}
