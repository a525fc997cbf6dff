import { rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TestMachine } from "../testing/machine.ts";
import { acquireMachineLock } from "./lock.ts";

const OPTIONS = { readOnly: false, timeoutSeconds: 0 };

let one: TestMachine;
let two: TestMachine;
let device: string;
beforeEach(async () => {
  [one, two] = [await TestMachine.make(), await TestMachine.make()];
  device = join(one.folder, "disk");
  await writeFile(device, "");
  await truncate(device, 4 * 1024 ** 2);
  await one.manager().create({ name: "v0", device, settings: { attach: "none" }, force: false });
});
afterEach(async () => {
  await one.remove();
  await two.remove();
});

test.runIf(process.platform === "linux")("a lock is had once on a machine, and again when it is released", async () => {
  const first = await acquireMachineLock(one.folder);
  expect(await acquireMachineLock(one.folder)).toBe(undefined);
  const other = await acquireMachineLock(two.folder);
  await first?.release();
  const again = await acquireMachineLock(one.folder);
  expect(again).toBeDefined();
  await again?.release();
  await other?.release();
});

test.runIf(process.platform === "linux")("storage in use is not opened from another runtime folder", async () => {
  const importing = two.manager().import({ name: "v0", device, settings: { attach: "none" } });
  await expect(importing).rejects.toThrow(`The device ${device} is in use by another running VDO.`);
});

test.runIf(process.platform === "linux")("nor when the runtime folder was deleted under a daemon", async () => {
  await rm(one.paths.runtimeRoot, { recursive: true });
  expect(await one.manager().list({ all: false })).toEqual([]);
  await expect(one.manager().start({ name: "v0" }, OPTIONS)).rejects.toThrow("is in use by another running VDO.");
});
