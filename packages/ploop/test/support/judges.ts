/** The independent judges: Debian's ploop 1.15 (commands that need no kernel), and QEMU's `parallels` driver. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** ploop 1.15 copies a path from beyond the end of its stack in some commands; a large environment lies there instead. */
const PLOOP_ENVIRONMENT = { ...process.env, PADDING: "x".repeat(20_000) };
/** It still may crash, by address randomisation. */
const PLOOP_TRIES = 4;

export async function ploop(folder: string, ...words: string[]): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      return (await run("ploop", words, { cwd: folder, env: PLOOP_ENVIRONMENT })).stdout;
    } catch (error) {
      if ((error as { signal?: string }).signal !== "SIGSEGV" || tries >= PLOOP_TRIES) throw error;
    }
  }
}

export async function qemuImg(...words: string[]): Promise<string> {
  return (await run("qemu-img", words)).stdout;
}

export async function qemuIo(image: string, ...commands: string[]): Promise<void> {
  const options = image.includes("=") ? ["--image-opts"] : ["-f", "parallels"];
  const { stdout } = await run("qemu-io", [...options, ...commands.flatMap((command) => ["-c", command]), image]);
  if (/failed|error/i.test(stdout)) throw new Error(stdout);
}

/** QEMU's name of a stack; files base first. */
export function imageOptions(files: readonly string[], { rawBase = false } = {}): string {
  return [...files]
    .reverse()
    .map((file, depth) => {
      const prefix = "backing.".repeat(depth);
      const driver = rawBase && depth === files.length - 1 ? "raw" : "parallels";
      return `${prefix}driver=${driver},${prefix}file.filename=${file}`;
    })
    .join(",");
}

/** What QEMU reads from a stack. */
export async function qemuContent(folder: string, files: readonly string[], options = {}): Promise<Uint8Array> {
  const target = join(folder, "judge.raw");
  const paths = files.map((file) => join(folder, file));
  await run("qemu-img", ["convert", "--image-opts", imageOptions(paths, options), "-O", "raw", target]);
  const bytes = await readFile(target);
  await rm(target);
  return bytes;
}

/** Ranges (bytes: start, length) that QEMU finds dirty in the bitmap of an image. */
export async function qemuBitmap(folder: string, file: string, uuid: string): Promise<[number, number][]> {
  const socket = join(folder, "bitmap.sock");
  const words = ["-r", "-f", "parallels", "-B", uuid, "-k", socket, join(folder, file)];
  // It ends after its one client.
  const server = run("qemu-nbd", words);
  const uri = `nbd+unix:///?socket=${socket}`;
  for (let tries = 0; ; tries++) {
    try {
      const { stdout } = await run("nbdinfo", ["--json", `--map=qemu:dirty-bitmap:${uuid}`, uri]);
      await server;
      const entries = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
      return entries.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]);
    } catch (error) {
      if (tries >= 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

export async function scratch(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "ploop-judge-"));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}
