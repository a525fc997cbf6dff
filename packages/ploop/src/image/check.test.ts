import { beforeEach, describe, expect, test } from "vitest";
import { entriesOf, memoryImage, poke } from "../../test/support/images.ts";
import { PloopDevice } from "../device/ploop-device.ts";
import type { DeviceFile } from "../file/device-file.ts";
import { IN_USE } from "../format/header.ts";
import { checkImage } from "./check.ts";

/** An image whose clusters 0, 1 and 2 lie in file clusters 1, 2 and 3. */
async function image(version: 1 | 2 = 2): Promise<DeviceFile> {
  const file = await memoryImage("a.hds", { version });
  const device = await PloopDevice.open({ deltas: [{ file }], extendBytes: 1 });
  await device.write(0, new Uint8Array(3 * 32768).fill(7));
  await device.engine.idle();
  await device.engine.top.markClosed();
  return file;
}

const entry = (cluster: number): number => 64 + 4 * cluster;

describe("check", () => {
  let file: DeviceFile;
  beforeEach(async () => {
    file = await image();
  });

  test("skips an image that was closed, and finds nothing wrong with it when forced", async () => {
    expect(await checkImage(file)).toMatchObject({ result: "clean", skipped: true });
    expect(await checkImage(file, { force: true })).toMatchObject({
      result: "clean",
      skipped: false,
      findings: [],
      usedClusters: 3,
      unusedClusters: 0,
    });
  });

  test("says that the dirty flag is set, and takes it away when asked to", async () => {
    await poke(file, { 44: IN_USE.open, 52: 1 });
    expect((await checkImage(file)).result).toBe("dirty");
    expect((await checkImage(file, { dropInUse: true })).result).toBe("repaired");
    expect(await checkImage(file)).toMatchObject({ result: "clean", skipped: true });
  });

  test.each([
    ["beyond the last entry", entry(32), 1, "BAT entry 32", {}, "Fixed"],
    ["beyond the end of the file", entry(5), 4, "BAT entry 5", {}, "FATAL"],
    ["beyond the end of the file, hard force", entry(5), 0xffffffff, "BAT entry 5", { hardForce: true }, "Fixed"],
    ["twice", entry(5), 2, "BAT entry 5", {}, "FATAL"],
    ["twice, hard force", entry(5), 2, "BAT entry 5", { hardForce: true }, "Ignored"],
  ])("an entry %s is reported by its place", async (_name, offset, value, place, options, outcome) => {
    await poke(file, { [offset]: value });
    const report = await checkImage(file, { force: true, ...options });
    expect(report.findings).toEqual([{ place, text: expect.any(String), outcome }]);
    expect(report.result).toBe(outcome === "Fixed" ? "repaired" : "damaged");
    if (outcome !== "Fixed") return;
    expect((await checkImage(file, { force: true })).result).toBe("clean");
    expect(await entriesOf(file)).toEqual({ 0: 1, 1: 2, 2: 3 });
  });

  test("an entry of version 1 that is no multiple of the cluster, or lies in the BAT, is fatal", async () => {
    const old = await image(1);
    await poke(old, { [entry(7)]: 100, [entry(8)]: 32 });
    const report = await checkImage(old, { force: true });
    expect(report.findings.map(({ place, outcome }) => `${place} ${outcome}`)).toEqual([
      "BAT entry 7 FATAL",
      "BAT entry 8 FATAL",
    ]);
    expect((await checkImage(old, { hardForce: true })).result).toBe("repaired");
  });

  test("a file that is not whole clusters is extended when forced", async () => {
    await file.setLength(file.length + 512);
    expect((await checkImage(file)).findings[0]).toMatchObject({ place: "file length", outcome: "FATAL" });
    expect((await checkImage(file, { force: true })).result).toBe("repaired");
    expect(file.length % 32768).toBe(0);
  });

  test("an interrupted conversion is not touched", async () => {
    await poke(file, { 44: IN_USE.open, 52: 3 });
    expect((await checkImage(file, { hardForce: true })).findings[0]).toMatchObject({
      place: "flags",
      outcome: "FATAL",
    });
  });

  test("clusters that nobody names are counted, not reported", async () => {
    await poke(file, { [entry(1)]: 0 });
    expect(await checkImage(file, { force: true })).toMatchObject({ result: "clean", unusedClusters: 1 });
  });
});
