/**
 * The main job on real files, through the real commands: create a volume on a file, serve it, write the files twice, see what
 * deduplication and compression saved, stop, start again, verify every byte, and let the real kernel check the result where
 * the reference machine is built.
 *
 *   npm run demo -- [--limit MIB] [--own-client] [FOLDER ...]      (default: this repository's packages and installed dependencies)
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isOracleReady, runGuest } from "@vdo/oracle";
import { BLOCK, packFiles } from "./files.ts";
import { ours, oursQuietly } from "./programs.ts";
import { chooseClient, readBack, type WriteClient, writeImage } from "./transfer.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const NAME = "demo";
const GIB = 2 ** 30;

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function say(text: string): void {
  console.log(`\n== ${text}`);
}

/** Where the client finds the volume, as `vdo create` and `vdo start` tell it. */
function uriIn(output: string): string {
  const uri = /ready at (nbd\+unix:\S+)/.exec(output)?.[1];
  if (uri === undefined) throw new Error("vdo did not say where the volume is");
  return uri;
}

function check(what: string, sums: readonly string[], expected: string): void {
  const wrong = sums.findIndex((sum) => sum !== expected);
  if (wrong !== -1) throw new Error(`${what}: copy ${wrong + 1} reads back with ${sums[wrong]}, not ${expected}`);
  console.log(`${what}: all ${sums.length} copies read back with sha256 ${expected}`);
}

/** `vdostats`, and what the data written take of the storage: the rest of "Used" is the index and other metadata. */
function showSavings(written: number, env: Record<string, string>): void {
  ours("vdostats", ["--human-readable"], env);
  const blocks = /data blocks used\s*: (\d+)/.exec(
    oursQuietly({ name: "vdostats", words: ["--verbose", NAME], env }),
  )?.[1];
  const stored = Number(blocks) * BLOCK;
  console.log(`${mebibytes(written)} written take ${mebibytes(stored)}: ${((stored / written) * 100).toFixed(0)} %`);
}

/** The emulated machine is slow: this much of the first copy is enough to see that the kernel reads what we wrote. */
const KERNEL_BYTES_MAX = 32 * 2 ** 20;

/** The stopped volume in the kernel's hands: audit, start, checksum of the beginning of the first copy. */
async function kernelCheck(storage: string, image: string, imageBytes: number): Promise<void> {
  if (!isOracleReady()) {
    say("the kernel's own check is left out: the reference machine is not built (npm run oracle setup)");
    return;
  }
  const bytes = Math.min(imageBytes, KERNEL_BYTES_MAX);
  say(`the real kernel (Debian, dm-vdo) checks the volume and reads ${mebibytes(bytes)} of it`);
  const expected = createHash("sha256").update(readFileSync(image).subarray(0, bytes)).digest("hex");
  const script = `set -e
    audit /dev/vda
    vdo_start vdo0 /dev/vda
    blocks_sum /dev/mapper/vdo0 0 ${bytes / BLOCK}
    vdostats --human-readable
    vdo_stop vdo0`;
  const guest = await runGuest({ script, disks: [storage] });
  process.stdout.write(guest.output);
  if (guest.timedOut) throw new Error("the kernel's check took longer than three minutes");
  if (guest.exitCode !== 0 || !guest.output.includes(expected)) throw new Error("the kernel read something else");
}

interface Places {
  folder: string;
  env: Record<string, string>;
}

interface DemoOptions {
  folders: readonly string[];
  bytesMax: number;
  client: WriteClient;
}

async function demo({ folders, bytesMax, client }: DemoOptions, { folder, env }: Places): Promise<void> {
  const image = join(folder, "files.img");
  const storage = join(folder, "vdo.img");
  say(`packing the files of ${folders.join(", ")}`);
  const packed = packFiles({ folders, image, bytesMax });
  if (packed.files === 0) throw new Error(`no files in ${folders.join(", ")}`);
  console.log(`${packed.files} files, ${mebibytes(packed.bytes)}; ${mebibytes(packed.imageBytes)} in whole blocks`);

  say("creating a volume on a file, and serving it");
  const physical = Math.ceil((2 * packed.imageBytes) / GIB) + 6;
  const create = ["create", `--name=${NAME}`, `--device=${storage}`, `--vdoPhysicalSize=${physical}G`];
  const uri = uriIn(ours("vdo", [...create, "--vdoLogicalSize=64G", "--attach=none"], env));

  say("writing the files, once");
  await writeImage({ client, image, imageBytes: packed.imageBytes, uri });
  showSavings(packed.imageBytes, env);

  say("writing them twice over: two copies, one after the other");
  appendFileSync(image, readFileSync(image));
  const began = performance.now();
  await writeImage({ client, image, imageBytes: 2 * packed.imageBytes, uri });
  const seconds = (performance.now() - began) / 1000;
  console.log(`${mebibytes(2 * packed.imageBytes)} by ${client} in ${seconds.toFixed(1)} s`);
  showSavings(2 * packed.imageBytes, env);
  check("verified", await readBack(uri, packed.imageBytes, 2), packed.sha256);

  say("stopping, starting again, verifying again");
  ours("vdo", ["stop", `--name=${NAME}`], env);
  const again = uriIn(ours("vdo", ["start", `--name=${NAME}`], env));
  check("verified after the restart", await readBack(again, packed.imageBytes, 2), packed.sha256);
  ours("vdostats", ["--human-readable"], env);
  ours("vdo", ["stop", `--name=${NAME}`], env);
  await kernelCheck(storage, image, packed.imageBytes);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { limit: { type: "string", default: "256" }, "own-client": { type: "boolean", default: false } },
  });
  const bytesMax = Number(values.limit) * 2 ** 20;
  if (!(bytesMax > 0)) throw new Error(`--limit ${values.limit}: mebibytes, above 0`);
  const folders = positionals.length > 0 ? positionals : [join(root, "packages"), join(root, "node_modules/.pnpm")];
  const folder = mkdtempSync(join(tmpdir(), "vdo-demo-"));
  const env = { VDO_CONF_DIR: join(folder, "conf"), VDO_RUN_DIR: join(folder, "run") };
  mkdirSync(env.VDO_CONF_DIR);
  const cleanUp = (): void => {
    // The volume may be running when something failed or somebody pressed control-C.
    spawnSync(process.execPath, [join(root, "apps/vdo/bin/vdo.js"), "stop", `--name=${NAME}`, "--force"], {
      stdio: "ignore",
      env: { ...process.env, ...env },
    });
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("SIGINT", () => {
    cleanUp();
    process.exit(130);
  });
  try {
    await demo({ folders, bytesMax, client: chooseClient(values["own-client"]) }, { folder, env });
    say("cleaning up");
  } finally {
    cleanUp();
  }
  console.log("done: everything read back as it was written");
}

await main().catch((error: unknown) => {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
