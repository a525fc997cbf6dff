/** Growth, settings and write policy, around volumes that are no more than their storage. */
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

async function makeDisk(name: string): Promise<string> {
  const path = join(machine.folder, name);
  await writeFile(path, "");
  await truncate(path, 4 * MIB);
  return path;
}

async function create(name = "v0", device = disk): Promise<void> {
  await machine.manager().create({ name, device, settings: { attach: "none" }, force: false });
  machine.takeOutput();
}

async function failure(work: Promise<unknown>): Promise<{ status: number; message: string }> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  return { status: exitStatus(error), message: (error as Error).message };
}

const manager = () => machine.manager();
const stop = () => manager().stop({ name: "v0" }, { force: false });
const stored = async (name = "v0") => (await Configuration.load(machine.configurationFile)).get(name);

/** Has the configuration say that an operation on v0 was cut off. */
async function interrupt(state: string, changes: object = {}): Promise<void> {
  const configuration = await Configuration.load(machine.configurationFile);
  Object.assign(configuration.get("v0"), { _operationState: state, ...changes });
  await configuration.save();
}

describe("growth", () => {
  test("logical: silent, stored, and only upwards", async () => {
    await create();
    await manager().growLogical({ name: "v0", logicalSize: 64 * MIB + 100 });
    expect(machine.takeOutput()).toBe("");
    expect(await stored()).toMatchObject({ logicalSize: 64 * MIB, _operationState: "finished" });
    expect(await failure(manager().growLogical({ name: "v0", logicalSize: 64 * MIB + 4095 }))).toEqual({
      status: 7,
      message: "Can't grow a VDO volume by less than 4096 bytes",
    });
    expect(await failure(manager().growLogical({ name: "v0", logicalSize: 4096 }))).toEqual({
      status: 7,
      message: "Can't shrink a VDO volume (old size 64M)",
    });
  });

  test("physical: takes what the storage has become larger by, and can enlarge a file itself", async () => {
    await create();
    expect(await failure(manager().growPhysical({ name: "v0" }))).toEqual({
      status: 7,
      message: "Can't grow a VDO volume by less than 4096 bytes",
    });
    await truncate(disk, 8 * MIB + 5);
    await manager().growPhysical({ name: "v0" });
    expect((await stored()).physicalSize).toBe(8 * MIB);
    await manager().growPhysical({ name: "v0", physicalSize: 16 * MIB });
    expect((await stored()).physicalSize).toBe(16 * MIB);
    expect((await stat(disk)).size).toBe(16 * MIB);
    expect(await failure(manager().growPhysical({ name: "v0", physicalSize: 8 * MIB }))).toEqual({
      status: 7,
      message: "Can't shrink a VDO volume (old size 16M)",
    });
    expect((await stat(disk)).size).toBe(16 * MIB);
  });

  test("a growth that the volume refuses tells the kernel's reason, and changes nothing", async () => {
    await create();
    await truncate(disk, 4 * MIB + 4096);
    expect(await failure(manager().growPhysical({ name: "v0" }))).toEqual({
      status: 1,
      message: "Device v0 could not be changed; Physical block growth of too few blocks: 1025 blocks are too few",
    });
    expect(await stored()).toMatchObject({ physicalSize: 4 * MIB, _operationState: "finished" });
  });

  test("only running volumes grow", async () => {
    await create();
    await stop();
    const refused = { status: 5, message: "VDO volume v0 must be running" };
    expect(await failure(manager().growLogical({ name: "v0", logicalSize: 64 * MIB }))).toEqual(refused);
    expect(await failure(manager().growPhysical({ name: "v0", physicalSize: 64 * MIB }))).toEqual(refused);
    expect((await stat(disk)).size).toBe(4 * MIB);
    expect((await failure(manager().growLogical({ name: "nope", logicalSize: 64 * MIB }))).status).toBe(7);
  });

  test.each(["beginGrowLogical", "beginGrowPhysical"])("%s that was cut off: the storage tells", async (state) => {
    await create();
    await manager().growLogical({ name: "v0", logicalSize: 64 * MIB });
    await interrupt(state, { logicalSize: MIB });
    expect(await manager().status({ name: "v0" })).toContain("previous operation (grow ");
    await stop();
    expect(await stored()).toMatchObject({ logicalSize: 64 * MIB, _operationState: "finished" });
  });
});

describe("settings", () => {
  test("activate and deactivate", async () => {
    await create();
    await manager().setActivated({ name: "v0" }, true);
    await manager().setActivated({ name: "v0" }, false);
    await manager().setActivated({ all: true }, false);
    await stop();
    const start = manager().start({ name: "v0" }, { readOnly: false, timeoutSeconds: 0 });
    expect(await failure(start)).toEqual({ status: 5, message: "VDO volume v0 not activated" });
    await manager().setActivated({ all: true }, true);
    expect(machine.takeOutput()).toBe(
      "v0 already activated\nDeactivating VDO v0\nv0 already deactivated\nStopping VDO v0\nActivating VDO v0\n",
    );
  });

  test("modify stores, checks the threads together, and tells of a running volume", async () => {
    await create();
    await manager().modify({ name: "v0" }, { bioThreads: 8, maxDiscardSize: MIB });
    expect(machine.takeOutput()).toBe("Note: Changes will not apply until VDO v0 is restarted\n");
    expect(await stored()).toMatchObject({ bioThreads: 8, maxDiscardSize: MIB });
    expect(await failure(manager().modify({ name: "v0" }, { logicalThreads: 0 }))).toEqual({
      status: 7,
      message: "hash zone, logical and physical threads must either all be zero or all be non-zero",
    });
    expect((await stored()).logicalThreads).toBe(1);
    await stop();
    machine.takeOutput();
    await manager().modify({ all: true }, { logicalThreads: 0, hashZoneThreads: 0, physicalThreads: 0 });
    expect(machine.takeOutput()).toBe("");
  });

  test.each([
    [
      { bioThreads: 101 },
      "Invalid optional argument configuration (thread config string error: at most 100 'bio' threads are allowed)",
    ],
    [
      { cpuThreads: 0 },
      "Invalid optional argument configuration (thread config string error: at least one 'cpu' thread required)",
    ],
    [
      { logicalThreads: 61, blockMapCacheSize: 2 ** 30 },
      "Invalid optional argument configuration (thread config string error: at most 60 'logical' threads are allowed)",
    ],
    [
      { bioRotationInterval: 1025 },
      "Invalid optional argument configuration (thread config string error: 'bioRotationInterval' cannot be higher than 1024)",
    ],
    [{ hashZoneThreads: 0 }, "Logical, physical, and hash zones counts must all be zero or all non-zero"],
  ])(
    "thread counts of a configuration that was edited, %j, are refused with the kernel's texts",
    async (edit, reason) => {
      await create();
      await stop();
      await interrupt("finished", edit);
      const start = manager().start({ name: "v0" }, { readOnly: false, timeoutSeconds: 0 });
      expect(await failure(start)).toEqual({ status: 1, message: `Device v0 could not be activated; ${reason}` });
    },
  );

  test("modify --uuid writes to the storage at once, when it can", async () => {
    const uuid = "0e4ee0ee-cbd1-4bb2-ae1a-5c2c7cdc2c52";
    await create();
    await manager().modify({ name: "v0" }, { uuid });
    expect(machine.takeOutput()).toBe("Can't modify uuid on VDO v0 while it is running. Skipping change.\n");
    await stop();
    await create("other", await makeDisk("other"));
    await manager().modify({ name: "v0" }, { uuid });
    expect(machine.takeOutput()).toBe("");
    expect((await readFile(disk)).subarray(40, 56).toString("hex")).toBe(uuid.replaceAll("-", ""));
    await manager().stop({ name: "other" }, { force: false });
    machine.takeOutput();
    await manager().modify({ name: "other" }, { uuid });
    expect(machine.takeOutput()).toBe(
      `Can't modify uuid on VDO other. Skipping change: UUID ${uuid} already exists in VDO volume(s) stored on ${disk}.\n`,
    );
    expect(await failure(manager().modify({ all: true }, { uuid }))).toEqual({
      status: 7,
      message: "Cannot change uuid to a specific value when --all is set",
    });
  });

  test("the write policy is stored, and a running volume follows at once", async () => {
    await create();
    const daemon = machine.daemons.get("v0");
    await manager().changeWritePolicy({ name: "v0" }, "sync");
    expect(machine.takeOutput()).toBe("");
    expect((await stored()).writePolicy).toBe("sync");
    expect(daemon?.settings.writePolicy).toBe("sync");
    await interrupt("beginRunningSetWritePolicy", { writePolicy: "async" });
    await manager().changeWritePolicy({ name: "v0" }, "async");
    expect(daemon?.settings.writePolicy).toBe("async");
    expect((await stored())._operationState).toBe("finished");
    const { controlSocket } = machine.paths.volume("v0");
    expect((await failure(controlRequest(controlSocket, "writePolicy", { policy: "fast" }))).status).toBe(7);
  });
});
