import { existsSync } from "node:fs";
import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { defaultSettings } from "../config/volume-settings.ts";
import { Daemon } from "../daemon/daemon.ts";
import type { Engine } from "../engine.ts";
import { TestMachine } from "../testing/machine.ts";
import { toyEngine } from "../testing/toy-engine.ts";
import type { VolumeHistory, VolumeSnapshot } from "./snapshot.ts";
import { VolumeSource } from "./volume-source.ts";

let machine: TestMachine;
let disk: string;
beforeEach(async () => {
  machine = await TestMachine.make();
  disk = join(machine.folder, "disk");
  await writeFile(disk, "");
  await truncate(disk, 4 * 1024 ** 2);
});
afterEach(() => machine.remove());

const create = (statusPage: string) =>
  machine.manager().create({ name: "v0", device: disk, settings: { attach: "none", statusPage }, force: false });

const tokenFile = () => machine.paths.volume("v0").tokenFile;

/** Address and token of the URL that the command told. */
function page(output: string): { url: string; token: string } {
  const [, url = "", token = ""] = /Status page: (http:\S+\/)#token=([\w-]+)/.exec(output) ?? [];
  return { url, token };
}

async function ask(path: string, { url, token }: { url: string; token: string }, body?: object): Promise<unknown> {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const sent = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  return (await fetch(new URL(path, url), sent)).json();
}

test("a volume has no page unless it was asked for", async () => {
  await machine.manager().create({ name: "v0", device: disk, settings: { attach: "none" }, force: false });
  expect(machine.takeOutput()).not.toContain("Status page");
  expect(existsSync(tokenFile())).toBe(false);
  expect(await machine.manager().status({ name: "v0" }, { pending: false })).toContain("    Status page: disabled\n");
});

test("start and status print the URL; only the daemon's user can read the token, and it ends with the daemon", async () => {
  await create("enabled");
  const told = page(machine.takeOutput());
  expect((await stat(tokenFile())).mode & 0o777).toBe(0o600);
  expect(await readFile(tokenFile(), "utf8")).toBe(`${told.token}\n`);
  expect(page(await machine.manager().status({ name: "v0" }, { pending: false }))).toEqual(told);
  const snapshot = (await ask("/api/snapshot", told)) as VolumeSnapshot;
  expect(snapshot).toMatchObject({
    name: "v0",
    stage: "ready",
    mode: "normal",
    compression: true,
    deduplication: true,
  });
  expect(snapshot.space).toMatchObject({ physicalBytes: 4 * 1024 ** 2, usedBytes: 40960, usedPercent: 1 });
  expect(snapshot.statistics).toEqual(machine.daemons.get("v0")?.statistics());
  expect((await readFile(machine.configurationFile, "utf8")).match(/statusPage: .*/)?.[0]).toBe("statusPage: enabled");
  await machine.manager().stop({ name: "v0" }, { force: false });
  expect(existsSync(tokenFile())).toBe(false);
  machine.takeOutput();
  await machine.manager().start({ name: "v0" }, { readOnly: false, timeoutSeconds: 0 });
  expect(page(machine.takeOutput()).token).not.toBe(told.token);
});

test("start overrides what is stored", async () => {
  await create("enabled");
  await machine.manager().stop({ name: "v0" }, { force: false });
  machine.takeOutput();
  await machine.manager().start({ name: "v0" }, { readOnly: false, timeoutSeconds: 0, statusPage: "disabled" });
  expect(machine.takeOutput()).not.toContain("Status page");
});

test("switches act on the running volume and are kept in the configuration", async () => {
  await create("enabled");
  const told = page(machine.takeOutput());
  expect(await ask("/api/compression", told, { enabled: false })).toMatchObject({ compression: false });
  expect(await ask("/api/deduplication", told, { enabled: false })).toMatchObject({
    deduplication: false,
    indexState: "closed",
  });
  const stored = await readFile(machine.configurationFile, "utf8");
  expect(stored).toContain("compression: disabled\n");
  expect(stored).toContain("deduplication: disabled\n");
  expect(await ask("/api/deduplication", told, { enabled: true })).toMatchObject({ deduplication: true });
});

test("a port in use leaves the volume without its page, and start and status say why", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as { port: number };
  await create(String(port));
  const text = `The status page cannot use port ${port} of 127.0.0.1: another program listens there.`;
  expect(machine.err).toContain(`vdo: WARNING - ${text}`);
  expect(machine.out).toContain("VDO instance 0 volume is ready at");
  expect(await machine.manager().status({ name: "v0" }, { pending: false })).toContain(text);
  expect(existsSync(tokenFile())).toBe(false);
  await new Promise((resolve) => other.close(resolve));
});

test("while a volume is recovered before it is served, the page tells how far that is, and switches nothing", async () => {
  await create("disabled");
  await machine.manager().stop({ name: "v0" }, { force: false });
  const settings = { ...defaultSettings("v0", disk), attach: "none" as const, statusPage: "enabled" };
  let url = "";
  let seen: unknown[] = [];
  const open: Engine["open"] = async (device, options) => {
    options.onRecovery?.({ phase: "block map", done: 1, of: 4, cause: "crash" });
    const told = { url, token: (await readFile(tokenFile(), "utf8")).trim() };
    seen = [await ask("/api/snapshot", told), await ask("/api/compression", told, { enabled: false })];
    return toyEngine.open(device, options);
  };
  const daemon = await Daemon.start({
    settings,
    readOnly: false,
    configurationFile: machine.configurationFile,
    environment: { ...machine.environment, engine: { ...toyEngine, open } },
    paths: machine.paths,
    log: (_level, text) => {
      url = /status page is at (\S+);/.exec(text)?.[1] ?? url;
    },
    logDescriptor: 2,
  });
  expect(seen).toEqual([
    expect.objectContaining({
      stage: "starting",
      mode: null,
      space: null,
      recovery: expect.objectContaining({ phase: "block map", done: 1, of: 4 }),
      notices: [expect.objectContaining({ title: "The volume is being recovered" })],
    }),
    { error: { code: "VDO_WRONG_STATE", message: "VDO v0 is starting; try again when it is ready" } },
  ]);
  await daemon.stop({ force: true });
});

test("samples tell rates and the space over time, at the distances that the history names", async () => {
  await create("disabled");
  const daemon = machine.daemons.get("v0");
  if (daemon === undefined) throw new Error("the daemon runs in this process");
  let now = 0;
  const clock = { now: () => now, wallMicroseconds: () => now * 1000, after: () => () => undefined };
  const source = new VolumeSource({ daemon, clock, moveSwitch: async () => undefined });
  const { activity } = daemon;
  for (let tick = 0; tick < 11; tick++) {
    now += 2000;
    if (activity !== undefined) {
      activity.write.requests += 10;
      activity.write.bytes += 40960;
      activity.write.seconds += 0.0625;
    }
    source.sample();
  }
  const history: VolumeHistory = source.history();
  expect(history.activity).toMatchObject({ intervalSeconds: 2 });
  expect(history.activity.samples).toHaveLength(11);
  expect(history.activity.samples.at(-1)).toEqual({
    at: 22,
    read: { requestsPerSecond: 0, bytesPerSecond: 0, milliseconds: null },
    write: { requestsPerSecond: 5, bytesPerSecond: 20480, milliseconds: 6.25 },
    flush: { requestsPerSecond: 0, bytesPerSecond: 0, milliseconds: null },
    discard: { requestsPerSecond: 0, bytesPerSecond: 0, milliseconds: null },
  });
  expect(history.space.intervalSeconds).toBe(10);
  expect(history.space.samples.map(({ at }) => at)).toEqual([2, 12, 22]);
  expect(source.snapshot().activity?.write.requestsPerSecond).toBe(5);
});
