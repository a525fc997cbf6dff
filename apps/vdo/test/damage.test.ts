/** What can be taken out of volumes of which parts are gone. */
import { open, readFile, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { firstDifference, Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, processGone, runProgram } from "./support/command-line.ts";

const MIB = 1024 ** 2;
const BLOCK = 4096;
const SIZES = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=64M", "--attach=none"];
/** In a volume with an index of 0.25 GiB: super block, then 60 roots, then the first slab. */
const SUPER_BLOCK = 679_128;
const FIRST_SLAB = SUPER_BLOCK + 61;
/** The recovery journal and the slab summary are at the end of the 3 GiB. */
const JOURNAL = 786_432 - 64 - 32_768;

let commands: CommandLine;
const expected = Buffer.alloc(64 * MIB);
const image = (name: string): string => join(commands.folder, `${name}.img`);

async function copyImage(from: string, to: string): Promise<void> {
  expect((await runProgram("cp", ["--sparse=always", image(from), image(to)])).err).toBe("");
}

beforeAll(async () => {
  commands = await CommandLine.make();
  expect((await commands.vdo("create", "--name=v0", `--device=${image("dirty")}`, ...SIZES)).status).toBe(0);
  const { attach, pid } = await commands.state("v0");
  const client = await NbdClient.connect(attach.path);
  for (const block of [0, 5000, 9000]) {
    const data = new Random(block + 1).fill(new Uint8Array(MIB));
    if (block === 9000) data.fill(7, MIB / 2);
    await client.write(block, data);
    expected.set(data, block * BLOCK);
  }
  await client.flush();
  await client.close();
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  await copyImage("dirty", "clean");
  await commands.vdo("stop", "--name=v0", "--force");
  await commands.vdo("remove", "--name=v0");
  await commands.vdo("import", "--name=v0", `--device=${image("clean")}`, "--attach=none");
  await commands.vdo("stop", "--name=v0");
  await commands.vdo("remove", "--name=v0");
});
afterAll(() => commands.remove());

/** Of everything but the index, which no rescue looks at; and the times and the blocks of the file. */
async function checksum(path: string): Promise<string> {
  const { size, mtimeMs, ctimeMs, blocks } = await stat(path);
  const file = await open(path);
  const buffer = Buffer.alloc(4 * MIB);
  let sum = 0;
  for (let at = 0; at < size; at = at === 0 ? SUPER_BLOCK * BLOCK : at + buffer.length) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    sum = crc32(buffer.subarray(0, bytesRead), sum);
  }
  await file.close();
  return [sum, size, mtimeMs, ctimeMs, blocks].join(" ");
}

async function overwrite(start: number, count: number, seed = 0): Promise<void> {
  const file = await open(image("work"), "r+");
  const bytes = new Uint8Array(count * BLOCK);
  await file.write(seed === 0 ? bytes : new Random(seed).fill(bytes), 0, bytes.length, start * BLOCK);
  await file.close();
}

interface Damage {
  what: string;
  of: "clean" | "dirty";
  damage(): Promise<void>;
  status: number;
  /** Of standard output and standard error. */
  says: RegExp;
  /** Blocks of the content that may be missing; all the others must be there. */
  mayMiss: number;
}

const cut = (blocks: number) => () => truncate(image("work"), blocks * BLOCK);
const nothingElse = /^Exporting .*\nExported 64\.00 MB, .*\nEverything could be read\.\n/;

const DAMAGES: readonly Damage[] = [
  { what: "nothing", of: "clean", damage: async () => undefined, status: 0, says: nothingElse, mayMiss: 0 },
  { what: "nothing", of: "dirty", damage: async () => undefined, status: 0, says: nothingElse, mayMiss: 0 },
  {
    what: "a wiped first block",
    of: "clean",
    damage: () => overwrite(0, 1),
    status: 0,
    says: /the first block is not that of a volume; there is one that has its super block at block 679128\n/,
    mayMiss: 0,
  },
  {
    what: "a wiped first block",
    of: "dirty",
    damage: () => overwrite(0, 1, 5),
    status: 0,
    says: /there is one that has its super block at block 679128\n/,
    mayMiss: 0,
  },
  {
    what: "an overwritten index",
    of: "clean",
    damage: () => overwrite(1, 200, 9),
    status: 0,
    says: nothingElse,
    mayMiss: 0,
  },
  {
    what: "a missing end",
    of: "clean",
    damage: cut(JOURNAL - 32_768),
    status: 0,
    says: /the storage has 720832 of the 786432 blocks of the volume: its end is missing\n/,
    mayMiss: 0,
  },
  {
    what: "a missing end, and with it the journal",
    of: "dirty",
    damage: cut(JOURNAL - 32_768),
    status: 1,
    says: /the recovery journal is missing too[\s\S]*But the volume was not whole, as the warnings say/,
    mayMiss: 768,
  },
  {
    what: "an end that is missing from the middle of the data on",
    of: "clean",
    damage: cut(FIRST_SLAB + 300),
    status: 1,
    says: /logical blocks could not be read; [\s\S]* is missing: the storage ends before it\n/,
    mayMiss: 768 - 250,
  },
  {
    // Blocks of the journal may be written in any order, so a power cut may leave this: what comes after is not believed.
    what: "a gap in its journal",
    of: "dirty",
    damage: () => overwrite(JOURNAL + 2, 1, 3),
    status: 0,
    says: nothingElse,
    mayMiss: 768 - 212,
  },
  {
    what: "an overwritten root of the block map",
    of: "clean",
    damage: () => overwrite(SUPER_BLOCK + 1, 1, 4),
    status: 1,
    says: /interior block map page at block 679129 is not the page that belongs there/,
    mayMiss: 768,
  },
];

test.each(DAMAGES)("of a $of volume with $what comes what is there, and nothing is written", async (damage) => {
  await copyImage(damage.of, "work");
  await damage.damage();
  const before = await checksum(image("work"));
  const words = [`--device=${image("work")}`, `--output=${join(commands.folder, "out")}`, "--force"];
  const { status, out, err } = await commands.vdo("export", ...words);
  expect(await checksum(image("work"))).toBe(before);
  expect(err + out).toMatch(damage.says);
  expect(status).toBe(damage.status);
  const got = await readFile(join(commands.folder, "out"));
  expect(got).toHaveLength(expected.length);
  let missing = 0;
  for (let at = 0; at < expected.length; at += BLOCK) {
    const block = got.subarray(at, at + BLOCK);
    if (firstDifference(block, expected.subarray(at, at + BLOCK)) === -1) continue;
    expect(block.every((byte) => byte === 0)).toBe(true);
    missing++;
  }
  expect(missing).toBeLessThanOrEqual(damage.mayMiss);
});

test("a super block that is gone is told of, and no image is made", async () => {
  await copyImage("clean", "work");
  await overwrite(SUPER_BLOCK, 1);
  const output = join(commands.folder, "none");
  const outcome = await commands.vdo("export", `--device=${image("work")}`, `--output=${output}`);
  expect(outcome.status).toBe(1);
  expect(outcome.err).toMatch(/^vdo: ERROR - .*work\.img: SuperBlock: /);
  await expect(stat(output)).rejects.toThrow("ENOENT");
});
