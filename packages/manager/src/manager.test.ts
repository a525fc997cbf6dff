import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Configuration } from "./config/configuration.ts";
import { controlRequest } from "./control/client.ts";
import { exitStatus } from "./errors.ts";
import { TestMachine } from "./testing/machine.ts";

const MIB = 1024 ** 2;

let machine: TestMachine;
let disk: string;
beforeEach(async () => {
  machine = await TestMachine.make();
  disk = await makeDisk("disk");
});
afterEach(() => machine.remove());

async function makeDisk(name: string, bytes = 4 * MIB): Promise<string> {
  const path = join(machine.folder, name);
  await writeFile(path, "");
  await truncate(path, bytes);
  return path;
}

/** Exit status and last message of a command that must fail. */
async function failure(work: Promise<unknown>): Promise<{ status: number; message: string }> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  return { status: exitStatus(error), message: (error as Error).message };
}

const create = (name = "v0", device = disk, settings = {}) =>
  machine.manager().create({ name, device, settings: { attach: "none", ...settings }, force: false });

const start = (name = "v0") => machine.manager().start({ name }, { readOnly: false, timeoutSeconds: 0 });
const stop = (name = "v0", force = false) => machine.manager().stop({ name }, { force });
const remove = (name = "v0", force = false) => machine.manager().remove({ name }, { force });

describe("life cycle of a volume", () => {
  test("create prints the legacy lines, stores the volume and starts it", async () => {
    await create();
    const uri = `nbd+unix:///v0?socket=${machine.paths.volume("v0").nbdSocket}`;
    expect(machine.takeOutput()).toBe(
      [
        "Creating VDO v0",
        "      Logical blocks defaulted to 1023 blocks.",
        "      The VDO volume can address 2.00 GB in 1 data slab.",
        "      It can grow to address at most 16.00 TB of physical storage in 8192 slabs.",
        "      If a larger maximum size might be needed, use bigger slabs.",
        "      While it runs, the volume needs 384.00 MB of memory (index 256.00 MB, block map cache 128.00 MB).",
        "Starting VDO v0",
        "Starting compression on VDO v0",
        `VDO instance 0 volume is ready at ${uri}`,
        "",
      ].join("\n"),
    );
    const configuration = await Configuration.load(machine.configurationFile);
    expect(configuration.get("v0")).toMatchObject({
      _operationState: "finished",
      device: disk,
      logicalSize: 1023 * 4096,
      physicalSize: 4 * MIB,
      attach: "none",
    });
    expect(await machine.manager().list({ all: false })).toEqual(["v0"]);
  });

  test("stop closes the volume cleanly and leaves nothing behind; start serves it again", async () => {
    await create();
    machine.takeOutput();
    await stop();
    expect(machine.takeOutput()).toBe("Stopping VDO v0\n");
    expect(await machine.manager().list({ all: false })).toEqual([]);
    expect(await machine.manager().list({ all: true })).toEqual(["v0"]);
    await expect(stat(machine.paths.volume("v0").folder)).rejects.toThrow("ENOENT");
    await stop();
    expect(machine.takeOutput()).toBe("Stopping VDO v0\nvdo: WARNING - VDO service v0 already stopped\n");
    await start();
    expect(machine.takeOutput()).toContain("VDO instance 0 volume is ready at nbd+unix:///v0?socket=");
  });

  test("a second start changes nothing", async () => {
    await create();
    machine.takeOutput();
    const [daemon] = machine.daemons.values();
    await start();
    expect(machine.takeOutput()).toMatch(
      /^Starting VDO v0\nVDO instance 0 .*\nvdo: WARNING - VDO service v0 already started; no changes made\n$/,
    );
    expect([...machine.daemons.values()]).toEqual([daemon]);
  });

  test("instance numbers are the smallest that are free", async () => {
    await create("a", await makeDisk("a"));
    await create("b", await makeDisk("b"));
    await stop("a");
    await create("c", await makeDisk("c"));
    expect(machine.out.match(/VDO instance \d/g)).toEqual(["VDO instance 0", "VDO instance 1", "VDO instance 0"]);
  });

  test("remove stops, forgets, and wipes a file only by force", async () => {
    await create();
    machine.takeOutput();
    await remove();
    expect(machine.takeOutput()).toBe("Removing VDO v0\nStopping VDO v0\n");
    await expect(stat(machine.configurationFile)).rejects.toThrow("ENOENT");
    expect((await readFile(disk)).subarray(0, 8).toString()).toBe("dmvdo001");
    await machine.manager().create({ name: "v0", device: disk, settings: { attach: "none" }, force: true });
    await remove("v0", true);
    expect((await readFile(disk)).subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  test("import takes the sizes and the UUID from the storage", async () => {
    await create("v0", disk, { uuid: "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10", indexMemory: 0.5, slabSize: 128 * MIB });
    await remove();
    await machine.manager().import({ name: "v1", device: disk, settings: { attach: "none" } });
    const settings = (await Configuration.load(machine.configurationFile)).get("v1");
    expect(settings).toMatchObject({ slabSize: 128 * MIB, indexMemory: 0.5, logicalSize: 1023 * 4096, uuid: null });
    expect(machine.daemons.get("v1")?.state.uuid).toBe("1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10");
  });

  test("a volume that is not activated is created but not started", async () => {
    await create("v0", disk, { activated: "disabled" });
    expect(machine.takeOutput()).toMatch(/Starting VDO v0\nVDO volume created at .*\n$/);
    expect(await failure(start())).toEqual({ status: 5, message: "VDO volume v0 not activated" });
  });

  test("the sparse file of --vdoPhysicalSize is made, and deleted again when creating fails", async () => {
    const path = join(machine.folder, "new.img");
    const options = { name: "v0", device: path, settings: { attach: "none" as const }, force: false };
    await failure(machine.manager().create({ ...options, physicalSize: 8192 }));
    await expect(stat(path)).rejects.toThrow("ENOENT");
    await machine.manager().create({ ...options, physicalSize: 8 * MIB });
    expect(await stat(path)).toMatchObject({ size: 8 * MIB });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  test("switches are stored, and sent to a running volume", async () => {
    await create();
    machine.takeOutput();
    const manager = machine.manager();
    await manager.setCompression({ name: "v0" }, false);
    await manager.setCompression({ name: "v0" }, false);
    await manager.setDeduplication({ name: "v0" }, false);
    await manager.setDeduplication({ all: true }, true);
    expect(machine.takeOutput()).toBe(
      [
        "Disabling compression on vdo v0",
        "Stopping compression on VDO v0",
        "Disabling compression on vdo v0",
        "Disabling deduplication on vdo v0",
        "Enabling deduplication on vdo v0",
        "",
      ].join("\n"),
    );
    expect(machine.daemons.get("v0")?.volume.status()).toMatchObject({ compression: false, indexState: "online" });
    expect((await Configuration.load(machine.configurationFile)).get("v0").compression).toBe("disabled");
  });
});

describe("what is refused", () => {
  test.each<[title: string, settings: Record<string, unknown>, status: number, message: string]>([
    [
      "threads",
      { hashZoneThreads: 0 },
      7,
      "hash zone, logical and physical threads must either all be zero or all be non-zero",
    ],
    ["cache", { logicalThreads: 9 }, 7, "Insufficient block map cache for v0"],
    ["memory", { indexMemory: 1024 }, 7, "Not enough available memory in system for index requirement of 1T"],
  ])("values that do not go together, before anything is written: %s", async (_title, settings, status, message) => {
    expect(await failure(create("v0", disk, settings))).toEqual({ status, message });
    expect((await readFile(disk)).every((byte) => byte === 0)).toBe(true);
    await expect(stat(machine.configurationFile)).rejects.toThrow("ENOENT");
  });

  test("names, devices and UUIDs that are taken", async () => {
    const uuid = "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10";
    await create("v0", disk, { uuid });
    expect(await failure(create())).toEqual({ status: 7, message: "VDO volume v0 already exists" });
    expect(await failure(create("v1"))).toEqual({
      status: 7,
      message: `Device ${disk} already configured for VDO use`,
    });
    expect(await failure(create("v1", await makeDisk("other"), { uuid }))).toEqual({
      status: 5,
      message: `UUID ${uuid} already exists in VDO volume(s) stored on ${disk}`,
    });
    expect(await failure(create("", await makeDisk("third")))).toEqual({
      status: 7,
      message: "Missing required argument '--name'",
    });
  });

  test("storage with something on it, unless forced", async () => {
    await create();
    await remove();
    const { status, message } = await failure(create());
    expect(status).toBe(5);
    expect(message).toMatch(
      /^Found existing signature on .* at offset 0: LABEL="\(null\)" UUID="[-0-9a-f]{36}" TYPE="vdo" USAGE="other"\.\nCannot format device already containing a known signature!\nIf you are sure you want to format this device again, use the\n--force option\.$/,
    );
  });

  test("storage that is missing, a folder, or in use by another volume", async () => {
    const missing = join(machine.folder, "missing");
    expect(await failure(create("v0", missing))).toEqual({ status: 7, message: `Device ${missing} not found` });
    expect(await failure(create("v0", machine.folder))).toEqual({
      status: 7,
      message: `Device ${machine.folder} is neither a block device nor a regular file`,
    });
    await create();
    const configuration = await Configuration.load(machine.configurationFile);
    configuration.volumes.set("twin", { ...configuration.get("v0"), name: "twin" });
    await configuration.save();
    machine.takeOutput();
    expect(await failure(start("twin"))).toEqual({
      status: 5,
      message: `The device ${disk} is in use by another running VDO.`,
    });
    expect(machine.takeOutput()).toContain("vdo: ERROR - Could not set up device mapper for twin\n");
  });

  test("volumes that are unknown or in use", async () => {
    expect(await failure(start("nope"))).toEqual({ status: 7, message: "VDO volume nope not found" });
    await create();
    machine.connections = 1;
    expect(await failure(stop())).toEqual({ status: 5, message: "cannot stop VDO volume v0: in use" });
    expect(await machine.manager().list({ all: false })).toEqual(["v0"]);
    await stop("v0", true);
    expect(await machine.manager().list({ all: false })).toEqual([]);
  });

  test("a damaged volume: the error of the storage, nothing left running", async () => {
    await create();
    await stop();
    await writeFile(disk, Buffer.alloc(4 * MIB));
    machine.takeOutput();
    const { status, message } = await failure(start());
    expect({ status, message }).toEqual({
      status: 1,
      message: `${disk}: this is not a VDO volume: block 0 does not start with dmvdo001 (VDO_CORRUPT). The metadata is damaged: restore the storage from a backup, or make a new volume with vdo create --force`,
    });
    expect(await machine.manager().list({ all: false })).toEqual([]);
    await expect(stat(machine.paths.volume("v0").folder)).rejects.toThrow("ENOENT");
  });

  test("a start that fails within create: format and configuration are taken back", async () => {
    const { status, message } = await failure(create("v0", disk, { attach: "fuse" }));
    expect({ status, message }).toEqual({
      status: 6,
      message: "Cannot attach VDO v0: nbdfuse was not found (package libnbd-bin)",
    });
    expect((await readFile(disk)).subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    await expect(stat(machine.configurationFile)).rejects.toThrow("ENOENT");
    await expect(stat(machine.paths.volume("v0").folder)).rejects.toThrow("ENOENT");
    await create();
    expect(await machine.manager().list({ all: false })).toEqual(["v0"]);
  });

  test("two commands at once take turns, so no change is lost", async () => {
    const devices = await Promise.all(["a", "b", "c", "d"].map((name) => makeDisk(name)));
    await Promise.all(["a", "b", "c", "d"].map((name, i) => create(name, devices[i] as string)));
    expect(await machine.manager().list({ all: true })).toEqual(["a", "b", "c", "d"]);
    expect((await Configuration.load(machine.configurationFile)).names()).toEqual(["a", "b", "c", "d"]);
    const instances = [...machine.daemons.values()].map(({ state }) => state.instance);
    expect(instances.sort()).toEqual([0, 1, 2, 3]);
  });

  test("an interrupted create: refused everywhere, explained by remove, undone by remove --force", async () => {
    await create();
    await stop();
    const configuration = await Configuration.load(machine.configurationFile);
    configuration.get("v0")._operationState = "beginCreate";
    await configuration.save();
    const text = "VDO volume v0 previous operation (create) is incomplete; recover by performing 'remove --force'";
    expect(await failure(start())).toEqual({ status: 5, message: text });
    machine.takeOutput();
    expect(await failure(remove())).toEqual({ status: 5, message: text });
    expect(machine.takeOutput()).toContain(
      "A previous operation failed.\nRecovery from the failure either failed or was interrupted.\nAdd '--force' to 'remove' to perform the following cleanup.\nSteps to clean up VDO v0:\n",
    );
    expect(await machine.manager().status({ all: true })).toContain(`  v0: ${text}\n`);
    await remove("v0", true);
    expect(await machine.manager().list({ all: true })).toEqual([]);
  });

  test("an unknown operation state is an inconsistency", async () => {
    await create();
    const configuration = await Configuration.load(machine.configurationFile);
    configuration.get("v0")._operationState = "beginWhatever";
    await configuration.save();
    expect(await failure(stop())).toEqual({
      status: 4,
      message: "VDO volume v0 in unknown operation state: beginWhatever",
    });
  });

  test("with --all one failure does not stop the others, and all are reported", async () => {
    await create("a", await makeDisk("a"));
    await create("b", await makeDisk("b"));
    await create("c", await makeDisk("c"));
    await machine.manager().stop({ all: true }, { force: false });
    await writeFile(join(machine.folder, "a"), Buffer.alloc(4 * MIB));
    await writeFile(join(machine.folder, "b"), Buffer.alloc(4 * MIB));
    machine.takeOutput();
    const all = machine.manager().start({ all: true }, { readOnly: false, timeoutSeconds: 0 });
    expect((await failure(all)).status).toBe(1);
    expect(machine.err.match(/this is not a VDO volume/g)).toHaveLength(1);
    expect(await machine.manager().list({ all: false })).toEqual(["c"]);
  });
});

describe("what others see", () => {
  test("the control socket answers with results, texts of the kernel, and errors with a status", async () => {
    await create();
    const { controlSocket } = machine.paths.volume("v0");
    expect(await controlRequest(controlSocket, "ping")).toBe("ready");
    expect(await controlRequest(controlSocket, "status")).toBe(`0 8184 vdo ${disk} normal - online online 10 1024`);
    expect(await controlRequest(controlSocket, "config")).toBe(
      "{ version : 1, physicalSize : 4194304, logicalSize : 4190208, slabSize : 524288, index :  { memorySize : 0.25, isSparse : 0, }, }",
    );
    expect(await controlRequest(controlSocket, "table")).toBe(
      `0 8184 vdo V4 ${disk} 1024 4096 32768 16380 maxDiscard 1 ack 1 bio 4 bioRotationInterval 64 cpu 2 hash 1 logical 1 physical 1 deduplication on compression on`,
    );
    expect(await controlRequest(controlSocket, "stats", { form: "text" })).toMatch(
      /^\{ version : 36, dataBlocksUsed : 0, /,
    );
    expect(await failure(controlRequest(controlSocket, "growSideways"))).toEqual({
      status: 1,
      message: 'unknown operation "growSideways"',
    });
    expect((await failure(controlRequest(controlSocket, "message", { args: ["index-explode"] }))).status).toBe(7);
  });

  test("state.json and the sockets are where the specification says, with modest permissions", async () => {
    await create();
    const files = machine.paths.volume("v0");
    const state = JSON.parse(await readFile(files.stateFile, "utf8")) as Record<string, unknown>;
    expect(state).toMatchObject({ name: "v0", pid: process.pid, instance: 0, device: disk, version: "1.2.3" });
    expect((await stat(files.controlSocket)).mode & 0o007).toBe(0);
    expect((await stat(files.folder)).mode & 0o007).toBe(0);
  });

  test("status prints every key of a running and of a stopped volume", async () => {
    await create();
    const text = await machine.manager().status({ name: "v0" });
    expect(text).toMatch(/^VDO status:\n {2}Date: '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d'\n {2}Node: host1\n/);
    expect(text).toContain(
      "Kernel module:\n  Loaded: false\n  Name: kvdo\n  Version information:\n    kvdo version: 1.2.3\n",
    );
    expect(text).toContain(`    Device mapper status: 0 8184 vdo ${disk} normal - online online 10 1024\n`);
    expect(text).toContain("    Index status: online\n");
    expect(text).toContain("        1K-blocks: 4096\n");
    expect(text).toContain("        512 byte emulation: false\n");
    expect(text).toContain("        write amplification ratio: 0.0\n");
    expect(text).toContain("        saving percent: N/A\n");
    await stop();
    const stopped = await machine.manager().status({ all: true });
    expect(stopped).toContain("    Index status: not available\n");
    expect(stopped).toContain("    VDO statistics: not available\n");
    expect(stopped).toContain("    Physical size: 4M\n");
  });

  test("status without volumes, and printConfigFile without a file", async () => {
    expect(await machine.manager().status({ all: true })).toMatch(/\nVDOs: \{\}\n$/);
    expect(await failure(machine.manager().printConfigFile())).toEqual({
      status: 7,
      message: `Configuration file ${machine.configurationFile} does not exist.`,
    });
    await create();
    expect(await machine.manager().printConfigFile()).toMatch(
      new RegExp(
        `^config: !Configuration\n  vdos:\n    v0: !VDOService\n[\\s\\S]*\nfilename: ${machine.configurationFile}\n$`,
      ),
    );
  });
});
