/** The file system under a volume's file is full: nothing flushed is lost, and with more space it all goes on. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, runProgram } from "./support/command-line.ts";

/** More than the journal takes at the beginning, less than what is written. */
const SMALL_MIB = 160;
const PIECE_BLOCKS = 256;

let commands: CommandLine;
let folder: string;
/** Pieces that were flushed. */
let flushed = 0;

const piece = (i: number): Uint8Array => new Random(i + 1).fill(new Uint8Array(PIECE_BLOCKS * 4096));
const connect = async () => NbdClient.connect((await commands.state("v0")).attach.path);

async function mount(...options: string[]): Promise<void> {
  expect((await runProgram("mount", [...options, folder])).err).toBe("");
}

async function expectFlushed(): Promise<void> {
  const client = await connect();
  const back = new Uint8Array(PIECE_BLOCKS * 4096);
  for (let i = 0; i < flushed; i++) {
    await client.read(i * PIECE_BLOCKS, back);
    expect(firstDifference(back, piece(i))).toBe(-1);
  }
  await client.close();
}

describeWith(
  ["root", "mount", "umount"],
  "a full file system",
  () => {
    beforeAll(async () => {
      commands = await CommandLine.make();
      folder = join(commands.folder, "small disk");
      await mkdir(folder);
      await mount("-t", "tmpfs", "-o", `size=${SMALL_MIB}M`, "tmpfs");
    });
    afterAll(async () => {
      await commands.vdo("stop", "--all", "--force");
      await runProgram("umount", [folder]);
      await commands.remove();
    });

    test("stops the writes, and tells why", async () => {
      const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=1G", "--attach=none"];
      const created = await commands.vdo("create", "--name=v0", `--device=${join(folder, "disk.img")}`, ...sizes);
      expect(created).toMatchObject({ status: 0, err: "" });
      const client = await connect();
      const work = async (): Promise<void> => {
        for (;;) {
          await client.write(flushed * PIECE_BLOCKS, piece(flushed));
          await client.flush();
          flushed++;
        }
      };
      await expect(work()).rejects.toThrow(/ENOSPC|EPERM|EIO|No space|not permitted/i);
      for (let i = 0; i < 50; i++) await client.write(0, piece(99)).catch(() => undefined);
      // Closing flushes, which is refused.
      await client.close().catch(() => undefined);
      expect(flushed).toBeGreaterThan(5);
      const log = await readFile(join(commands.folder, "log/v0.log"), "utf8");
      expect(log).toContain("the file system is full at block ");
      expect(log).not.toContain("the volume is full");
      expect(log.split("\n").filter((line) => line.includes("ERROR")).length).toBeLessThan(10);
      await expectFlushed();
    });

    test("is in read-only mode after a restart, and can be read", async () => {
      expect((await commands.vdo("stop", "--name=v0", "--force")).status).toBe(0);
      const started = await commands.vdo("start", "--name=v0");
      expect(started.status).toBe(0);
      expect(started.err).toContain("is in read-only mode");
      await expectFlushed();
      expect((await commands.vdo("stop", "--name=v0", "--force")).status).toBe(0);
    });

    test("goes on after a rebuild when there is more space", async () => {
      await mount("-o", `remount,size=${3 * SMALL_MIB}M`);
      expect((await commands.vdo("start", "--name=v0", "--forceRebuild")).status).toBe(0);
      await expectFlushed();
      const client = await connect();
      await client.write(200 * PIECE_BLOCKS, piece(1000));
      await client.close();
      expect(await commands.vdo("stop", "--name=v0", "--force")).toMatchObject({ status: 0, err: "" });
      expect((await commands.vdo("audit", "--name=v0")).status).toBe(0);
    });
  },
  { describe, test },
);
