/** Requests over very large ranges take work in proportion to what is there, not to their length. */
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { format, VdoVolume } from "../src/index.ts";
import { workloadBlock } from "./support/workload-block.ts";

const LOGICAL_BLOCKS = 2 ** 40;

async function emptyVolume(): Promise<VdoVolume> {
  const device = new MemoryDevice({ blockCount: 720_213 });
  await format(device, { slabBits: 13, logicalSize: LOGICAL_BLOCKS * 4096 });
  return VdoVolume.open(device, { deduplication: false, compression: false });
}

test("a discard of 4 PiB of nothing is done at once, and one with islands unmaps just these", async () => {
  const volume = await emptyVolume();
  await volume.discard(0, LOGICAL_BLOCKS);
  expect(volume.statistics().journal.entries.started).toBe(0);
  const islands = [5, 811, 812, 48_719, 48_720, 39_560_640, 2 ** 39 + 7, LOGICAL_BLOCKS - 1];
  for (const at of islands) await volume.write(at, workloadBlock((at % 10_007) + 1));
  await volume.flush();
  expect(volume.statistics().logicalBlocksUsed).toBe(islands.length);
  const before = volume.statistics().journal.entries.started;
  await volume.discard(1, LOGICAL_BLOCKS - 1);
  await volume.flush();
  const after = volume.statistics();
  expect(after.logicalBlocksUsed).toBe(0);
  expect(after.journal.entries.started - before).toBe(islands.length);
  await volume.close();
});

test("the extents of 4 PiB are few calls, and name every island", async () => {
  const volume = await emptyVolume();
  const islands = [0, 100_000, 2 ** 38, LOGICAL_BLOCKS - 2];
  for (const at of islands) await volume.write(at, workloadBlock((at % 10_007) + 1));
  const found: number[] = [];
  let calls = 0;
  for (let at = 0; at < LOGICAL_BLOCKS; ) {
    for (const { count, hole } of await volume.extents(at, LOGICAL_BLOCKS - at)) {
      if (!hole) for (let i = 0; i < count; i++) found.push(at + i);
      at += count;
    }
    calls++;
  }
  expect(found).toEqual(islands);
  expect(calls).toBeLessThan(200);
  await volume.close();
});
