/**
 * Builds the guest machine once and keeps it: a stock Debian kernel and an initramfs with dm-vdo and the tools.
 *
 * The kernel and the vdo tools are downloaded with apt from Debian's backports and unpacked into the folder, nothing is
 * installed from them; all other programs are copied from this machine. See guest/build.sh for the steps.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findProgram } from "@vdo/block-device/testing";
import { missingPackages, programPath } from "./host-programs.ts";

export const guestFolder = fileURLToPath(new URL("../guest/", import.meta.url));

export interface OracleFiles {
  /** The folder everything is kept in. */
  folder: string;
  kernel: string;
  initrd: string;
}

/** `VDO_ORACLE_DIR`, else /var/cache/vdo-oracle for root and ~/.cache/vdo-oracle for others. */
export function oracleFolder(): string {
  const chosen = process.env["VDO_ORACLE_DIR"];
  if (chosen !== undefined && chosen !== "") return chosen;
  return process.getuid?.() === 0 ? "/var/cache/vdo-oracle" : join(homedir(), ".cache", "vdo-oracle");
}

/** Changes when the recipe does, so that an older guest is rebuilt. */
function recipeSum(): string {
  const sum = createHash("sha256");
  for (const name of ["build.sh", "init"]) sum.update(readFileSync(join(guestFolder, name)));
  return sum.update(process.env["VDO_ORACLE_SUITE"] ?? "").digest("hex");
}

function filesIn(folder: string): OracleFiles {
  return { folder, kernel: join(folder, "vmlinuz"), initrd: join(folder, "initrd.gz") };
}

/** True when the guest is built from the present recipe. */
export function isOracleReady(folder: string = oracleFolder()): boolean {
  const files = filesIn(folder);
  const stamp = join(folder, "recipe");
  if (!existsSync(stamp) || !existsSync(files.kernel) || !existsSync(files.initrd)) return false;
  return readFileSync(stamp, "utf8") === recipeSum();
}

/** Installs the Debian packages of the missing host programs. Needs root. */
export function installHostPackages(): void {
  const packages = missingPackages();
  if (packages.length === 0) return;
  console.error(`oracle: installing ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const words of [
    ["update", "-qq"],
    ["install", "-y", "-qq", "--no-install-recommends", ...packages],
  ]) {
    const result = spawnSync("apt-get", words, { stdio: ["ignore", 2, 2], env });
    if (result.status !== 0) throw new Error(`apt-get ${words[0]} failed with status ${result.status}; are you root?`);
  }
}

/**
 * Returns the guest's files, building them first if there are none or their recipe changed (about a minute, 110 MB of
 * downloads). Safe to call from several processes at once: the first builds, the others wait for it.
 *
 * @throws Error naming the Debian packages to install when programs are missing, or with the last lines of a failed build
 */
export async function setupOracle(): Promise<OracleFiles> {
  const folder = oracleFolder();
  if (isOracleReady(folder)) return filesIn(folder);
  const missing = missingPackages();
  if (missing.length > 0) {
    throw new Error(`the reference machine needs Debian packages: apt-get install ${missing.join(" ")}`);
  }
  mkdirSync(folder, { recursive: true });
  const release = await lock(join(folder, "lock"));
  try {
    if (!isOracleReady(folder)) {
      await build(folder);
      writeFileSync(join(folder, "recipe"), recipeSum());
    }
  } finally {
    release();
  }
  return filesIn(folder);
}

/** Takes an advisory lock through flock(1), which holds it until its input ends: also when this process dies. */
function lock(path: string): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const holder = spawn(findProgram("flock") ?? "flock", [path, "sh", "-c", "echo locked; cat"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    holder.once("error", reject);
    holder.once("exit", () => reject(new Error(`cannot lock ${path}`)));
    holder.stdout.once("data", () => resolve(() => holder.stdin.end()));
  });
}

function build(folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("bash", [join(guestFolder, "build.sh"), folder], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, PATH: programPath() },
    });
    let tail = "";
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text: string) => {
      process.stderr.write(text);
      tail = (tail + text).slice(-2000);
    });
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`building the reference machine failed with status ${code}:\n${tail}`));
    });
  });
}
