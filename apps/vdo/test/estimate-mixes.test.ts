/** What `vdo estimate` says of data of many kinds, beside what a volume shows that holds the same. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { controlRequest } from "@vdo/manager";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

const BLOCK = 4096;
/** Most by which the two may differ, in percent of the data. */
const TOLERANCE = 2;

let commands: CommandLine;
let client: NbdClient;
let next = 0;
let shown = { logicalBlocksUsed: 0, dataBlocksUsed: 0 };

beforeAll(async () => {
  commands = await CommandLine.make();
  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=1G", "--attach=none"];
  const created = await commands.vdo("create", "--name=v0", `--device=${join(commands.folder, "disk.img")}`, ...sizes);
  expect(created.status).toBe(0);
  client = await NbdClient.connect((await commands.state("v0")).attach.path);
});
afterAll(async () => {
  await client.close();
  await commands.remove();
});

type Make = (random: Random, block: Buffer, i: number) => void;

const unique: Make = (random, block) => void random.fill(block);
/** So many random bytes, and the same line over and over. */
const text =
  (randomBytes: number): Make =>
  (random, block, i) => {
    block.fill(`line of block ${i} `);
    random.fill(block.subarray(0, randomBytes));
  };
const none: Make = () => undefined;
/** The block of an earlier place, out of `period` that there are. */
const repeated =
  (period: number, make: Make): Make =>
  (_random, block, i) =>
    make(new Random(1000 + (i % period)), block, i % period);

interface Mix {
  what: string;
  blocks: number;
  /** Bytes of each file; the last block of a file is filled up with zeros. */
  fileBytes?: number;
  make: Make;
  /** The saving, roughly, in percent: so that a test of nothing does not pass. */
  about: number;
}

const MIXES: readonly Mix[] = [
  { what: "unique data", blocks: 2000, make: unique, about: 0 },
  { what: "every block twice", blocks: 2000, make: repeated(1000, unique), about: 50 },
  { what: "few blocks over and over", blocks: 3000, make: repeated(7, unique), about: 99 },
  { what: "zeros", blocks: 2000, make: none, about: 100 },
  { what: "text that compresses well", blocks: 2000, make: text(200), about: 92 },
  { what: "data of which two blocks fit in one", blocks: 2000, make: text(1700), about: 50 },
  { what: "data that compresses too little", blocks: 2000, make: text(3700), about: 0 },
  {
    what: "a third of each",
    blocks: 3000,
    make: (random, block, i) => [unique, text(900), repeated(50, unique)][i % 3]?.(random, block, i),
    about: 56,
  },
  { what: "many small files", blocks: 2000, fileBytes: 5000, make: unique, about: 37 },
  { what: "many small files of text", blocks: 2000, fileBytes: 6000, make: text(300), about: 86 },
];

async function estimated(path: string): Promise<{ savingPercent: number; blocks: number }> {
  const { status, out } = await commands.vdo("estimate", "--json", path);
  expect(status).toBe(0);
  return JSON.parse(out) as { savingPercent: number; blocks: number };
}

/** Writes the mix as files into a folder, and in the same order onto the volume. */
async function put({ blocks, fileBytes = 64 * 2 ** 20, make }: Mix, folder: string): Promise<void> {
  await mkdir(folder);
  const random = new Random(blocks + fileBytes + folder.length);
  const perFile = Math.ceil(fileBytes / BLOCK);
  for (let first = 0, file = 0; first < blocks; first += perFile, file++) {
    const data = Buffer.alloc(Math.min(perFile, blocks - first) * BLOCK);
    for (let i = 0; i * BLOCK < data.length; i++) make(random, data.subarray(i * BLOCK, (i + 1) * BLOCK), first + i);
    const length = Math.min(fileBytes, data.length);
    data.fill(0, length);
    await writeFile(join(folder, `f${String(file).padStart(6, "0")}`), data.subarray(0, length));
    for (let at = 0; at < data.length; at += 256 * BLOCK) {
      await client.write(next + at / BLOCK, data.subarray(at, Math.min(data.length, at + 256 * BLOCK)));
    }
    next += data.length / BLOCK;
  }
  await client.flush();
}

/** What the volume saves on what was written since the last call, in percent. */
async function saving(): Promise<number> {
  const now = (await controlRequest((await commands.state("v0")).ctlSocket, "stats")) as typeof shown;
  const logical = now.logicalBlocksUsed - shown.logicalBlocksUsed;
  const data = now.dataBlocksUsed - shown.dataBlocksUsed;
  shown = now;
  return (100 * (logical - data)) / logical;
}

test.each(MIXES)("$what", async (mix) => {
  const folder = join(commands.folder, mix.what.replaceAll(" ", "-"));
  await put(mix, folder);
  const { savingPercent, blocks } = await estimated(folder);
  expect(blocks).toBe(mix.blocks);
  const real = await saving();
  expect(Math.abs(savingPercent - real), `estimated ${savingPercent}, shown ${real}`).toBeLessThan(TOLERANCE);
  expect(Math.abs(real - mix.about), `shown ${real}`).toBeLessThan(5);
});
