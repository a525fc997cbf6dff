/** What a user reads when something goes wrong: what happened, where, and what to do; statuses as the legacy manager's. */
import { chmod, mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, processGone } from "./support/command-line.ts";

let commands: CommandLine;
let disk: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  disk = join(commands.folder, "disk.img");
});
afterAll(() => commands.remove());

const CREATE = ["--vdoSlabSize=128M", "--attach=none"];

/** Status, and the lines of the error. */
async function refused(...words: string[]): Promise<[status: number, ...lines: string[]]> {
  const { status, err } = await commands.vdo(...words);
  return [status, ...err.trimEnd().split("\n")];
}

test("storage that is missing, of the wrong kind, or too small", async () => {
  expect(await refused("create", "--name=v0", `--device=${disk}`, ...CREATE)).toEqual([
    7,
    `vdo: ERROR - Device ${disk} not found`,
    "      Check the path; --vdoPhysicalSize=SIZE makes a new file there.",
  ]);
  expect(await refused("create", "--name=v0", `--device=${commands.folder}`, ...CREATE)).toEqual([
    7,
    `vdo: ERROR - Device ${commands.folder} is neither a block device nor a regular file`,
    "      Name a disk, a partition, a logical volume, or an image file.",
  ]);
  await writeFile(disk, "");
  await truncate(disk, 100 * 1024 ** 2);
  const [status, text, ...more] = await refused("create", "--name=v0", `--device=${disk}`, ...CREATE);
  expect([status, ...more]).toEqual([1]);
  expect(text).toBe(
    `vdo: ERROR - ${disk}: 104857600 bytes are too few: the smallest volume with these options takes 3050655744 bytes ` +
      "(2.84 GiB), of which the index takes 2781704192 (2.59 GiB). Use a larger device, smaller slabs or a smaller index " +
      "(VDO_DEVICE_TOO_SMALL)",
  );
});

test("a configuration that cannot be read names the file", async () => {
  const folder = join(commands.folder, "etc");
  const file = join(folder, "vdoconf.yml");
  const advice = `      The file is ${file}: mend it, restore it from a backup, or name another by --confFile.`;
  await mkdir(folder, { recursive: true });
  for (const [content, status] of [
    ["a: [", 5],
    ["foo: 1\n", 5],
    ["config: !Configuration {}\n", 1],
  ] as const) {
    await writeFile(file, content);
    const outcome = await refused("list", "--all");
    expect([outcome[0], outcome[2]], content).toEqual([status, advice]);
  }
  await rm(file);
  await mkdir(file);
  expect(await refused("list", "--all")).toEqual([7, `vdo: ERROR - Cannot use ${file}: it is a folder`]);
  await rm(file, { recursive: true });
  expect((await refused("printConfigFile"))[2]).toBe("      vdo create makes it; --confFile names another one.");
});

test("names and storage that are taken say by whom; a start says what it takes of the memory", async () => {
  await rm(disk);
  const made = await commands.vdo("create", "--name=v0", `--device=${disk}`, "--vdoPhysicalSize=3G", ...CREATE);
  expect(made.status).toBe(0);
  expect((await refused("create", "--name=v0", `--device=${disk}`, ...CREATE)).slice(1)).toEqual([
    "vdo: ERROR - VDO volume v0 already exists",
    "      Choose another name, or remove it: vdo remove --name=v0",
  ]);
  expect((await refused("create", "--name=v1", `--device=${disk}`, ...CREATE)).slice(1)).toEqual([
    `vdo: ERROR - Device ${disk} already configured for VDO use`,
    "      It holds the volume v0: vdo start --name=v0 serves it.",
  ]);
  expect((await refused("start", "--name=v1"))[2]).toMatch(/^ {6}.*vdoconf\.yml has v0\.$/);
  await commands.vdo("stop", "--name=v0");
  const { out } = await commands.vdo("start", "--name=v0");
  expect(out.split("\n").slice(0, 2)).toEqual([
    "Starting VDO v0",
    expect.stringMatching(/^ {6}While it runs, the volume needs \S+ MB of memory \(index /),
  ]);
});

test("a daemon whose control socket is gone keeps its storage, and the error says how to end it", async () => {
  const { pid, ctlSocket } = await commands.state("v0");
  await rm(ctlSocket);
  const [status, , text, next] = await refused("start", "--name=v0");
  expect([status, text]).toEqual([5, `vdo: ERROR - The device ${disk} is in use by another running VDO.`]);
  expect(next).toContain("look with ps for its daemon, 'vdo _serve': SIGTERM stops it cleanly");
  process.kill(pid, "SIGTERM");
  await processGone(pid);
  expect(await commands.vdo("start", "--name=v0")).toMatchObject({ status: 0, err: "" });
});

test("a killed daemon is missed by commands that need it, and the next start recovers", async () => {
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  expect(await refused("growPhysical", "--name=v0")).toEqual([
    5,
    "vdo: ERROR - VDO volume v0 must be running",
    "      Start it first: vdo start --name=v0",
  ]);
  expect((await commands.vdo("start", "--name=v0")).out).toContain("VDO v0 was not stopped cleanly");
  await commands.vdo("stop", "--name=v0");
});

test("storage that was cut short and lengthened again is not taken for another version's", async () => {
  await truncate(disk, 2 * 1024 ** 3);
  await truncate(disk, 3 * 1024 ** 3);
  const [status, , text] = await refused("start", "--name=v0");
  expect(status).toBe(1);
  expect(text).toContain("Nothing is stored there: the storage was cut short and lengthened again, or overwritten.");
});

test("an address that cannot be had", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as { port: number };
  expect(await refused("metrics", `--listen=${port}`)).toEqual([
    6,
    `vdo: ERROR - Cannot listen on 127.0.0.1:${port}: another program listens there. Choose another with --listen=HOST:PORT`,
  ]);
  await new Promise((resolve) => other.close(resolve));
});

test("permissions that are missing name the object", async () => {
  const closed = join(commands.folder, "closed");
  await mkdir(closed);
  await writeFile(join(closed, "disk"), "");
  await chmod(closed, 0);
  const [status, text = ""] = await refused("create", "--name=v2", `--device=${closed}/disk`, ...CREATE);
  // Root may everything, and is told that the file is too small.
  if (process.getuid?.() === 0) expect([status, text]).toEqual([1, expect.stringContaining("0 bytes are too few")]);
  else
    expect([status, text]).toEqual([7, expect.stringContaining(`Permission denied: ${closed}/disk; you must be root`)]);
  await chmod(closed, 0o700);
});
