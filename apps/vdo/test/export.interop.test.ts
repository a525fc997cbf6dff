/** qcow2 images by qemu-img, from clean and from damaged volumes. */
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, runProgram } from "./support/command-line.ts";

const MIB = 1024 ** 2;
const FIRST_LEAF = 679_189 + 3;

let commands: CommandLine;
beforeAll(async () => {
  commands = await CommandLine.make();
});
afterAll(() => commands.remove());

async function exported(): Promise<void> {
  const disk = join(commands.folder, "disk.img");
  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=64M", "--attach=none"];
  expect((await commands.vdo("create", "--name=v0", `--device=${disk}`, ...sizes)).status).toBe(0);
  const expected = Buffer.alloc(64 * MIB);
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  for (const block of [0, 7000]) {
    const data = new Random(block + 1).fill(new Uint8Array(MIB));
    await client.write(block, data);
    expected.set(data, block * 4096);
  }
  await client.close();
  await commands.vdo("stop", "--name=v0", "--force");
  const asRaw = async (image: string): Promise<Buffer> => {
    const info = await runProgram("qemu-img", ["info", image]);
    expect(info.out).toContain("file format: qcow2");
    const converted = await runProgram("qemu-img", ["convert", "-O", "raw", image, `${image}.raw`]);
    expect(converted.err).toBe("");
    return readFile(`${image}.raw`);
  };
  const image = join(commands.folder, "clean.qcow2");
  const clean = await commands.vdo("export", "--name=v0", `--output=${image}`, "--format=qcow2");
  expect(clean).toMatchObject({ status: 0, err: "" });
  expect(firstDifference(await asRaw(image), expected)).toBe(-1);

  const file = await open(disk, "r+");
  const other = Buffer.alloc(4096);
  await file.read(other, 0, 4096, (FIRST_LEAF - 1) * 4096);
  await file.write(other, 0, 4096, FIRST_LEAF * 4096);
  await file.close();
  const partly = await commands.vdo("export", "--name=v0", `--output=${image}`, "--format=qcow2", "--force");
  expect(partly.status).toBe(1);
  expect(partly.out).toContain("\n812 of 16384 logical blocks could not be read");
  expected.fill(0, 0, 812 * 4096);
  expect(firstDifference(await asRaw(image), expected)).toBe(-1);
}

describeWith(
  ["qemu-img"],
  "an export",
  () => {
    test("of a qcow2 image holds what the volume holds, damage included", exported);
  },
  { describe, test },
);
