/** Real clients on a served device: handshake, maps, copies, verified random I/O (stages A and B of the test plan). */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equalBytes, Random } from "@vdo/base";
import { type BlockDevice, FileDevice, MemoryDevice } from "@vdo/block-device";
import { describeWith } from "@vdo/block-device/testing";
import { NbdServer } from "@vdo/nbd";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { run, succeed } from "./run-program.ts";

const SIZE = 256 << 20;
const COPY = 48 << 20;
const directory = mkdtempSync(join(tmpdir(), "nbd-interop-"));
const input = join(directory, "input");
const output = join(directory, "output");
const socket = join(directory, "disk.sock");
const uri = `nbd+unix:///?socket=${socket}`;
let server: NbdServer;
let device: BlockDevice;

/** 16 MiB of data, 16 MiB of nothing, 16 MiB of data. */
beforeAll(() => {
  const data = new Random(1).fill(new Uint8Array(COPY));
  data.fill(0, 16 << 20, 32 << 20);
  writeFileSync(input, data);
});
afterAll(() => rmSync(directory, { recursive: true }));

async function openMemory(): Promise<BlockDevice> {
  return new MemoryDevice({ blockCount: SIZE / 4096 });
}

async function openFile(): Promise<BlockDevice> {
  const path = join(directory, "disk.img");
  writeFileSync(path, "");
  truncateSync(path, SIZE);
  return FileDevice.open({ path });
}

/** The start of the device holds the input. */
async function expectCopied(): Promise<void> {
  const content = new Uint8Array(COPY);
  await device.read(0, content);
  expect(equalBytes(content, readFileSync(input))).toBe(true);
}

function expectOutput(): void {
  expect(equalBytes(readFileSync(output).subarray(0, COPY), readFileSync(input))).toBe(true);
}

const PROGRAMS = ["nbdinfo", "nbdcopy", "nbdkit", "nbd-client", "qemu-img", "qemu-io", "qemu-nbd", "fio"];

for (const [name, open] of [
  ["a device in memory", openMemory],
  ["a file", openFile],
] as const) {
  describeWith(PROGRAMS, `clients of ${name}`, () => clientTests(open), { describe, test });
}

function clientTests(open: () => Promise<BlockDevice>): void {
  beforeEach(async () => {
    device = await open();
    server = new NbdServer({ exports: [{ name: "disk", description: "for tests", device }] });
    await server.listen({ path: socket });
  });
  afterEach(async () => {
    await server.close();
    await device.close();
  });
  infoTests();
  copyTests();
  fioTests();
}

function infoTests(): void {
  test("nbdinfo sees size, abilities and contexts", async () => {
    const [disk] = JSON.parse(await succeed("nbdinfo", ["--json", uri])).exports;
    expect(disk).toMatchObject({
      "export-size": SIZE,
      contexts: ["base:allocation"],
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 32 << 20,
    });
    expect(await succeed("nbdinfo", ["--map", "--totals", uri])).toContain(`${SIZE} 100.0%`);
  });

  test("nbdinfo, nbd-client and qemu-nbd list the exports", async () => {
    expect(await succeed("nbdinfo", ["--list", uri])).toContain("for tests");
    expect(await succeed("nbd-client", ["-l", "-unix", socket])).toContain("disk");
    expect(await succeed("qemu-nbd", ["-L", "-k", socket])).toContain("disk");
    expect((await run("nbdinfo", ["--size", `nbd+unix:///none?socket=${socket}`])).output).toContain("no export named");
  });
}

function copyTests(): void {
  test("nbdcopy copies in and out, four connections and one", async () => {
    for (const options of [["--flush"], ["--synchronous", "--flush", "--allocated"]]) {
      await succeed("nbdcopy", [...options, input, uri]);
      await expectCopied();
      rmSync(output, { force: true });
      await succeed("nbdcopy", [...options.slice(0, -1), uri, output]);
      expectOutput();
    }
  });

  test("qemu-img converts in, and compares equal", async () => {
    await succeed("qemu-img", ["convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", input, uri]);
    await expectCopied();
    copyFileSync(input, output);
    truncateSync(output, SIZE);
    expect(await succeed("qemu-img", ["compare", "-f", "raw", "-F", "raw", output, uri])).toContain("identical");
  });

  test("qemu-io writes, zeroes and discards at odd places", async () => {
    const commands = [
      "write -P 1 0 1M",
      "write -P 2 511 3",
      "write -P 3 4095 4098",
      "read -P 1 0 511",
      "read -P 2 511 3",
      "read -P 1 514 3581",
      "read -P 3 4095 4098",
      "write -f -P 4 1M 64k",
      "write -z 1M 32k",
      "write -zu 1056k 16k",
      "read -P 0 1M 48k",
      "read -P 4 1072k 16k",
      "discard 1M 64k",
      "aio_write -P 5 2M 1M",
      "aio_write -P 6 3M 1M",
      "aio_flush",
      "read -P 5 2M 1M",
      "read -P 6 3M 1M",
      "flush",
      "map",
    ].flatMap((command) => ["-c", command]);
    const said = await succeed("qemu-io", ["-f", "raw", "-t", "writeback", ...commands, uri]);
    expect(said).not.toMatch(/fail|error/i);
    expect(said.match(/^read /gm)).toHaveLength(8);
  });

  test("nbdkit as a proxy passes everything on", async () => {
    const copy = `nbdcopy ${input} "$uri" && nbdcopy "$uri" - | cmp -n ${COPY} - ${input}`;
    await succeed("nbdkit", [
      "-U",
      "-",
      "--filter=stats",
      "nbd",
      uri,
      `statsfile=${join(directory, "stats")}`,
      "--run",
      copy,
    ]);
    await expectCopied();
  });
}

function fioTests(): void {
  const fio = (...options: string[]): Promise<string> =>
    succeed("fio", ["--name=v", "--ioengine=nbd", `--uri=${uri}`, "--verify_fatal=1", "--size=16m", ...options], {
      cwd: directory,
      limitMs: 120_000,
    });

  test("fio verifies random writes: 4 KiB deep, odd sizes with flushes, four connections", async () => {
    expect(await fio("--rw=randwrite", "--bs=4k", "--iodepth=32", "--verify=crc32c")).toContain("err= 0");
    const mixed = ["--bsrange=512-64k", "--blockalign=512", "--verify=xxhash", "--verify_backlog=64", "--fsync=50"];
    expect(await fio("--rw=randwrite", "--iodepth=16", ...mixed)).toContain("err= 0");
    const four = ["--iodepth=8", "--numjobs=4", "--offset_increment=16m", "--verify=crc32c"];
    expect(await fio("--rw=randwrite", "--bs=4k", ...four)).toContain("err= 0");
  });

  test("fio trims, reads and writes at once", async () => {
    expect(await fio("--rw=randtrim", "--bs=64k", "--iodepth=8")).toContain("err= 0");
    expect(await fio("--rw=randrw", "--bs=16k", "--iodepth=16")).toContain("err= 0");
  });
}
