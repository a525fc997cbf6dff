/** Servers of one export or more, each a process that makes its socket when it is ready. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface Served {
  uri: string;
  child: ChildProcess;
}

/** Starts the program and waits for its socket. */
export async function serve(program: string, words: readonly string[], socket: string): Promise<Served> {
  const child = spawn(program, words, { stdio: ["ignore", "ignore", "inherit"] });
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));
  for (let waited = 0; !existsSync(socket); waited++) {
    if (waited > 600 || child.exitCode !== null) throw new Error(`${program} did not start`);
    await sleep(50);
  }
  await sleep(200);
  return { uri: `nbd+unix:///?socket=${socket}`, child };
}

export async function stop({ child }: Served): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await gone;
}
