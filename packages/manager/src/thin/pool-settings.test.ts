import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Configuration } from "../config/configuration.ts";
import { defaultSettings } from "../config/volume-settings.ts";
import { defaultPool, featuresOf, placeOf, poolFromPlain, sectorsOf } from "./pool-settings.ts";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-pools-"));
  path = join(folder, "vdoconf.yml");
});
afterEach(() => rm(folder, { recursive: true }));

const POOL = {
  ...defaultPool("pool0", { metadata: "/m", data: "/d" }),
  discard: "no_passdown" as const,
  size: 2 ** 40,
  lowWaterMark: 12,
  volumes: { "0": { size: 5 * 2 ** 30, origin: "" }, "7": { size: 0, origin: "/golden" } },
};

describe("pools in the configuration file", () => {
  test("are written beside volumes, read again, and keep the file alive alone", async () => {
    const configuration = await Configuration.load(path);
    configuration.volumes.set("v0", defaultSettings("v0", "/dev/x"));
    configuration.pools.set("pool0", { ...POOL, others: { later: 1 } });
    await configuration.save();
    const again = await Configuration.load(path);
    expect(again.getPool("pool0")).toEqual({ ...POOL, others: { later: 1 } });
    expect(again.names()).toEqual(["v0"]);
    again.volumes.delete("v0");
    await again.save();
    expect(await readFile(path, "utf8")).toContain("pool0");
    again.pools.clear();
    await again.save();
    await expect(readFile(path)).rejects.toThrow("ENOENT");
  });

  test("a file without pools is as the legacy manager writes it", async () => {
    const configuration = await Configuration.load(path);
    configuration.volumes.set("v0", defaultSettings("v0", "/dev/x"));
    await configuration.save();
    expect(await readFile(path, "utf8")).not.toContain("pools");
  });

  test.each([
    ["pools: 5", "'pools' is not a mapping"],
    ["pools: {p: 5}", "volume p"],
    ["pools: {p: {name: q, device: /x}}", "has the name q"],
    ["pools: {p: {name: p}}", "pool p: device"],
    ["pools: {p: {name: p, device: /x, metadataDevice: /m, dataDevice: /d}}", "pool p: device"],
    ["pools: {p: {name: p, device: /x, discard: often}}", "pool p: discard"],
    ["pools: {p: {name: p, device: /x, lowWaterMark: -1}}", "pool p: lowWaterMark"],
    ["pools: {p: {name: p, device: /x, readOnly: maybe}}", "pool p: readOnly"],
    ["pools: {p: {name: p, device: /x, size: big}}", "pool p: size"],
    ["pools: {p: {name: p, device: /x, volumes: []}}", "pool p: volumes"],
    ["pools: {p: {name: p, device: /x, volumes: {a: {size: 1G}}}}", "pool p: volumes a"],
    ["pools: {p: {name: p, device: /x, volumes: {1: {origin: [1]}}}}", "pool p: volumes 1 origin"],
  ])("%s is refused with its place", async (text, place) => {
    await writeFile(path, `config: !Configuration\n  ${text}\n  vdos: {}\n  version: 538380551\n`);
    await expect(Configuration.load(path)).rejects.toThrow(place);
    await expect(Configuration.load(path)).rejects.toMatchObject({ code: "VDO_WRONG_STATE" });
  });
});

test("settings tell place, features and sizes", () => {
  expect(placeOf(POOL)).toEqual({ metadata: "/m", data: "/d" });
  expect(placeOf(poolFromPlain({ name: "p", device: "/x" }, "p"))).toEqual({ device: "/x" });
  expect(featuresOf({ ...POOL, blockZeroing: "disabled", errorIfNoSpace: "enabled" })).toEqual({
    skipBlockZeroing: true,
    discard: "no_passdown",
    readOnly: false,
    errorIfNoSpace: true,
  });
  expect([sectorsOf(POOL, 0), sectorsOf(POOL, 7), sectorsOf(POOL, 8)]).toEqual([10 * 2 ** 20, 2 ** 31, 2 ** 31]);
  expect(sectorsOf({ ...POOL, size: 0 }, 8)).toBe(undefined);
});
