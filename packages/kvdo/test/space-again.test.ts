/** Space that was freed is there for what comes next, without a flush between; and nothing of it is lost over many rounds. */
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { VdoVolume } from "../src/index.ts";
import { audit } from "./support/audit.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 1,
  recoveryJournalBlocks: 64,
  slabJournalBlocks: 8,
  logicalBlocks: 200_000,
};

/** A block like no other of its number; compression is off, so it need not be random. */
function plainBlock(number: number): Uint8Array {
  const block = new Uint8Array(4096);
  new DataView(block.buffer).setUint32(0, number + 1);
  return block;
}

async function fill(volume: VdoVolume, seed: number): Promise<number> {
  const results = await Promise.allSettled(
    Array.from({ length: 1200 }, (_, i) => volume.write(i, plainBlock(seed + i))),
  );
  return results.filter((result) => result.status === "fulfilled").length;
}

test("what a discard frees is found by the very next writes, pages of the block map included", async () => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const volume = await VdoVolume.open(device, { deduplication: false, compression: false, maximumAge: 10 });
  const written = await fill(volume, 1);
  expect(written).toBeLessThan(1200);
  await volume.flush();
  await expect(volume.write(100_000, workloadBlock(9999))).rejects.toMatchObject({ code: "VDO_NO_SPACE" });
  // Five blocks are needed: four pages of a region that has none, and the data.
  await volume.discard(0, 5);
  await volume.write(100_000, workloadBlock(9999));
  await expect(volume.write(0, workloadBlock(10_000))).rejects.toMatchObject({ code: "VDO_NO_SPACE" });
  const back = new Uint8Array(4096);
  await volume.read(100_000, back);
  expect(Buffer.compare(back, workloadBlock(9999))).toBe(0);
  await volume.close();
  expect((await audit(device)).problems).toEqual([]);
});

test("a hundred times filled and emptied, a volume holds as much as the first time", async () => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  let volume = await VdoVolume.open(device, { deduplication: false, compression: false, maximumAge: 10 });
  const first = await fill(volume, 1);
  for (let round = 1; round <= 100; round++) {
    await volume.discard(0, 1200);
    expect(await fill(volume, round * 7), `round ${round}`).toBe(first);
    if (round % 25 !== 0) continue;
    await volume.close();
    expect((await audit(device)).problems).toEqual([]);
    volume = await VdoVolume.open(device, { deduplication: false, compression: false, maximumAge: 10 });
  }
  await volume.close();
});
