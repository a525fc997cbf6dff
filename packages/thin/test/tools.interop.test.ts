/** Our tools beside the originals of Debian 12 on pools of random histories: the same bytes. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describeWith, findProgram } from "@vdo/block-device/testing";
import { afterAll, describe, expect, test } from "vitest";
import { check, delta, dump, formatDelta, formatReverseMap, LS_FIELDS, ls, restore, reverseMap } from "../src/index.ts";
import { PoolMetadata } from "../src/metadata/pool-metadata.ts";
import { textOf } from "./support/golden.ts";

const DATA_BLOCKS = 40_000;

/** Metadata after a random history, with trees of several levels, deletions, snapshots of snapshots and a held snapshot. */
async function randomMetadata(seed: number): Promise<MemoryDevice> {
  const random = new Random(seed);
  const device = new MemoryDevice({ blockCount: 4096 });
  const pool = await PoolMetadata.open({ device, blockSectors: 256 });
  await pool.growData(DATA_BLOCKS);
  await pool.createThin(0);
  const ids = [0];
  for (let step = 1; step < 60; step++) {
    const id = random.pick(ids);
    const dice = random.below(10);
    const begin = random.below(5000);
    if (dice < 6) {
      const step = random.chance(0.3) ? 3 : 1;
      const blocks = await pool.allocate(1 + random.below(400));
      await pool.insert(
        id,
        blocks.map((block, i) => [begin + i * step, block] as const),
      );
    } else if (dice < 7) await pool.removeRange({ id, begin, end: begin + random.below(600) });
    else if (dice < 9) {
      await pool.createSnapshot(step, id);
      ids.push(step);
    } else if (ids.length > 4) {
      await pool.delete(id);
      ids.splice(ids.indexOf(id), 1);
    }
    if (random.chance(0.5)) await pool.commit();
    if (step === 40) await pool.reserveSnapshot();
  }
  pool.setTransactionId(0n, 99n);
  await pool.commit();
  return device;
}

/** `data 9..12 -> thin(10) 0..3` as single blocks: `9 10 0`. */
function expand(text: string): Set<string> {
  const entries = new Set<string>();
  for (const match of text.matchAll(/^data (\d+)\.\.(\d+) -> thin\((\d+)\) (\d+)\.\./gm)) {
    const [data, end, id, virtual] = match.slice(1).map(Number) as [number, number, number, number];
    for (let i = 0; i < end - data; i++) entries.add(`${data + i} ${id} ${virtual + i}`);
  }
  return entries;
}

describeWith(
  ["thin_check", "thin_dump", "thin_restore", "thin_ls", "thin_delta", "thin_rmap"],
  "beside the original tools",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "thin-tools-"));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const image = join(folder, "image");
    const theirs = (program: string, ...words: string[]): string =>
      execFileSync(findProgram(program) as string, words, {
        encoding: "utf8",
        maxBuffer: 1 << 28,
        stdio: ["ignore", "pipe", "pipe"],
      });
    const save = async (device: MemoryDevice): Promise<void> => {
      const bytes = new Uint8Array(device.blockCount * 4096);
      await device.read(0, bytes);
      writeFileSync(image, bytes);
    };

    test.each([1, 2, 3, 4, 5])("history %d is clean for thin_check, and every text is theirs", async (seed) => {
      const device = await randomMetadata(seed);
      expect((await check(device)).problems).toEqual([]);
      await save(device);
      expect(spawnSync(findProgram("thin_check") as string, ["-q", image]).status).toBe(0);
      for (const format of ["xml", "human_readable"] as const) {
        expect((await textOf(dump(device, { format }))) === theirs("thin_dump", "-f", format, image), format).toBe(
          true,
        );
      }
      expect((await textOf(dump(device, { metadataSnapshot: true }))) === theirs("thin_dump", "-m", image)).toBe(true);
      const fields = [...LS_FIELDS];
      expect(await ls(device, { fields })).toBe(theirs("thin_ls", "-o", fields.join(","), image));
      const ids = (await ls(device, { fields: ["DEV"], noHeaders: true })).trim().split(/\s+/).map(Number);
      for (const [left, right] of [
        [ids[0], ids[1]],
        [ids[1], ids.at(-1)],
      ] as [number, number][]) {
        const found = await delta(device, { left, right });
        const words = ["--thin1", String(left), "--thin2", String(right), image];
        expect(formatDelta(found) === theirs("thin_delta", ...words)).toBe(true);
        expect(formatDelta(found, true)).toBe(theirs("thin_delta", "--verbose", ...words));
      }
      // thin_rmap 0.9 passes over leaves that it has seen with another device: all it says is said here, and more.
      const reverse = formatReverseMap(await reverseMap(device, [{ begin: 100, end: 3000 }]));
      const [ours, original] = [expand(reverse), expand(theirs("thin_rmap", "--region", "100..3000", image))];
      expect([...original].filter((entry) => !ours.has(entry))).toEqual([]);
      expect(original.size).toBeGreaterThan(1000);
    });

    test("what thin_restore makes is read here, and what is restored here is clean and the same for thin_dump", async () => {
      const xml = await textOf(dump(await randomMetadata(6)));
      const source = join(folder, "dump.xml");
      writeFileSync(source, xml);
      writeFileSync(image, "");
      truncateSync(image, 16 << 20);
      theirs("thin_restore", "-q", "-i", source, "-o", image);
      const made = MemoryDevice.from(new Uint8Array(readFileSync(image)));
      expect(await textOf(dump(made))).toBe(xml);
      const { counts } = await check(made);
      expect([counts.fatal, counts["non-fatal"]]).toEqual([0, 0]);
      const ours = new MemoryDevice({ blockCount: 4096 });
      await restore(
        (async function* () {
          yield xml;
        })(),
        ours,
      );
      await save(ours);
      expect(spawnSync(findProgram("thin_check") as string, ["-q", image]).status).toBe(0);
      expect(theirs("thin_dump", image) === xml).toBe(true);
    });
  },
  { describe, test },
);
