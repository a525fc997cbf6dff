/** The life of a daemon, with real processes, a real volume on a sparse file, and the NBD client of this repository. */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { link } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, processGone } from "./support/command-line.ts";

/** The smallest size that `create` takes with 128M slabs: the index alone has 2.6 GiB, all of it sparse. */
const CREATE = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];

const data = new Random(1).fill(new Uint8Array(64 * 4096));

let commands: CommandLine;
let image: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  image = join(commands.folder, "disk.img");
});
afterAll(() => commands.remove());

async function withClient<T>(work: (client: NbdClient) => Promise<T>): Promise<T> {
  const { attach } = await commands.state("v0");
  const client = await NbdClient.connect(attach.path);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

const readBack = () =>
  withClient(async (client) => {
    const target = new Uint8Array(data.length);
    await client.read(0, target);
    return Buffer.compare(target, data);
  });

test("create, write, look, stop, start, read back", async () => {
  const created = await commands.vdo("create", "--name=v0", `--device=${image}`, ...CREATE);
  expect(created).toMatchObject({ status: 0, err: "" });
  expect(created.out).toMatch(/^Creating VDO v0\n {6}Logical blocks defaulted to 64810 blocks\.\n/);
  expect(created.out).toMatch(/VDO instance 0 volume is ready at nbd\+unix:\/\/\/v0\?socket=.*\n$/);
  await withClient(async (client) => {
    await client.write(0, data);
    await client.write(1000, data);
    await client.flush();
  });
  expect(await commands.vdo("list")).toEqual({ status: 0, out: "v0\n", err: "" });
  const [entry] = JSON.parse((await commands.vdostats("--json")).out) as { stats: Record<string, number> }[];
  expect(entry?.stats).toMatchObject({ dataBlocksUsed: 64, logicalBlocksUsed: 128 });
  expect((await commands.vdostats("--human-readable")).out).toMatch(
    /^Device {6}Size {6}Used Available Use% Space saving%\nv0 {10}3\.0G {6}2\.8G .* 50%\n$/,
  );
  expect((await commands.vdo("status", "-n", "v0")).out).toContain("        saving percent: 50\n");
  const { pid } = await commands.state("v0");
  expect(await commands.vdo("stop", "-n", "v0")).toEqual({ status: 0, out: "Stopping VDO v0\n", err: "" });
  await processGone(pid);
  expect(existsSync(join(commands.folder, "run/v0"))).toBe(false);
  expect((await commands.vdo("start", "--all")).status).toBe(0);
  expect(await readBack()).toBe(0);
});

test("a second start leaves the daemon alone, and no other volume gets the storage", async () => {
  const { pid } = await commands.state("v0");
  const again = await commands.vdo("start", "--name=v0");
  expect(again).toMatchObject({
    status: 0,
    err: "vdo: WARNING - VDO service v0 already started; no changes made\n",
  });
  expect((await commands.state("v0")).pid).toBe(pid);
  const conf = `--confFile=${commands.folder}/other.yml`;
  const twin = await commands.vdo("create", "--name=twin", `--device=${image}`, "--force", "--attach=none", conf);
  expect(twin.status).toBe(5);
  const [error, next = ""] = twin.err.split("\n");
  expect(error).toBe(`vdo: ERROR - The device ${image} is in use by another running VDO.`);
  expect(next).toMatch(/^ {6}Stop that volume\./);
});

test("connected clients keep a volume from being stopped, unless forced", async () => {
  await withClient(async () => {
    const refused = await commands.vdo("stop", "--name=v0");
    expect(refused).toMatchObject({
      status: 5,
      err: "vdo: ERROR - cannot stop VDO volume v0: in use\n      Clients are connected (1): disconnect them, or cut them off with --force.\n",
    });
  });
  expect((await commands.vdo("list")).out).toBe("v0\n");
});

test("SIGTERM is a clean stop", async () => {
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGTERM");
  await processGone(pid);
  expect(existsSync(join(commands.folder, "run/v0"))).toBe(false);
  expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
  expect(await readBack()).toBe(0);
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
});

test("a volume served read-only is read and not changed", async () => {
  expect((await commands.vdo("start", "--name=v0", "--readOnly")).status).toBe(0);
  expect(await readBack()).toBe(0);
  await withClient(async (client) => {
    expect(client.readOnly).toBe(true);
  });
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
});

test("in the foreground the command is the daemon, on an inherited socket too, until it is interrupted", async () => {
  const inherited = join(commands.folder, "inherited.sock");
  const listener = createServer().listen(inherited);
  await once(listener, "listening");
  const { fd } = (listener as unknown as { _handle: { fd: number } })._handle;
  const child = commands.spawnVdo(["start", "--name=v0", "--foreground"], fd);
  let out = "";
  await new Promise<void>((resolve) => {
    child.stdout?.on("data", (text: Buffer) => {
      out += text;
      if (out.includes("ready at")) resolve();
    });
  });
  expect(out).toMatch(
    /^Starting VDO v0\n {6}While it runs, .*\nStarting compression on VDO v0\nVDO instance 0 volume is ready at /,
  );
  expect(await readBack()).toBe(0);
  // Closing our end removes the socket's name, so the service's socket gets another one first.
  await link(inherited, `${inherited}.kept`);
  listener.close();
  const client = await NbdClient.connect(`nbd+unix:///v0?socket=${inherited}.kept`);
  expect(client.blockCount).toBe(64810);
  await client.close();
  child.kill("SIGINT");
  const [status] = (await once(child, "exit")) as [number];
  expect(status).toBe(0);
});

test("a killed daemon is noticed and cleaned up after; its volume is recovered or refused, never taken for sound", async () => {
  expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  expect((await commands.vdo("list")).out).toBe("\n");
  const none = await commands.vdostats();
  expect([none.status, none.err.split("\n")[0]]).toEqual([1, "vdostats: Could not find any VDO devices"]);
  expect((await commands.vdo("stop", "--name=v0")).err).toBe("vdo: WARNING - VDO service v0 already stopped\n");
  expect(existsSync(join(commands.folder, "run/v0"))).toBe(false);
  const started = await commands.vdo("start", "--name=v0");
  if (started.status === 0) {
    expect(await readBack()).toBe(0);
    expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
  } else {
    expect(started.err).toMatch(
      /^vdo: ERROR - Could not set up device mapper for v0\nvdo: ERROR - .*disk\.img: .*DIRTY.*\(VDO_DIRTY\)/,
    );
    expect(existsSync(join(commands.folder, "run/v0"))).toBe(false);
  }
});

test("remove forgets the volume and leaves the file", async () => {
  expect(await commands.vdo("remove", "--name=v0")).toMatchObject({
    status: 0,
    out: "Removing VDO v0\nStopping VDO v0\n",
  });
  expect((await commands.vdo("list", "--all")).out).toBe("\n");
  expect(existsSync(image)).toBe(true);
});
