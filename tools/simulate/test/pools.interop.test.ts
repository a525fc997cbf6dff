/** What thin_check and thin_dump say of pools after long histories: snapshots, deletions, discards, growth, crashes, faults. */
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryDevice } from "@vdo/block-device";
import { describeWith } from "@vdo/block-device/testing";
import { dump } from "@vdo/thin";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { drawPoolHistory } from "../src/thin/pool-history.ts";
import { PoolPlayer } from "../src/thin/pool-player.ts";

const SEEDS = 60;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-pools-"));
});
afterAll(() => rm(folder, { recursive: true }));

function run(program: string, ...words: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, words, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  return stdout;
}

describeWith(
  ["thin_check", "thin_dump"],
  "pools after long histories",
  () => {
    test(`of ${SEEDS} seeds are clean for thin_check, and thin_dump prints what ours prints`, async () => {
      const path = join(folder, "metadata");
      for (let seed = 3001; seed < 3001 + SEEDS; seed++) {
        const player = new PoolPlayer(drawPoolHistory(seed));
        await player.play();
        const image = await player.metadataImage();
        await writeFile(path, image);
        run("thin_check", "-q", path);
        let ours = "";
        for await (const piece of dump(MemoryDevice.from(image))) ours += piece;
        expect(run("thin_dump", path) === ours, `seed ${seed}`).toBe(true);
      }
    });
  },
  { describe, test },
);
