/** A block device is estimated, and copied into a volume, like a file of the same content. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { controlRequest } from "@vdo/manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, runProgram } from "./support/command-line.ts";

let commands: CommandLine;
let loop: string;

describeWith(
  ["root", "losetup"],
  "a block device as a source",
  () => {
    beforeAll(async () => {
      commands = await CommandLine.make();
    });
    afterAll(async () => {
      await runProgram("losetup", ["-d", loop]);
      await commands.remove();
    });

    test("finds what it finds in a file, each storage once", async () => {
      const file = join(commands.folder, "content");
      const half = new Random(4).fill(new Uint8Array(1000 * 4096));
      await writeFile(file, Buffer.concat([half, half, Buffer.alloc(100 * 4096), Buffer.alloc(500 * 4096, "text ")]));
      loop = (await runProgram("losetup", ["--find", "--show", "--read-only", file])).out.trim();
      const ofFile = await commands.vdo("estimate", "--json", file);
      const ofDevice = await commands.vdo("estimate", "--json", loop, loop);
      expect(ofDevice).toEqual(ofFile);
      expect(JSON.parse(ofDevice.out)).toMatchObject({
        files: 1,
        blocks: 2600,
        zeroBlocks: 100,
        duplicateBlocks: expect.any(Number),
      });
    });

    test("is copied into a new volume, verified", async () => {
      const device = `--device=${join(commands.folder, "disk.img")}`;
      const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
      const copied = await commands.vdo("copy", "--name=v0", `--from=${loop}`, device, ...sizes);
      expect(copied).toMatchObject({ status: 0, err: "" });
      expect(copied.out).toContain("      Verified: the volume holds what the source holds.\n");
      const { ctlSocket } = await commands.state("v0");
      expect(await controlRequest(ctlSocket, "stats")).toMatchObject({ logicalBlocks: 2600, logicalBlocksUsed: 2500 });
    });
  },
  { describe, test },
);
