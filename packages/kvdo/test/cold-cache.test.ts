/** More leaves than the block map cache holds, all asked for at once of a volume that has read nothing yet. */
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../src/index.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../src/testing/tiny-volume.ts";
import { allSettle, settles } from "./support/settles.ts";

const TINY: TinyOptions = {
  slabBits: 12,
  slabs: 2,
  recoveryJournalBlocks: 64,
  slabJournalBlocks: 8,
  logicalBlocks: 500_000,
};
const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, maximumAge: 8 };
const LEAVES = 600;

test.each(["read", "write"] as const)("every %s is served", async (kind) => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  let volume = await VdoVolume.open(device, OPTIONS);
  for (let i = 0; i < LEAVES; i++) await volume.writeZeroes(i * 812, 1);
  await volume.close();
  volume = await VdoVolume.open(device, OPTIONS);
  const works = Array.from({ length: LEAVES }, (_, i) =>
    kind === "read" ? volume.read(i * 812, new Uint8Array(4096)) : volume.writeZeroes(i * 812 + 1, 1),
  );
  for (const outcome of await allSettle("all of them", works)) expect(outcome.status).toBe("fulfilled");
  await settles("flush", volume.flush());
  await settles("close", volume.close());
});
