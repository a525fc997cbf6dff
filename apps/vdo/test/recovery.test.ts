/** A killed daemon's volume through the commands: read as it is, recovered, audited, put into read-only mode, rebuilt. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { kvdoEngine } from "@vdo/manager";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, processGone } from "./support/command-line.ts";

const CREATE = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
const data = new Random(3).fill(new Uint8Array(64 * 4096));

let commands: CommandLine;
let image: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  image = join(commands.folder, "disk.img");
});
afterAll(() => commands.remove());

async function withClient<T>(work: (client: NbdClient) => Promise<T>): Promise<T> {
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

const isRight = () =>
  withClient(async (client) => {
    const target = new Uint8Array(data.length);
    await client.read(0, target);
    return Buffer.compare(target, data) === 0;
  });

async function state(): Promise<string> {
  const device = await FileDevice.open({ path: image, readOnly: true });
  try {
    return (await kvdoEngine.inspect(device)).state;
  } finally {
    await device.close();
  }
}

const tool = (name: string, ...words: string[]) => commands.vdo(name, `--device=${image}`, ...words);

test("a volume whose daemon was killed is read as it is, without a byte written", async () => {
  expect((await commands.vdo("create", "--name=v0", `--device=${image}`, ...CREATE)).status).toBe(0);
  await withClient(async (client) => {
    await client.write(0, data);
    await client.flush();
  });
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  expect(await state()).toBe("DIRTY");
  const before = (await stat(image)).mtimeMs;
  expect((await commands.vdo("start", "--name=v0", "--readOnly")).status).toBe(0);
  expect(await isRight()).toBe(true);
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
  expect((await stat(image)).mtimeMs).toBe(before);
  expect(await state()).toBe("DIRTY");
});

test("its next start recovers it, and says so", async () => {
  const started = await commands.vdo("start", "--name=v0", "--verbose");
  expect(started).toMatchObject({ status: 0, err: "" });
  expect(started.out).toContain("VDO v0 was not stopped cleanly; recovering it\n");
  expect(started.out).toMatch(/^ {4}recovering: journal, \d+ %$/m);
  expect(await isRight()).toBe(true);
  const status = (await commands.vdo("status", "--name=v0")).out;
  expect(status).toMatch(/^ {8}operating mode: normal$/m);
  expect(status).not.toContain("Recovery progress");
});

test("tools that write refuse a running volume; an audit warns", async () => {
  for (const name of ["forceRebuild", "setReadOnly"]) {
    expect(await tool(name)).toEqual({
      status: 5,
      out: "",
      err: "vdo: ERROR - VDO volume v0 is running\n      Stop it first: vdo stop --name=v0\n",
    });
  }
  const audited = await commands.vdo("audit", "--name=v0");
  expect(audited.err).toContain("vdo: WARNING - VDO volume v0 is running");
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
});

test("an audit of a sound volume has vdoaudit's text and status", async () => {
  const err = "vdoaudit: Logical block count matched at 64\nvdoaudit: All pbn references matched.\n\n";
  expect(await tool("audit")).toEqual({ status: 0, out: "", err });
  expect(await commands.vdo("audit", "--name=v0", "--verbose")).toEqual({ status: 0, out: "", err });
});

test("only a volume in read-only mode is rebuilt, after what it loses was told", async () => {
  const refused = `vdoforcerebuild: forceRebuild failed on '${image}': VDO Status: The device is not in read-only mode\n`;
  expect(await tool("forceRebuild")).toEqual({ status: 212, out: "", err: refused });
  expect(await tool("setReadOnly")).toEqual({ status: 0, out: "", err: "" });
  expect(await state()).toBe("READ_ONLY_MODE");
  const keeps = `The rebuild of ${image} keeps 64 logical blocks and 4 block map pages, and loses nothing.\n`;
  expect(await tool("forceRebuild", "--dryRun")).toEqual({ status: 0, out: `${keeps}Nothing was written.\n`, err: "" });
  expect(await state()).toBe("READ_ONLY_MODE");
  const readable = await commands.vdo("start", "--name=v0");
  expect(readable.status).toBe(0);
  expect(readable.out).toContain("VDO v0 is in read-only mode; reading its journal\n");
  expect(readable.out).not.toContain("Starting compression");
  expect(readable.err).toMatch(
    /^vdo: WARNING - VDO v0 is in read-only mode: it can be read, .* vdo forceRebuild --name=v0 --dryRun$/m,
  );
  expect((await commands.vdo("status", "--name=v0")).out).toMatch(/^ {8}operating mode: read-only$/m);
  expect(await isRight()).toBe(true);
  await withClient(async (client) => {
    await expect(client.write(0, data)).rejects.toThrow();
  });
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
  const marked = await tool("forceRebuild");
  expect(marked).toEqual({ status: 0, out: `${keeps}The next start of the volume rebuilds it.\n`, err: "" });
  expect(await state()).toBe("FORCE_REBUILD");
  expect(await tool("forceRebuild")).toEqual({ status: 212, out: "", err: refused });
  const rebuilt = await commands.vdo("start", "--name=v0");
  expect(rebuilt).toMatchObject({ status: 0, err: "" });
  expect(rebuilt.out).toContain("VDO v0 is being rebuilt\n");
  const status = (await commands.vdo("status", "--name=v0")).out;
  expect(status).toMatch(/^ {8}operating mode: normal$/m);
  expect(status).toMatch(/^ {8}read-only recovery count: 1$/m);
  expect(await isRight()).toBe(true);
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
  expect((await tool("audit")).status).toBe(0);
});

test("what is no volume gets the tools' texts and statuses", async () => {
  const nowhere = join(commands.folder, "nowhere.img");
  const missing = (name: string) => commands.vdo(name, `--device=${nowhere}`);
  expect(await missing("setReadOnly")).toMatchObject({
    status: 2,
    err: `vdoreadonly: makeFileLayer failed on '${nowhere}'\n`,
  });
  expect(await missing("forceRebuild")).toMatchObject({
    status: 2,
    err: `vdoforcerebuild: makeFileLayer failed on '${nowhere}'\n`,
  });
  expect((await missing("audit")).status).toBe(1);
  const device = await FileDevice.open({ path: image });
  await device.write(0, new Uint8Array(4096));
  await device.close();
  const magic = "VDO Status: Bad magic number";
  expect(await tool("audit")).toEqual({
    status: 1,
    out: "",
    err: `vdoaudit: loading VDO failed with: ${magic}\nvdoaudit: Could not load VDO from '${image}': ${magic}\n`,
  });
  expect(await tool("setReadOnly")).toMatchObject({
    status: 207,
    err: `vdoreadonly: setting read-only mode failed on '${image}': ${magic}\n`,
  });
});

test("a storage or a name is needed, and not both", async () => {
  expect((await commands.vdo("audit")).status).toBe(2);
  expect((await tool("audit", "--name=v0")).status).toBe(2);
});
