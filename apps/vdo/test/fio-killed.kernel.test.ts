/**
 * The daemon of a volume is killed while fio writes to it over NBD; the kernel's dm-vdo recovers what is left. fio then
 * verifies there, in the guest, what it was told was durable; every other block is a whole one of fio's.
 */
import { spawn } from "node:child_process";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { crc32c } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, processGone, runProgram } from "./support/command-line.ts";

const MiB = 2 ** 20;
const BLOCK = 4096;
/** Written and flushed before anything else happens. */
const SETTLED = { offset: 0, size: 24 * MiB };
/** Written in order, one block and one flush at a time. */
const DURABLE = { offset: 64 * MiB, size: 200 * MiB };
/** Filled first, then overwritten at random, sixteen at a time, with flushes in between, until the daemon dies. */
const BUSY = { offset: 512 * MiB, size: 8 * MiB };

const COMMON = ["--bs=4k", "--verify=crc32c", "--verify_fatal=1", "--randrepeat=1"];
const place = ({ offset, size }: { offset: number; size: number }): string[] => [
  `--offset=${offset}`,
  `--size=${size}`,
];
const settledJob = ["--name=settled", "--rw=randwrite", ...place(SETTLED), "--iodepth=16", ...COMMON];
const durableJob = (size: number): string[] => [
  "--name=durable",
  "--rw=write",
  ...place({ ...DURABLE, size }),
  ...COMMON,
];

let commands: CommandLine;

interface FioJob {
  jobname: string;
  write: { total_ios: number };
}

/** Starts fio's NBD engine on the volume; resolves with its jobs when it has ended, as it may by an error. */
function fio(uri: string, words: readonly string[]): Promise<{ status: number | null; jobs: FioJob[]; said: string }> {
  const shared = ["--output-format=json", "--ioengine=nbd", `--uri=${uri}`, "--do_verify=0"];
  // fio leaves files of its own where it runs.
  const child = spawn("fio", [...shared, ...words], { cwd: commands.folder, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  return new Promise((resolve) => {
    child.once("close", (status) => {
      const json = out.slice(out.indexOf("{\n"));
      resolve({ status, said, jobs: json === "" ? [] : (JSON.parse(json) as { jobs: FioJob[] }).jobs });
    });
  });
}

/** CRC-32C without the final inversion, as fio 3.33 takes it. */
const fioCrc = (bytes: Uint8Array): number => crc32c(bytes, 0xffffffff, 0);

/** True for a block that fio wrote, whole, at `offset`: fio 3.33, struct verify_header and the CRC of the data behind it. */
function isWhole(block: Buffer, offset: number): boolean {
  const headerBytes = 44;
  return (
    block.readUInt16LE(0) === 0xacca &&
    Number(block.readBigUInt64LE(16)) === offset &&
    fioCrc(block.subarray(0, 36)) === block.readUInt32LE(36) &&
    fioCrc(block.subarray(headerBytes)) === block.readUInt32LE(40)
  );
}

/** Waits until fio has written the block at `offset`. */
async function reached(uri: string, offset: number): Promise<void> {
  const client = await NbdClient.connect(uri);
  const block = Buffer.alloc(client.blockSize);
  while (block.readUInt16LE(0) !== 0xacca) {
    await pause(50);
    await client.read(offset / client.blockSize, block);
  }
  await client.close();
}

/** Creates the volume, writes to it with fio, and kills its daemon. Returns how many blocks of the durable job are durable. */
async function killUnderLoad(image: string): Promise<number> {
  const sizes = ["--vdoPhysicalSize=3200M", "--vdoSlabSize=128M", "--vdoLogicalSize=2G", "--attach=none"];
  const created = await commands.vdo("create", "--name=v0", `--device=${image}`, ...sizes);
  expect(created, created.err).toMatchObject({ status: 0 });
  const { pid, attach } = await commands.state("v0");
  const fill = ["--name=fill", "--rw=write", ...place(BUSY), "--iodepth=16", "--end_fsync=1", ...COMMON];
  const before = await fio(attach.path, [...settledJob, "--end_fsync=1", ...fill]);
  expect(before.status, before.said).toBe(0);
  const busy = ["--name=busy", "--rw=randwrite", ...place(BUSY), "--iodepth=16", "--fsync=64", "--loops=10000"];
  const running = fio(attach.path, [...durableJob(DURABLE.size), "--fsync=1", ...busy, ...COMMON]);
  await reached(attach.path, DURABLE.offset + 60 * BLOCK);
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  const { status, jobs, said } = await running;
  expect(status, said).not.toBe(0);
  // fio 3.33 counts what it sends, and goes on after a flush that failed: neither the last write nor the flush before it
  // need have been answered.
  return (jobs.find(({ jobname }) => jobname === "durable")?.write.total_ios ?? 0) - 2;
}

function suite(): void {
  beforeAll(async () => {
    commands = await CommandLine.make();
  });
  afterAll(() => commands.remove());

  test("what fio flushed is there in the kernel, what it overwrote is whole", async () => {
    const image = join(commands.folder, "disk.img");
    const durable = await killUnderLoad(image);
    expect(durable).toBeGreaterThan(50);
    const copy = join(commands.folder, "copy.img");
    expect(await runProgram("cp", ["--sparse=always", image, copy])).toMatchObject({ status: 0 });
    const verify = (words: string[]): string =>
      `fio --ioengine=libaio --direct=1 --filename=/dev/mapper/v --verify_only ${words.join(" ")} 2>&1 && echo "verified ${words[0]}"`;
    const guest = await runGuest({
      disks: [image],
      collect: ["busy"],
      timeoutSeconds: 240,
      script: `vdo_start v /dev/vda deduplication off
        while dmsetup status v | grep -q recovering; do sleep 0.2; done
        ${verify(settledJob)}
        ${verify(durableJob(durable * BLOCK))}
        dd if=/dev/mapper/v of=busy bs=1M skip=${BUSY.offset / MiB} count=${BUSY.size / MiB} iflag=direct 2> /dev/null
        vdo_stop v; audit /dev/vda 2>&1`,
    });
    const said = `durable ${durable}\n${guest.output}${guest.kernelLog}${guest.console}`;
    expect(said).toContain("verified --name=settled");
    expect(said).toContain("verified --name=durable");
    expect(said).toContain("All pbn references matched");
    const busy = Buffer.from(guest.files.get("busy") ?? []);
    expect(busy.length).toBe(BUSY.size);
    const broken: number[] = [];
    for (let at = 0; at < busy.length; at += BLOCK) {
      if (!isWhole(busy.subarray(at, at + BLOCK), BUSY.offset + at)) broken.push(at / BLOCK);
    }
    expect(broken, "blocks that are not whole").toEqual([]);
    // The same here, from the copy: the start recovers it, and fio verifies over NBD.
    await rename(copy, image);
    const started = await commands.vdo("start", "--name=v0");
    expect(started, started.err).toMatchObject({ status: 0 });
    const { attach } = await commands.state("v0");
    for (const job of [settledJob, durableJob(durable * BLOCK)]) {
      const words = ["--ioengine=nbd", `--uri=${attach.path}`, "--verify_only", "--verify_state_save=0", ...job];
      expect(await runProgram("fio", words)).toMatchObject({ status: 0 });
    }
    expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
    expect(await commands.vdo("audit", "--name=v0")).toMatchObject({ status: 0, out: "" });
  });
}

describeWithKernel("a volume whose daemon was killed under fio", suite, { describe, test }, ["fio"]);
