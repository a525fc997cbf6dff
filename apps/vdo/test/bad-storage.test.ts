/** Storage that holds no sound volume: each kind of damage is told apart, and nothing is stored or left running. */
import { existsSync } from "node:fs";
import { open, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

let commands: CommandLine;
let image: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  image = join(commands.folder, "disk.img");
});
afterAll(() => commands.remove());

async function format(): Promise<void> {
  await commands.vdo("remove", "--name=v0");
  const words = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--activate=disabled", "--force"];
  expect((await commands.vdo("create", "--name=v0", `--device=${image}`, ...words)).status).toBe(0);
  expect((await commands.vdo("remove", "--name=v0")).status).toBe(0);
}

async function patch(offset: number, bytes: Uint8Array): Promise<void> {
  const handle = await open(image, "r+");
  await handle.write(bytes, 0, bytes.length, offset);
  await handle.close();
}

/** First block of the data region: the super block behind a dense index of 0.25 GiB. */
const SUPER_BLOCK = 4096 * 679128;

describe("storage without a sound volume", () => {
  test.each<[damage: string, act: () => Promise<void>, text: RegExp]>([
    ["nothing but zeros", () => patch(0, new Uint8Array(4096)), /not a VDO volume.*VDO_BAD_MAGIC\)\. Check that/],
    ["another magic", () => patch(0, Buffer.from("dmvdo999")), /not a VDO volume.*dmvdo999.*VDO_BAD_MAGIC/],
    ["a flipped bit of the geometry", () => patch(50, Buffer.from([0xff])), /GeometryBlock.*VDO_CHECKSUM/],
    [
      "an unknown version of the geometry",
      () => patch(12, Buffer.from([9])),
      /GeometryBlock: version is 9.*Another version/,
    ],
    ["a wiped super block", () => patch(SUPER_BLOCK, new Uint8Array(4096)), /SuperBlock: version is 0.*VDO_/],
    [
      "a flipped bit of the super block",
      () => patch(SUPER_BLOCK + 60, Buffer.from([0xff])),
      /SuperBlock.*VDO_CHECKSUM/,
    ],
    ["a device that is cut short", () => truncate(image, 2 * 1024 ** 3), /only 524288 blocks: part of it is missing/],
    [
      "a device smaller than the super block says",
      () => truncate(image, 3 * 1024 ** 3 - 4096),
      /the volume has 786432 blocks of 4096 bytes, the device only 786431/,
    ],
    ["an empty file", () => truncate(image, 0), /device is 0 blocks/],
  ])("%s is refused by import and start, with a reason", async (_damage, act, text) => {
    await format();
    await act();
    const imported = await commands.vdo("import", "--name=v1", `--device=${image}`, "--attach=none");
    expect(imported.status).toBe(1);
    expect(imported.err).toMatch(/^vdo: ERROR - \/.*disk\.img: .*\(VDO_[A-Z_]+\)/m);
    expect(imported.err).toMatch(text);
    expect((await commands.vdo("list", "--all")).out).toBe("\n");
    expect(existsSync(join(commands.folder, "run/v1"))).toBe(false);
    await truncate(image, 0);
  });

  test("a volume whose storage went bad is told apart in the status, and the others are shown", async () => {
    await format();
    expect((await commands.vdo("import", "-nv0", `--device=${image}`, "--activate=disabled")).status).toBe(0);
    await writeFile(image, "short");
    const status = await commands.vdo("status");
    expect(status).toMatchObject({ status: 0, err: "" });
    expect(status.out).toMatch(/\nVDOs:\n {2}v0: .+\n$/);
  });
});
