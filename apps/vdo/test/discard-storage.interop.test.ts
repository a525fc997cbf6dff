/** `--discardStorage=enabled`: the space of freed blocks goes back to the file, the block device or the export below. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, processGone, runProgram } from "./support/command-line.ts";

const BLOCK = 4096;
const CREATE = ["--vdoSlabSize=128M", "--vdoLogicalSize=1G", "--attach=none"];
/** What is written and discarded again: 48 MiB, of which the last 4 MiB stay. */
const PIECE_BLOCKS = 256;
const PIECES = 48;
const KEPT = 4;

let commands: CommandLine;
const path = (name: string): string => join(commands.folder, name);
const piece = (seed: number): Uint8Array => new Random(seed + 1).fill(new Uint8Array(PIECE_BLOCKS * BLOCK));
const must = async (...words: string[]): Promise<string> => {
  const { status, out, err } = await commands.vdo(...words);
  expect(status, `vdo ${words.join(" ")}: ${err}${out}`).toBe(0);
  return out;
};

/** Bytes that the file system keeps for the image. */
const allocated = async (): Promise<number> => (await stat(path("disk"))).blocks * 512;

async function allocatedFalls(below: number): Promise<void> {
  for (let attempt = 0; (await allocated()) > below; attempt++) {
    expect(attempt, `the image has ${await allocated()} bytes, more than ${below}`).toBeLessThan(600);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function withClient(work: (client: NbdClient) => Promise<void>): Promise<void> {
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  try {
    await work(client);
  } finally {
    await client.close();
  }
}

const expectKept = (): Promise<void> =>
  withClient(async (client) => {
    const read = new Uint8Array(PIECE_BLOCKS * BLOCK);
    for (let i = PIECES - KEPT; i < PIECES; i++) {
      await client.read(i * PIECE_BLOCKS, read);
      expect(Buffer.compare(read, piece(i)), `piece ${i}`).toBe(0);
    }
  });

/** A volume on `device`, whose bytes end up in the file `disk`. */
async function expectGivenBack(device: string): Promise<void> {
  await must("create", "--name=v0", `--device=${device}`, "--discardStorage=enabled", ...CREATE);
  expect(await must("printConfigFile")).toContain("      discardStorage: enabled\n");
  await withClient(async (client) => {
    for (let i = 0; i < PIECES; i++) await client.write(i * PIECE_BLOCKS, piece(i));
    await client.flush();
    const full = await allocated();
    await client.discard?.(0, (PIECES - KEPT) * PIECE_BLOCKS);
    await client.flush();
    await allocatedFalls(full - (PIECES - KEPT - 1) * PIECE_BLOCKS * BLOCK);
  });
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  await must("start", "--name=v0");
  await expectKept();
  await must("stop", "--name=v0");
  await must("audit", "--name=v0");
}

async function newDisk(): Promise<void> {
  await writeFile(path("disk"), "");
  await truncate(path("disk"), 3 * 1024 ** 3);
}

function onFiles(): void {
  beforeAll(async () => {
    commands = await CommandLine.make();
    await newDisk();
  });
  afterAll(() => commands.remove());

  test("freed blocks become holes, and stay so after the daemon was killed", () => expectGivenBack(path("disk")));

  test("modify switches it, and the next start gives back what was freed meanwhile", async () => {
    await must("modify", "--name=v0", "--discardStorage=disabled");
    await must("start", "--name=v0");
    const before = await allocated();
    await withClient(async (client) => {
      for (let i = 0; i < 16; i++) await client.write(i * PIECE_BLOCKS, piece(100 + i));
      await client.discard?.(0, 16 * PIECE_BLOCKS);
      await client.flush();
    });
    await must("stop", "--name=v0");
    expect(await allocated()).toBeGreaterThan(before + 8 * PIECE_BLOCKS * BLOCK);
    await must("modify", "--name=v0", "--discardStorage=enabled");
    await must("start", "--name=v0");
    await allocatedFalls(before + 4 * PIECE_BLOCKS * BLOCK);
    await expectKept();
    await must("stop", "--name=v0");
    await must("audit", "--name=v0");
  });
}

function onBlockDevices(): void {
  let disk = "";
  beforeAll(async () => {
    commands = await CommandLine.make();
    await newDisk();
    disk = (await runProgram("losetup", ["--find", "--show", path("disk")])).out.trim();
  });
  afterAll(async () => {
    await commands.vdo("stop", "--all", "--force");
    await runProgram("losetup", ["-d", disk]);
    await commands.remove();
  });

  test("freed blocks are discarded", () => expectGivenBack(disk));
}

function onExports(): void {
  let kit: ChildProcess;
  beforeAll(async () => {
    commands = await CommandLine.make();
    await newDisk();
    kit = spawn("nbdkit", ["-f", "-U", path("s"), "file", path("disk")]);
    while (!existsSync(path("s"))) await new Promise((resolve) => setTimeout(resolve, 5));
  });
  afterAll(async () => {
    await commands.vdo("stop", "--all", "--force");
    kit.kill();
    await once(kit, "exit");
    await commands.remove();
  });

  test("freed blocks are trimmed", () => expectGivenBack(`nbd+unix:///?socket=${path("s")}`));
}

describeWith(["fallocate"], "freed blocks of a volume in a file", onFiles, { describe, test });
describeWith(["root", "losetup", "blkdiscard"], "freed blocks of a volume on a block device", onBlockDevices, {
  describe,
  test,
});
describeWith(["nbdkit"], "freed blocks of a volume on an NBD export", onExports, { describe, test });
