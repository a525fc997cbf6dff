/** Content taken out of volumes in every state, and into new ones. */
import { open, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { NbdClient, NbdServer } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, processGone } from "./support/command-line.ts";

const MIB = 1024 ** 2;
const CREATE = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=64M", "--attach=none"];
/** In a new volume with an index of 0.25 GiB the first slab begins here; the fourth block is the first leaf of the map. */
const FIRST_LEAF = 679_189 + 3;

let commands: CommandLine;
let disk: string;
const expected = Buffer.alloc(64 * MIB);

beforeAll(async () => {
  commands = await CommandLine.make();
  disk = join(commands.folder, "disk.img");
  expect((await commands.vdo("create", "--name=v0", `--device=${disk}`, ...CREATE)).status).toBe(0);
  await write(0, new Random(1).fill(new Uint8Array(2 * MIB)));
  await write(5000, new Random(2).fill(new Uint8Array(MIB)));
  await write(9000, Buffer.alloc(MIB, "compressible "));
});
afterAll(() => commands.remove());

async function write(block: number, data: Uint8Array): Promise<void> {
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  await client.write(block, data);
  await client.flush();
  await client.close();
  expected.set(data, block * 4096);
}

async function exported(name: string, ...words: string[]) {
  const output = join(commands.folder, name);
  const outcome = await commands.vdo("export", `--device=${disk}`, `--output=${output}`, ...words);
  return { ...outcome, output, image: await readFile(output).catch(() => Buffer.alloc(0)) };
}

async function unchanged<T>(work: () => Promise<T>): Promise<T> {
  const before = await stat(disk);
  const result = await work();
  const after = await stat(disk);
  expect([after.mtimeMs, after.ctimeMs, after.blocks]).toEqual([before.mtimeMs, before.ctimeMs, before.blocks]);
  return result;
}

test("a running volume is not exported; its NBD URI is the way", async () => {
  const refused = await exported("running.img");
  expect(refused).toMatchObject({
    status: 5,
    err: "vdo: ERROR - VDO volume v0 is running; stop it, or copy from its NBD URI\n",
  });
});

test("a volume whose daemon was killed gives all that was flushed", async () => {
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  const { status, out, image } = await unchanged(() => exported("dirty.img"));
  expect(out).toContain("(state DIRTY)");
  expect(out).toContain("Everything could be read.\n");
  expect(status).toBe(0);
  expect(firstDifference(image, expected)).toBe(-1);
});

test("a clean volume becomes a sparse image of the same content; an existing file is safe", async () => {
  expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
  const { status, out, output, image } = await unchanged(() => exported("clean.img"));
  expect({ status, out }).toEqual({
    status: 0,
    out: `Exporting ${disk} (state CLEAN) to ${output}\nExported 64.00 MB, 4.00 MB of it data.\nEverything could be read.\n`,
  });
  expect(firstDifference(image, expected)).toBe(-1);
  expect((await stat(output)).blocks * 512).toBeLessThan(8 * MIB);
  expect(await exported("clean.img")).toMatchObject({
    status: 7,
    err: `vdo: ERROR - ${output} exists already; replace it with --force\n`,
  });
  expect((await exported("clean.img", "--force")).status).toBe(0);
  const itself = await commands.vdo("export", `--device=${disk}`, `--output=${disk}`, "--force");
  expect(itself).toMatchObject({ status: 7, err: `vdo: ERROR - ${disk} is the storage of the volume itself\n` });
});

test("a copy of an NBD export into a new volume is verified", async () => {
  const source = new MemoryDevice({ blockCount: expected.length / 4096 });
  await source.write(0, expected);
  const server = new NbdServer({ exports: [{ name: "", device: source }] });
  const path = join(commands.folder, "source.sock");
  await server.listen({ path });
  const words = [`--from=nbd+unix:///?socket=${path}`, `--device=${join(commands.folder, "copy.img")}`];
  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
  const outcome = await commands.vdo("copy", "--name=copy", ...words, ...sizes);
  await server.close();
  expect(outcome).toMatchObject({ status: 0, err: "" });
  expect(outcome.out).toContain("      Copied 4.00 MB; the rest are zeros.\n");
  expect(outcome.out).toContain("      Verified: the volume holds what the source holds.\n");
  const reader = await NbdClient.connect((await commands.state("copy")).attach.path);
  const back = new Uint8Array(expected.length);
  await reader.read(0, back);
  await reader.close();
  expect(firstDifference(back, expected)).toBe(-1);
  await commands.vdo("remove", "--name=copy");
});

test("a file of any length is copied; the impossible is refused before anything is written", async () => {
  const file = join(commands.folder, "odd.bin");
  await writeFile(file, new Random(7).fill(new Uint8Array(3 * 4096 + 77)));
  const target = join(commands.folder, "odd.img");
  const device = `--device=${target}`;
  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
  const refused = async (...words: string[]) => {
    const { status, err } = await commands.vdo("copy", "--name=odd", device, ...sizes, ...words);
    await expect(stat(target)).rejects.toThrow("ENOENT");
    return `${status} ${err}`;
  };
  expect(await refused(`--from=${file}`, "--vdoLogicalSize=4K")).toContain("7 vdo: ERROR - ");
  expect(await refused(`--from=${file}.not`)).toBe(
    `7 vdo: ERROR - Device ${file}.not not found\n      Check the path, and that the storage is connected.\n`,
  );
  expect(await refused("--from=nbd+unix:///?socket=/nowhere")).toContain("7 vdo: ERROR - Cannot read nbd+unix:");
  expect(await refused(`--from=${file}`, "--activate=disabled")).toContain("the volume must run to be filled");
  const copied = await commands.vdo("copy", "--name=odd", device, ...sizes, `--from=${file}`);
  expect(copied).toMatchObject({ status: 0, err: "" });
  expect((await commands.vdo("status", "--name=odd")).out).toContain("    Logical size: 16K\n");
  await commands.vdo("remove", "--name=odd");
});

test("a damaged volume gives what can be read, and tells what cannot", async () => {
  expect((await commands.vdo("setReadOnly", `--device=${disk}`)).status).toBe(0);
  const file = await open(disk, "r+");
  // Another page of the block map in its place.
  const other = Buffer.alloc(4096);
  await file.read(other, 0, 4096, (FIRST_LEAF - 1) * 4096);
  await file.write(other, 0, 4096, FIRST_LEAF * 4096);
  await file.close();
  const { status, out, image } = await unchanged(() => exported("damaged.img"));
  expect(status).toBe(1);
  expect(out).toContain("(state READ_ONLY_MODE)");
  expect(out).toMatch(/\n812 of 16384 logical blocks could not be read; .*\n {2}blocks 0 to 811: /);
  const partly = Buffer.from(expected);
  partly.fill(0, 0, 812 * 4096);
  expect(firstDifference(image, partly)).toBe(-1);
});

test("what is no volume at all is told with the next step", async () => {
  const nothing = join(commands.folder, "nothing.img");
  await writeFile(nothing, "");
  await truncate(nothing, MIB);
  const outcome = await commands.vdo("export", `--device=${nothing}`, `--output=${nothing}.out`);
  expect(outcome.status).toBe(1);
  expect(outcome.err).toMatch(/VDO_BAD_MAGIC/);
  await expect(stat(`${nothing}.out`)).rejects.toThrow("ENOENT");
});
