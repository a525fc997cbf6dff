/** The order of I/O on which crash safety rests, and what an acknowledgement means, over random histories. */
import { Random } from "@vdo/base";
import type { BlockDevice, WriteOptions } from "@vdo/block-device";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../src/index.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../src/testing/tiny-volume.ts";
import { OrderChecker } from "./support/order-checker.ts";
import { pagesOf, regionsOf } from "./support/regions.ts";
import { allSettle, settles } from "./support/settles.ts";
import { workloadBlock } from "./support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 11,
  slabs: 3,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 4,
  logicalBlocks: 400_000,
};
const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, maximumAge: 2, dataVios: 200 };
const LEAVES = 250;

async function checkedDisk(seed: number): Promise<{ disk: SimulatedDisk; checker: OrderChecker }> {
  const disk = new SimulatedDisk({ blockCount: tinyBlocks(TINY), seed, batchMax: 64 });
  await formatTiny(disk, TINY);
  await disk.flush();
  return { disk, checker: new OrderChecker(disk, await regionsOf(disk)) };
}

/** Bursts of writes, zeros, discards and flushes on a device; ends with a clean stop. */
async function history(device: BlockDevice, seed: number, bursts: number): Promise<void> {
  const random = new Random(seed);
  const volume = await VdoVolume.open(device, OPTIONS);
  for (let burst = 0; burst < bursts; burst++) {
    const works: Promise<void>[] = [];
    for (let i = 0; i < 120; i++) {
      const at = random.below(LEAVES) * 812 + random.below(20);
      const fua = random.chance(0.05);
      const dice = random.below(10);
      const number = random.below(400);
      if (dice === 0) works.push(volume.discard(at, 1 + random.below(3), { fua }));
      else if (dice === 1) works.push(volume.writeZeroes(at, 1, { fua }));
      else works.push(volume.write(at, workloadBlock(number, number % 2 === 0 ? 800 : 4096), { fua }));
      if (random.chance(0.01)) works.push(volume.flush());
    }
    await allSettle("a burst", works, 20_000);
    if (random.chance(0.1)) {
      await volume.suspend({ save: random.chance(0.5) });
      await volume.resume();
    }
  }
  await settles("close", volume.close(), 20_000);
}

test.each([1, 2, 3])("every write comes after what it rests on (seed %i)", async (seed) => {
  const { disk, checker } = await checkedDisk(seed);
  await history(checker, seed, 40);
  // Once more, on pages, counts and summaries that exist.
  const again = new OrderChecker(disk, await regionsOf(disk));
  await history(again, seed + 100, 15);
  expect(checker.problems, `seed ${seed}`).toEqual([]);
  expect(again.problems, `seed ${seed}`).toEqual([]);
  for (const [kind, count] of Object.entries(checker.checked)) expect(count, kind).toBeGreaterThan(0);
});

/** What is between an engine that orders nothing and the checker. */
class Careless implements BlockDevice {
  readonly blockSize = 4096;
  readonly blockCount: number;
  readonly #base: BlockDevice;
  readonly #loses: "flushes" | "fua";

  constructor(base: BlockDevice, loses: "flushes" | "fua") {
    this.#base = base;
    this.blockCount = base.blockCount;
    this.#loses = loses;
  }
  read(start: number, target: Uint8Array): Promise<void> {
    return this.#base.read(start, target);
  }
  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#base.write(start, source, this.#loses === "fua" ? {} : options);
  }
  flush(): Promise<void> {
    return this.#loses === "flushes" ? Promise.resolve() : this.#base.flush();
  }
  close(): Promise<void> {
    return this.#base.close();
  }
}

test.each([
  {
    loses: "flushes" as const,
    finds: [/data block \d+ is not stable/, /journal block that is not stable|says clean/, /no flush/],
  },
  { loses: "fua" as const, finds: [/not written through/] },
])("the checker finds an engine without $loses out", async ({ loses, finds }) => {
  const { checker } = await checkedDisk(9);
  checker.problemsMax = 100_000;
  await history(new Careless(checker, loses), 9, 30);
  for (const text of finds)
    expect(
      checker.problems.some((problem) => text.test(problem)),
      String(text),
    ).toBe(true);
});

describe("a request with fua is answered only when it is durable", () => {
  const KINDS: { what: string; state: number; go: (volume: VdoVolume, lbn: number) => Promise<void> }[] = [
    { what: "zero write", state: 1, go: (volume, lbn) => volume.writeZeroes(lbn, 1, { fua: true }) },
    {
      what: "write of a block of zeros",
      state: 1,
      go: (volume, lbn) => volume.write(lbn, new Uint8Array(4096), { fua: true }),
    },
    { what: "discard", state: 0, go: (volume, lbn) => volume.discard(lbn, 1, { fua: true }) },
    {
      what: "zero write that may unmap",
      state: 0,
      go: (volume, lbn) => volume.writeZeroes(lbn, 1, { fua: true, mayUnmap: true }),
    },
  ];
  test.each(KINDS)("$what", async ({ go, state }) => {
    const { disk, checker } = await checkedDisk(4);
    const volume = await VdoVolume.open(checker, OPTIONS);
    const places = Array.from({ length: 30 }, (_, i) => i * 3);
    await Promise.all(places.map((lbn) => volume.write(lbn, workloadBlock(lbn))));
    await volume.flush();
    const since = checker.now;
    const answered = await Promise.all(places.map((lbn) => go(volume, lbn).then(() => checker.now)));
    // Without it, the answer comes before anything is written.
    const early = await volume.writeZeroes(700, 1).then(() => checker.now);
    await volume.close();
    const [page] = await pagesOf(disk, 0);
    for (const [i, lbn] of places.entries()) {
      const stable = checker.journaledAt({ page: page as number, slot: lbn, pbn: 0, state, since });
      expect(stable, `logical block ${lbn}`).toBeLessThanOrEqual(answered[i] as number);
    }
    const later = checker.journaledAt({ page: page as number, slot: 700, pbn: 0, state: 1, since });
    expect(later).toBeGreaterThan(early);
    expect(checker.problems).toEqual([]);
  });
});
