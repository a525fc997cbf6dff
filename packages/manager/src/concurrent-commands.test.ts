/** Commands at the same moment; and starts beside other commands, since a recovery may take minutes. */
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Launcher } from "./daemon/launcher.ts";
import { Manager } from "./manager.ts";
import { TestMachine } from "./testing/machine.ts";

const OPTIONS = { readOnly: false, timeoutSeconds: 0 };

let machine: TestMachine;
beforeEach(async () => {
  machine = await TestMachine.make();
  for (const name of ["v0", "v1"]) {
    const device = join(machine.folder, name);
    await writeFile(device, "");
    await truncate(device, 4 * 1024 ** 2);
    await machine.manager().create({ name, device, settings: { attach: "none" }, force: false });
  }
  await machine.manager().stop({ name: "v0" }, { force: false });
  machine.takeOutput();
});
afterEach(() => machine.remove());

/** A manager whose daemons are launched by `launcher`. */
const managerWith = (launcher: Launcher): Manager =>
  new Manager({ environment: { ...machine.environment, launcher }, log: machine.log() });

test("a start that takes its time keeps no other command waiting", async () => {
  let go!: () => void;
  const wait = new Promise<void>((resolve) => {
    go = resolve;
  });
  let begun!: () => void;
  const launched = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const slow = managerWith(async (request) => {
    begun();
    await wait;
    return machine.environment.launcher(request);
  });
  const starting = slow.start({ name: "v0" }, OPTIONS);
  await launched;
  await machine.manager().modify({ name: "v1" }, { bioThreads: 7 });
  await machine.manager().stop({ name: "v1" }, { force: false });
  go();
  await starting;
  expect(machine.takeOutput()).toContain("VDO instance 0 volume is ready at ");
  expect(await machine.manager().printConfigFile()).toContain("bioThreads: 7\n");
});

test("of two starts at the same moment the one that is too late changes nothing", async () => {
  const late = managerWith(async (request) => {
    // The other one is faster, after this one has looked.
    await machine.environment.launcher(request);
    return machine.environment.launcher(request);
  });
  await late.start({ name: "v0" }, OPTIONS);
  expect(machine.takeOutput()).toMatch(
    /VDO instance 0 volume is ready at .*\nvdo: WARNING - VDO service v0 already started; no changes made\n$/,
  );
});

test("with --all each failure is told, and the others are started", async () => {
  await machine.manager().stop({ name: "v1" }, { force: false });
  machine.takeOutput();
  const half = managerWith(async (request) => {
    if (request.name === "v0") throw new Error("no");
    return machine.environment.launcher(request);
  });
  await expect(half.start({ all: true }, OPTIONS)).rejects.toThrow("no");
  expect(await machine.manager().list({ all: false })).toEqual(["v1"]);
});

test("of two creations on one file at the same moment one is refused", async () => {
  const device = join(machine.folder, "shared");
  await writeFile(device, "");
  await truncate(device, 4 * 1024 ** 2);
  const make = (name: string): Promise<void> =>
    machine.manager().create({ name, device, settings: { attach: "none" }, force: false });
  const results = await Promise.allSettled([make("a"), make("b")]);
  const refusals = results.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
  expect(refusals).toEqual([expect.stringContaining(`Device ${device} already configured for VDO use`)]);
  expect(await machine.manager().list({ all: true })).toHaveLength(3);
});
