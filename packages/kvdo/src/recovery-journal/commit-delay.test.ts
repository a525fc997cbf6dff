import { systemClock } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { formatTiny, type TinyOptions, tinyBlocks } from "../../test/support/tiny-volume.ts";
import { VdoVolume } from "../index.ts";

const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 2,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 100_000,
};

/** A clock whose timers never fire: whatever completes does not depend on one. */
const stopped = { ...systemClock, after: () => () => undefined };

test("nothing that a user waits for waits for the commit timer", async () => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const volume = await VdoVolume.open(device, { deduplication: false, clock: stopped, maximumAge: 10 });
  const block = new Uint8Array(4096).fill(7);
  // The first write of a region allocates four pages, each committed before the next.
  await volume.write(0, block);
  await volume.write(50_000, block, { fua: true });
  await volume.flush();
  // The same logical block again: the second waits for the first one's lock.
  await Promise.all([volume.write(3, block), volume.write(3, new Uint8Array(4096).fill(8))]);
  const back = new Uint8Array(4096);
  await volume.read(3, back);
  expect(back[0]).toBe(8);
  await volume.discard(0, 1, { fua: true });
  await volume.close();
});
