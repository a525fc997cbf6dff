/** Options of start, create and import that reach the daemon. */
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

const SIZES = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=8M", "--attach=none"];

let commands: CommandLine;
let disk: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  await mkdir(join(commands.folder, "with space"));
  disk = join(commands.folder, "with space", "disk.img");
});
afterAll(() => commands.remove());

const connect = async () => NbdClient.connect((await commands.state("v0")).attach.path);

test("the log level of create is that of the daemon", async () => {
  const created = await commands.vdo("create", "--name=v0", `--device=${disk}`, "--vdoLogLevel=error", ...SIZES);
  expect(created).toMatchObject({ status: 0, err: "" });
  const log = join(commands.folder, "log/v0.log");
  expect(await readFile(log, "utf8")).toBe("");
  await commands.vdo("stop", "--name=v0");
  expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
  expect(await readFile(log, "utf8")).toContain("v0: INFO - VDO instance 0 volume is ready at ");
});

test("start --forceRebuild is for volumes in read-only mode", { timeout: 180_000 }, async () => {
  const client = await connect();
  await client.write(100, new Random(1).fill(new Uint8Array(64 * 4096)));
  await client.close();
  await commands.vdo("stop", "--name=v0");
  const refused = await commands.vdo("start", "--name=v0", "--forceRebuild");
  expect(refused).toEqual({
    status: 1,
    out: expect.stringMatching(/^Starting VDO v0\n {6}While it runs, .*\n$/),
    err: [
      "vdo: ERROR - Device v0 not read-only",
      "vdo: ERROR - Could not set up device mapper for v0",
      `vdo: ERROR - vdoforcerebuild: forceRebuild failed on '${disk}': VDO Status: The device is not in read-only mode`,
      "",
    ].join("\n"),
  });
  await commands.vdo("setReadOnly", "--name=v0");
  await commands.vdo("start", "--name=v0");
  expect((await commands.vdostats("v0", "--verbose")).out).toMatch(/operating mode +: read-only\n/);
  await commands.vdo("stop", "--name=v0");
  expect(await commands.vdo("start", "--name=v0", "--forceRebuild")).toMatchObject({ status: 0, err: "" });
  const { stats } = JSON.parse((await commands.vdostats("--json")).out)[0] as { stats: Record<string, unknown> };
  expect(stats).toMatchObject({ mode: "normal", readOnlyRecoveries: 1, logicalBlocksUsed: 64 });
});

test("a volume that LVM made is shown without its header", async () => {
  const data = new Random(1).fill(new Uint8Array(64 * 4096));
  await commands.vdo("remove", "--name=v0");
  const refused = await commands.vdo("import", "--name=v0", `--device=${disk}`, "--skipHeader=4M", "--attach=none");
  expect(refused.status).toBe(7);
  expect(refused.err).toContain("it is too large\n");
  const words = [`--device=${disk}`, "--skipHeader=512K", "--attach=none"];
  expect(await commands.vdo("import", "--name=v0", ...words)).toMatchObject({ status: 0, err: "" });
  const client = await connect();
  expect(client.blockCount * client.blockSize).toBe(7 * 1024 * 1024);
  const back = new Uint8Array(data.length - 28 * 4096);
  await client.read(0, back);
  expect(firstDifference(back, data.subarray(28 * 4096))).toBe(-1);
  await client.write(7 * 256 - 1, data.subarray(0, 4096));
  await client.close();
  expect((await commands.vdo("growLogical", "--name=v0", "--vdoLogicalSize=16M")).status).toBe(0);
  const grown = await connect();
  expect(grown.blockCount * grown.blockSize).toBe(15 * 1024 * 1024);
  await grown.close();
  await commands.vdo("stop", "--name=v0", "--force");
  const output = join(commands.folder, "out.img");
  const exported = await commands.vdo("export", "--name=v0", `--output=${output}`, "--skipHeader=512K");
  expect(exported).toMatchObject({ status: 0, err: "" });
  expect((await stat(output)).size).toBe(15 * 1024 * 1024);
  const image = await readFile(output);
  expect(firstDifference(image.subarray(7 * 2 ** 20 - 4096, 7 * 2 ** 20), data.subarray(0, 4096))).toBe(-1);
  expect(firstDifference(image.subarray(0, back.length), back)).toBe(-1);
});
