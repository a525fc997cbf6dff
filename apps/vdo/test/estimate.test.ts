/** The estimate against what a volume shows when it has really taken the same data. */
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

const BLOCK = 4096;

let commands: CommandLine;
beforeAll(async () => {
  commands = await CommandLine.make();
});
afterAll(() => commands.remove());

/** Data of several kinds: unique, seen before, zeros, and compressible to various degrees. */
function mixture(count: number): Buffer {
  const data = Buffer.alloc(count * BLOCK);
  for (let i = 0; i < count; i++) {
    const block = data.subarray(i * BLOCK, (i + 1) * BLOCK);
    const kind = i % 10;
    const seed = kind === 3 || kind === 4 ? Math.floor(i / 40) * 10 : i;
    const random = kind < 5 ? BLOCK : kind === 5 ? 0 : [200, 700, 1500, 2600][kind - 6];
    new Random(seed + 1).fill(block.subarray(0, random));
    if (kind > 5) block.fill(`line ${i} `, random);
  }
  return data;
}

test("is within 2 % of what a volume then shows", async () => {
  const data = mixture(6000);
  const folder = join(commands.folder, "data");
  await mkdir(join(folder, "deeper"), { recursive: true });
  await writeFile(join(folder, "a"), data.subarray(0, 2500 * BLOCK));
  await writeFile(join(folder, "deeper/b"), data.subarray(2500 * BLOCK));
  await symlink(join(folder, "a"), join(folder, "link"));
  const estimated = await commands.vdo("estimate", "--json", folder);
  expect(estimated).toMatchObject({ status: 0, err: "" });
  const report = JSON.parse(estimated.out) as Record<string, number>;
  expect(report).toMatchObject({ files: 2, unreadableFiles: 0, blocks: 6000, zeroBlocks: 600 });

  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
  const disk = `--device=${join(commands.folder, "disk.img")}`;
  expect((await commands.vdo("create", "--name=v0", disk, ...sizes)).status).toBe(0);
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  for (let at = 0; at < data.length; at += 256 * BLOCK) {
    await client.write(at / BLOCK, data.subarray(at, Math.min(data.length, at + 256 * BLOCK)));
  }
  await client.flush();
  await client.close();
  const shownStats = JSON.parse((await commands.vdostats("--json")).out) as { stats: Record<string, number> }[];
  const logicalBlocksUsed = shownStats[0]?.stats["logicalBlocksUsed"] ?? 0;
  const dataBlocksUsed = shownStats[0]?.stats["dataBlocksUsed"] ?? 0;
  expect(logicalBlocksUsed).toBe(6000);
  const shown = (100 * (logicalBlocksUsed - dataBlocksUsed)) / logicalBlocksUsed;
  expect(Math.abs((report["savingPercent"] as number) - shown)).toBeLessThan(2);
  expect(shown).toBeGreaterThan(30);
  await commands.vdo("remove", "--name=v0");
});

test("prints a table, and leaves out what cannot be read", async () => {
  const file = join(commands.folder, "one");
  await writeFile(file, new Random(5).fill(new Uint8Array(3 * BLOCK + 1)));
  const { status, out } = await commands.vdo("estimate", file, file, "--compression=disabled");
  expect(status).toBe(0);
  expect(out).toMatch(/^Looked at 1 file\n {2}data: +16\.00 KB \(4 blocks\)\n/);
  expect(out).toMatch(/\n {2}saving: +0\.0%\n$/);
  const missing = await commands.vdo("estimate", `${file}.not`);
  expect(missing.status).toBe(7);
  expect(missing.err).toContain(`vdo: ERROR - Cannot look at ${file}.not: ENOENT`);
  if (process.getuid?.() === 0) return;
  await chmod(file, 0);
  expect((await commands.vdo("estimate", file)).status).toBe(1);
});
