/**
 * Runs a shell script as root in the guest, on disk images or NBD exports of yours.
 *
 * The guest and the host share a folder (9p): the script and files for it go in, its output, status and files come out.
 * Disks are raw images; what the guest wrote is in them when the call returns, also after a power cut (QEMU is killed, and
 * the guest's writes are in the host's page cache).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "@vdo/block-device/testing";
import { guestFolder, type OracleFiles, setupOracle } from "./setup.ts";

export interface GuestDisk {
  /** A raw image file, a block device, or an NBD URI (`nbd+unix:///NAME?socket=PATH`, `nbd://host:port/NAME`). */
  path: string;
  readOnly?: boolean;
}

export interface GuestOptions {
  /** Shell script; the helpers of guest/lib.sh are defined, and the folder it starts in holds `files`. */
  script: string;
  /** Seen by the guest as /dev/vda, /dev/vdb, … in this order. At most 20. */
  disks?: readonly (string | GuestDisk)[];
  /** Limit for the whole run, boot included; past it the power is cut. 180 unless told. */
  timeoutSeconds?: number;
  /** 2048 unless told. A volume with the smallest index needs 1024. */
  memoryMiB?: number;
  /** CPUs of the guest: 2 unless told. */
  cpus?: number;
  /** Gives the guest a network on which 10.0.2.2 is this machine's loopback. */
  network?: boolean;
  /** Cuts the power this many milliseconds after the script began. */
  powerCutAfterMs?: number;
  /** Files put beside the script: name → content. */
  files?: Readonly<Record<string, string | Uint8Array>>;
  /** Names of files that the script leaves in its starting folder, to be returned. */
  collect?: readonly string[];
}

export interface GuestResult {
  /** What the script printed, standard output and errors together. */
  output: string;
  /** Status of the script; null when the power was cut before it ended. */
  exitCode: number | null;
  /** True when `timeoutSeconds` passed. */
  timedOut: boolean;
  /** Content of the files of `collect` that exist. */
  files: Map<string, Uint8Array>;
  /** The kernel's messages; empty after a power cut. */
  kernelLog: string;
  /** The last lines of the console: why a guest did not come up. */
  console: string;
  /** Wall clock of the run. */
  seconds: number;
}

/** Tries to bring a machine up. */
const BOOTS_MAX = 2;

const SHARE_MARKERS = { started: ".started", output: ".output", status: ".status", log: ".dmesg" } as const;

/** Runs `options.script` in a fresh guest. Builds the guest machine first when this is the first use. */
export async function runGuest(options: GuestOptions): Promise<GuestResult> {
  const oracle = await setupOracle();
  const share = mkdtempSync(join(tmpdir(), "vdo-oracle-"));
  try {
    const library = readFileSync(join(guestFolder, "lib.sh"), "utf8");
    writeFileSync(join(share, "run.sh"), `${library}\n${options.script}\n`);
    for (const [name, content] of Object.entries(options.files ?? {})) writeFileSync(join(share, name), content);
    const began = performance.now();
    const words = qemuArguments(oracle, share, options);
    let run = await runQemu(words, share, options);
    // A machine that ended before its script began has touched nothing: on a busy host the emulated boot may fail.
    for (let more = BOOTS_MAX - 1; more > 0 && !run.timedOut && !hasStarted(share); more--) {
      run = await runQemu(words, share, options);
    }
    const seconds = (performance.now() - began) / 1000;
    return { ...run, ...readShare(share, options.collect ?? []), seconds };
  } finally {
    rmSync(share, { recursive: true, force: true });
  }
}

function hasStarted(share: string): boolean {
  return existsSync(join(share, SHARE_MARKERS.started));
}

function readShare(share: string, collect: readonly string[]) {
  const text = (name: string): string => (existsSync(join(share, name)) ? readFileSync(join(share, name), "utf8") : "");
  const status = text(SHARE_MARKERS.status).trim();
  const files = new Map<string, Uint8Array>();
  for (const name of collect) {
    if (existsSync(join(share, name))) files.set(name, readFileSync(join(share, name)));
  }
  return {
    output: text(SHARE_MARKERS.output),
    exitCode: status === "" ? null : Number(status),
    kernelLog: text(SHARE_MARKERS.log),
    files,
  };
}

function driveArguments(disk: string | GuestDisk): string[] {
  const { path, readOnly = false } = typeof disk === "string" ? { path: disk } : disk;
  const isUri = /^nbd(s)?(\+[a-z]+)?:/.test(path);
  // A host crash is nothing we test, so flushes need not reach the host's disk; over NBD they are part of what we test.
  const cache = isUri ? "cache=writeback" : "cache=unsafe,file.locking=off";
  const file = path.replaceAll(",", ",,");
  return ["-drive", `file=${file},format=raw,if=virtio,discard=unmap,${cache}${readOnly ? ",readonly=on" : ""}`];
}

function qemuArguments(oracle: OracleFiles, share: string, options: GuestOptions): string[] {
  const accelerator = process.env["VDO_ORACLE_ACCEL"] ?? "tcg,thread=multi";
  const network = options.network ?? false;
  return [
    ...["-accel", accelerator, "-cpu", "max"],
    ...["-m", String(options.memoryMiB ?? 2048), "-smp", String(options.cpus ?? 2)],
    ...["-kernel", oracle.kernel, "-initrd", oracle.initrd],
    "-append",
    `console=ttyS0 quiet mitigations=off nokaslr panic=-1${network ? " oracle.network" : ""}`,
    ...["-nographic", "-no-reboot"],
    ...(options.disks ?? []).flatMap(driveArguments),
    ...(network ? ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="] : ["-nic", "none"]),
    ...["-virtfs", `local,path=${share},mount_tag=share,security_model=none`],
  ];
}

/** Waits for the machine to end, by itself or by a power cut. */
function runQemu(
  words: string[],
  share: string,
  options: GuestOptions,
): Promise<{ timedOut: boolean; console: string }> {
  return new Promise((resolve, reject) => {
    const qemu: ChildProcess = spawn(findProgram("qemu-system-x86_64") ?? "qemu-system-x86_64", words, {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    let timedOut = false;
    const keep = (chunk: Buffer): void => {
      text = (text + chunk.toString("latin1")).slice(-8000);
    };
    qemu.stdout?.on("data", keep);
    qemu.stderr?.on("data", keep);
    const limit = setTimeout(
      () => {
        timedOut = true;
        qemu.kill("SIGKILL");
      },
      (options.timeoutSeconds ?? 180) * 1000,
    );
    const stopCut = cutPowerAfterStart(qemu, share, options.powerCutAfterMs);
    const kill = (): void => void qemu.kill("SIGKILL");
    process.once("exit", kill);
    const settle = (): void => {
      clearTimeout(limit);
      stopCut();
      process.off("exit", kill);
    };
    qemu.once("error", (error) => {
      settle();
      reject(error);
    });
    qemu.once("close", () => {
      settle();
      resolve({ timedOut, console: text });
    });
  });
}

/** Kills the machine `milliseconds` after its script began. Returns what calls it off. */
function cutPowerAfterStart(qemu: ChildProcess, share: string, milliseconds: number | undefined): () => void {
  if (milliseconds === undefined) return () => {};
  let cut: NodeJS.Timeout | undefined;
  const poll = setInterval(() => {
    if (!hasStarted(share)) return;
    clearInterval(poll);
    cut = setTimeout(() => qemu.kill("SIGKILL"), milliseconds);
  }, 5);
  return () => {
    clearInterval(poll);
    clearTimeout(cut);
  };
}
