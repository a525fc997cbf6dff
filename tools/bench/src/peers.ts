/** The servers that are measured, all running at the same time, with their storage in one folder of a tmpfs. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export interface Peer {
  name: string;
  uri: string;
  pid: number;
  /** Stops it in order; resolves when it is gone. */
  stop(): Promise<void>;
}

/** The peer that ratios are taken to. */
export const REFERENCE = "qemu-nbd raw";
export const OURS = "vdo";
export const PEER_NAMES = [REFERENCE, "qemu-nbd qcow2", "nbdkit memory", "@vdo/nbd memory", OURS] as const;
export type PeerName = (typeof PEER_NAMES)[number];

const EXPORT_BYTES = 16 * 2 ** 30;
const STORAGE_BYTES = 8 * 2 ** 30;

function command(name: PeerName, socket: string, folder: string): string[] {
  const ours = (...words: string[]): string[] => [
    process.execPath,
    ...["--conditions=@vdo/source", "--import", "tsx"],
    fileURLToPath(new URL("./serve-volume.ts", import.meta.url)),
    ...words,
  ];
  switch (name) {
    case "qemu-nbd raw": {
      const image = join(folder, "raw.img");
      run("truncate", "-s", String(EXPORT_BYTES), image);
      return ["qemu-nbd", "-f", "raw", "--discard=unmap", "-t", "-e", "16", "-k", socket, image];
    }
    case "qemu-nbd qcow2": {
      const image = join(folder, "image.qcow2");
      run("qemu-img", "create", "-q", "-f", "qcow2", image, String(EXPORT_BYTES));
      return ["qemu-nbd", "-f", "qcow2", "--discard=unmap", "-t", "-e", "16", "-k", socket, image];
    }
    case "nbdkit memory":
      return ["nbdkit", "-f", "-U", socket, "memory", `size=${EXPORT_BYTES}`];
    case "@vdo/nbd memory":
      return ours("memory", socket, String(EXPORT_BYTES));
    case "vdo": {
      const image = join(folder, "vdo.img");
      run("truncate", "-s", String(STORAGE_BYTES), image);
      return ours("vdo", socket, String(EXPORT_BYTES), image);
    }
  }
}

function run(program: string, ...words: string[]): void {
  const result = spawnSync(program, words, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${program} ${words.join(" ")}: ${result.stderr ?? result.error?.message}`);
}

/** Starts `name` and waits until its socket is there. */
export async function startPeer(name: PeerName, folder: string): Promise<Peer> {
  const socket = join(folder, `${name.replace(/\W+/g, "-")}.sock`);
  const [program, ...words] = command(name, socket, folder) as [string, ...string[]];
  const child = spawn(program, words, { stdio: ["ignore", "ignore", "inherit"] });
  let ended = "";
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));
  child.once("error", (error) => {
    ended = error.message;
  });
  child.once("exit", (code, signal) => {
    ended = `status ${code ?? signal}`;
  });
  for (let waited = 0; !existsSync(socket); waited++) {
    if (ended !== "") throw new Error(`${name} did not start: ${ended}`);
    if (waited > 1200) throw new Error(`${name} did not start within 60 s`);
    await sleep(50);
  }
  await sleep(100);
  return { name, uri: `nbd+unix:///?socket=${socket}`, pid: child.pid as number, stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  await gone;
  clearTimeout(killer);
}
