/** Growth of a volume that real clients write to, with a real daemon. */
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

const BLOCKS = 16;

let commands: CommandLine;
beforeAll(async () => {
  commands = await CommandLine.make();
});
afterAll(() => commands.remove());

const piece = (seed: number): Uint8Array => new Random(seed + 1).fill(new Uint8Array(BLOCKS * 4096));

async function connect(): Promise<NbdClient> {
  const { attach } = await commands.state("v0");
  return NbdClient.connect(attach.path);
}

test("a volume grows logically and physically while it is written to, and keeps every write", async () => {
  const image = join(commands.folder, "disk.img");
  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=1G", "--attach=none"];
  expect((await commands.vdo("create", "--name=v0", `--device=${image}`, ...sizes)).status).toBe(0);
  const client = await connect();
  let written = 0;
  let stopped = false;
  const load = (async () => {
    for (; !stopped; written++) {
      await client.write(written * BLOCKS, piece(written));
      if (written % 10 === 9) await client.flush();
    }
  })();
  expect(await commands.vdo("growLogical", "--name=v0", "--vdoLogicalSize=20G")).toEqual({
    status: 0,
    out: "",
    err: "",
  });
  expect(await commands.vdo("growPhysical", "--name=v0", "--vdoPhysicalSize=4G")).toEqual({
    status: 0,
    out: "",
    err: "",
  });
  const before = written;
  while (written < before + 20) await new Promise((resolve) => setTimeout(resolve, 5));
  stopped = true;
  await load;
  await client.close();
  const status = (await commands.vdo("status", "--name=v0")).out;
  expect(status).toContain("    Logical size: 20G\n");
  expect(status).toContain("    Physical size: 4G\n");
  const { out: config } = await commands.vdo("printConfigFile");
  expect(config).toContain("      logicalSize: 20G\n");
  expect(config).toContain("      physicalSize: 4G\n");

  const late = await connect();
  expect(late.blockCount * late.blockSize).toBe(20 * 1024 ** 3);
  const last = 20 * 2 ** 18 - BLOCKS;
  await late.write(last, piece(99));
  await late.close();
  await commands.vdo("stop", "--name=v0");
  expect(await commands.vdo("audit", "--name=v0")).toMatchObject({ status: 0 });

  expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
  const reader = await connect();
  const read = new Uint8Array(BLOCKS * 4096);
  for (let i = 0; i < written; i++) {
    await reader.read(i * BLOCKS, read);
    expect(Buffer.compare(read, piece(i)), `piece ${i}`).toBe(0);
  }
  await reader.read(last, read);
  expect(Buffer.compare(read, piece(99))).toBe(0);
  await reader.close();
});

test("growth that is none is refused with the legacy texts", async () => {
  const shrink = await commands.vdo("growLogical", "--name=v0", "--vdoLogicalSize=1G");
  expect(shrink).toEqual({ status: 7, out: "", err: "vdo: ERROR - Can't shrink a VDO volume (old size 20G)\n" });
  const same = await commands.vdo("growPhysical", "--name=v0");
  expect(same).toEqual({ status: 7, out: "", err: "vdo: ERROR - Can't grow a VDO volume by less than 4096 bytes\n" });
  const few = await commands.vdo("growPhysical", "--name=v0", "--vdoPhysicalSize=4097M");
  expect(few.status).toBe(1);
  expect(few.err).toMatch(
    /^vdo: ERROR - Device v0 could not be changed; Physical block growth of too few blocks: 1048832 blocks .* needs \d+\n$/,
  );
  await commands.vdo("stop", "--name=v0", "--force");
  const stopped = await commands.vdo("growLogical", "--name=v0", "--vdoLogicalSize=40G");
  expect(stopped).toEqual({
    status: 5,
    out: "",
    err: "vdo: ERROR - VDO volume v0 must be running\n      Start it first: vdo start --name=v0\n",
  });
});
