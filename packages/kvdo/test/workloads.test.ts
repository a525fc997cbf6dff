/**
 * The worked workloads of the original (Linux 6.12, tools 8.3.0.71): the same requests give the same figures here.
 * Figures that depend on timing there (journal blocks, bio counts that follow from them) are not compared.
 */
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { format, VdoVolume, type VolumeOptions } from "../src/index.ts";
import { workloadBlock } from "./support/workload-block.ts";

const BLOCK = 4096;

class Bench {
  readonly device: MemoryDevice;
  volume!: VdoVolume;

  constructor(blocks: number) {
    this.device = new MemoryDevice({ blockCount: blocks });
  }

  static async start(blocks: number, slabBits: number, logicalBlocks: number, options: VolumeOptions): Promise<Bench> {
    const bench = new Bench(blocks);
    await format(bench.device, { slabBits, logicalSize: logicalBlocks * BLOCK });
    await bench.open(options);
    return bench;
  }

  async open(options: VolumeOptions): Promise<void> {
    this.volume = await VdoVolume.open(this.device, options);
    await this.volume.indexSettled();
  }

  get scale(): number {
    return BLOCK / this.volume.blockSize;
  }

  /** Writes one block a request, waiting for the acknowledgements only; errors are returned. */
  async write(at: number, blocks: Iterable<Uint8Array>, flush = true): Promise<unknown[]> {
    const writes: Promise<void>[] = [];
    let lbn = at;
    for (const block of blocks) writes.push(this.volume.write(lbn++ * this.scale, block));
    const results = await Promise.allSettled(writes);
    if (flush) await this.volume.flush();
    return results.filter((result) => result.status === "rejected").map((result) => result.reason);
  }

  async discard(at: number, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, (_, i) => this.volume.discard((at + i) * this.scale, this.scale)));
    await this.volume.flush();
  }

  async read(at: number, count: number): Promise<Uint8Array[]> {
    const blocks = Array.from({ length: count }, () => new Uint8Array(BLOCK));
    await Promise.all(blocks.map((block, i) => this.volume.read((at + i) * this.scale, block)));
    return blocks;
  }

  async expectBlocks(at: number, blocks: Iterable<Uint8Array>): Promise<void> {
    let lbn = at;
    for (const expected of blocks) {
      const [actual] = (await this.read(lbn, 1)) as [Uint8Array];
      expect(Buffer.compare(actual, expected), `block ${lbn}`).toBe(0);
      lbn++;
    }
  }

  figures(): Record<string, number | string> {
    const s = this.volume.statistics();
    return {
      data: s.dataBlocksUsed,
      overhead: s.overheadBlocksUsed,
      logical: s.logicalBlocksUsed,
      entries: s.journal.entries.started,
      fragments: `${s.packer.compressedFragmentsWritten}/${s.packer.compressedBlocksWritten}/${s.packer.compressedFragmentsInPacker}`,
      valid: s.hashLock.dedupeAdviceValid,
      stale: s.hashLock.dedupeAdviceStale,
      indexed: s.index.entriesIndexed,
      posts: `${s.index.postsFound}/${s.index.postsNotFound}`,
      updates: s.index.updatesFound,
      in: `${s.biosIn.write}/${s.biosIn.discard}/${s.biosIn.read}`,
      out: `${s.biosOut.read}/${s.biosOut.write}`,
      pages: `${s.blockMap.readCount}/${s.blockMap.writeCount}`,
      flushes: s.flushOut,
    };
  }

  expectFigures(step: string, expected: Record<string, number | string>): void {
    expect(this.figures(), step).toMatchObject(expected);
  }
}

function* seeds(from: number, count: number, length?: number): Iterable<Uint8Array> {
  for (let i = 0; i < count; i++) yield workloadBlock(from + i, length);
}

function* same(block: Uint8Array, count: number): Iterable<Uint8Array> {
  for (let i = 0; i < count; i++) yield block;
}

const ZERO = new Uint8Array(BLOCK);

test("workload A: unique, duplicate, zero, overwrite, discard", async () => {
  const bench = await Bench.start(2_097_152, 17, 1_048_576, { compression: false });
  bench.expectFigures("A0", { data: 0, overhead: 789002, logical: 0, entries: 0 });
  await bench.write(0, seeds(1, 1000));
  bench.expectFigures("A1", {
    data: 1000,
    overhead: 789010,
    logical: 1000,
    entries: 1008,
    valid: 0,
    indexed: 1000,
    posts: "0/1000",
    in: "1000/0/0",
    out: "0/1000",
    pages: "1000/1000",
  });
  expect(bench.volume.statistics().biosPageCache.read).toBe(2);
  await bench.write(1000, seeds(1, 500));
  bench.expectFigures("A2", {
    data: 1000,
    logical: 1500,
    entries: 1508,
    valid: 500,
    posts: "500/1000",
    out: "500/1000",
    pages: "1500/1500",
  });
  expect(bench.volume.statistics().slabJournal.blocksWritten).toBe(1);
  expect(bench.volume.statistics().slabSummary.blocksWritten).toBe(1);
  await bench.write(1500, same(ZERO, 100));
  bench.expectFigures("A3", { data: 1000, logical: 1600, entries: 1608, in: "1600/0/0", out: "500/1000" });
  await bench.write(0, seeds(201, 100));
  bench.expectFigures("A4", {
    data: 1000,
    logical: 1600,
    entries: 1708,
    valid: 600,
    posts: "600/1000",
    out: "600/1000",
  });
  await bench.discard(1500, 50);
  bench.expectFigures("A5", { data: 1000, logical: 1550, entries: 1758, in: "1700/50/0", pages: "1750/1750" });
  await bench.discard(500, 100);
  bench.expectFigures("A6", { data: 900, logical: 1450, entries: 1858, in: "1700/150/0", pages: "1850/1850" });
  await bench.discard(200_000, 10);
  bench.expectFigures("A7", { data: 900, logical: 1450, entries: 1858, in: "1700/160/0", pages: "1850/1850" });
  await bench.expectBlocks(1000, seeds(1, 500));
  await bench.expectBlocks(0, seeds(201, 100));
  await bench.read(100, 900);
  await bench.read(1500, 100);
  await bench.read(300_000, 10);
  await bench.volume.flush();
  bench.expectFigures("A8", { data: 900, in: "1700/160/1610", out: "2000/1000", pages: "3450/1850", flushes: 8 });
  await bench.write(2000, same(workloadBlock(5000), 600));
  bench.expectFigures("A9", {
    data: 903,
    overhead: 789018,
    logical: 2050,
    entries: 2466,
    indexed: 1001,
    out: "2000/1003",
    pages: "4050/2450",
  });
  const a9 = bench.volume.statistics();
  expect(a9.hashLock.dedupeAdviceValid).toBeGreaterThanOrEqual(600);
  expect([a9.allocator.slabsOpened, a9.refCounts.blocksWritten, a9.biosPageCache.read]).toEqual([1, 0, 4]);
  expect([a9.hashLock.dedupeAdviceStale, a9.dedupeAdviceTimeouts, a9.hashLock.concurrentHashCollisions]).toEqual([
    0, 0, 0,
  ]);
  await bench.volume.close();

  await bench.open({ compression: false });
  bench.expectFigures("restart", {
    data: 903,
    overhead: 789018,
    logical: 2050,
    entries: 0,
    indexed: 1001,
    posts: "0/0",
  });
  const restarted = bench.volume.statistics();
  expect(restarted.allocator.slabsOpened).toBe(1);
  expect(restarted.biosMeta).toEqual({ read: 36, write: 2, emptyFlush: 0, discard: 0, flush: 1, fua: 1 });
  await bench.volume.close();
});

test("workload B: compression", async () => {
  const bench = await Bench.start(2_097_152, 17, 1_048_576, {});
  await bench.write(0, seeds(1, 300, 1024));
  bench.expectFigures("B1", {
    data: 100,
    overhead: 789006,
    logical: 300,
    fragments: "300/100/0",
    entries: 304,
    valid: 0,
    indexed: 300,
    posts: "0/300",
    updates: 300,
    out: "0/100",
  });
  await bench.write(1000, seeds(1, 300, 1024));
  bench.expectFigures("B2", {
    data: 100,
    overhead: 789010,
    logical: 600,
    fragments: "300/100/0",
    entries: 608,
    valid: 300,
    posts: "300/300",
    out: "300/100",
  });
  await bench.write(2000, seeds(5001, 100));
  bench.expectFigures("B3", {
    data: 200,
    overhead: 789014,
    logical: 700,
    entries: 712,
    indexed: 400,
    posts: "300/400",
    out: "300/200",
  });
  await bench.write(3000, seeds(6001, 1, 1024));
  bench.expectFigures("B4", {
    data: 201,
    overhead: 789018,
    logical: 701,
    fragments: "300/100/0",
    entries: 717,
    indexed: 401,
    out: "300/201",
  });
  await bench.write(4000, seeds(7001, 140, 200));
  bench.expectFigures("B5", {
    data: 211,
    overhead: 789026,
    logical: 841,
    fragments: "440/110/0",
    entries: 865,
    indexed: 541,
    posts: "300/541",
    updates: 440,
    out: "300/211",
  });
  await bench.discard(4000, 14);
  bench.expectFigures("B6", { data: 210, logical: 827, entries: 879 });
  await bench.write(5000, seeds(8001, 7, 1024), false);
  // The four new pages are committed; the seven fragments are parked, and nothing else is under way.
  await expect.poll(() => bench.figures()["fragments"]).toBe("440/110/7");
  bench.expectFigures("B7", {
    data: 217,
    overhead: 789030,
    logical: 827,
    entries: 883,
    indexed: 548,
    posts: "300/548",
    out: "300/211",
  });
  expect(bench.volume.statistics().currentVIOsInProgress).toBe(7);
  await bench.expectBlocks(5000, seeds(8001, 7, 1024));
  bench.expectFigures("B7r", { data: 217, entries: 883, out: "300/211" });
  await bench.volume.setCompression(false);
  await expect.poll(() => bench.volume.statistics().currentVIOsInProgress).toBe(0);
  bench.expectFigures("B8", {
    data: 213,
    overhead: 789030,
    logical: 834,
    fragments: "446/112/0",
    entries: 890,
    indexed: 548,
    updates: 446,
    out: "300/214",
  });
  await bench.expectBlocks(0, seeds(1, 300, 1024));
  await bench.expectBlocks(4014, seeds(7015, 126, 200));
  await bench.volume.close();
});

describe("a volume of one slab", () => {
  const startFull = (): Promise<Bench> => Bench.start(720_213, 13, 262_144, { compression: false });

  test("workload C: it fills, refuses what needs space, and goes on with what needs none", async () => {
    const bench = await startFull();
    const step = (name: string, figures: [data: number, overhead: number, logical: number, errors: number]): void => {
      const s = bench.volume.statistics();
      expect([s.dataBlocksUsed, s.overheadBlocksUsed, s.logicalBlocksUsed, s.errors.noSpaceErrorCount], name).toEqual(
        figures,
      );
    };
    step("C0", [0, 712_247, 0, 0]);
    const failed: number[] = [];
    for (let i = 0; i < 8016; i++) {
      // One at a time: a burst may take its blocks in another order than its pages.
      const errors = await bench.write(i, [workloadBlock(1 + i)], false);
      if (errors.length > 0) failed.push(i);
    }
    await bench.volume.flush();
    expect([failed.length, failed[0]]).toEqual([90, 7926]);
    step("C1", [7926, 712_287, 7926, 90]);
    const c1 = bench.volume.statistics();
    expect([c1.index.entriesIndexed, c1.index.queriesNotFound, c1.allocator.slabsReopened]).toEqual([7926, 90, 180]);
    expect((await bench.write(0, seeds(999_001, 5))).length).toBe(5);
    step("C2", [7926, 712_287, 7926, 95]);
    expect(bench.volume.statistics().allocator.slabsReopened).toBe(190);
    await bench.expectBlocks(0, seeds(1, 5));
    expect((await bench.write(100_000, seeds(11, 5))).length).toBe(5);
    step("C3", [7926, 712_287, 7926, 100]);
    expect(await bench.write(0, seeds(21, 5))).toEqual([]);
    step("C4", [7921, 712_287, 7926, 100]);
    expect(bench.volume.statistics().hashLock.dedupeAdviceValid).toBe(5);
    expect(await bench.write(40, same(ZERO, 5))).toEqual([]);
    step("C5", [7916, 712_287, 7926, 100]);
    expect(await bench.write(0, seeds(999_001, 5))).toEqual([]);
    step("C6", [7921, 712_287, 7926, 100]);
    await bench.expectBlocks(0, seeds(999_001, 5));
    await bench.volume.close();
  });

  test("workload D: free blocks whose content is known are revived", async () => {
    const bench = await startFull();
    await bench.write(0, seeds(1, 100));
    bench.expectFigures("D1", { data: 100, valid: 0, posts: "0/100", out: "0/100" });
    await bench.discard(0, 100);
    bench.expectFigures("D2", { data: 0, out: "0/100" });
    await bench.write(1000, seeds(1, 100));
    bench.expectFigures("D3", { data: 100, valid: 100, stale: 0, posts: "100/100", updates: 0, out: "100/100" });
    await bench.expectBlocks(1000, seeds(1, 100));
    await bench.volume.close();
  });

  test("workload E: stale advice is refused, and the index learns the new place", async () => {
    const fresh = await startFull();
    // Data and pages fill the slab to the last block: 7910 + 4 * 14.
    await fresh.write(20_000, seeds(1, 455));
    await fresh.write(30_000, seeds(501, 455));
    await fresh.write(2000, seeds(10_001, 7000));
    fresh.expectFigures("E1", { data: 7910, valid: 0, stale: 0 });
    const before = fresh.volume.statistics().biosOut;
    await fresh.discard(2000, 100);
    await fresh.write(2000, seeds(30_001, 100));
    fresh.expectFigures("E2", { data: 7910, valid: 0, stale: 0, out: `0/${before.write + 100}` });
    await fresh.discard(3000, 300);
    await fresh.write(3000, seeds(10_001, 100));
    fresh.expectFigures("E3", { data: 7710, valid: 0, stale: 100, updates: 100, out: `100/${before.write + 200}` });
    await fresh.expectBlocks(3000, seeds(10_001, 100));
    await fresh.expectBlocks(2000, seeds(30_001, 100));
    await fresh.volume.close();
  });
});

test("workload P: 512-byte emulation, partial writes, multi-block discard", async () => {
  const bench = await Bench.start(2_097_152, 17, 1_048_576, {
    compression: false,
    logicalBlockSize: 512,
    maxDiscardBlocks: 64,
  });
  const { volume } = bench;
  const step = (name: string, expected: (number | string)[]): void => {
    const s = volume.statistics();
    expect(
      [
        s.dataBlocksUsed,
        s.logicalBlocksUsed,
        s.journal.entries.committed,
        `${s.biosInPartial.write}/${s.biosInPartial.discard}`,
        `${s.biosAcknowledgedPartial.write}/${s.biosAcknowledgedPartial.discard}`,
        s.biosIn.discard,
        `${s.biosOut.read}/${s.biosOut.write}`,
      ],
      name,
    ).toEqual(expected);
  };
  await volume.write(83, workloadBlock(42).subarray(0, 512));
  await volume.flush();
  step("P1", [1, 1, 5, "1/0", "1/0", 0, "0/1"]);
  await bench.write(20, seeds(100, 10));
  step("P2", [11, 11, 15, "1/0", "1/0", 0, "0/11"]);
  await volume.write(161, workloadBlock(43).subarray(0, 1536));
  await volume.flush();
  step("P3", [11, 11, 16, "2/0", "2/0", 0, "1/12"]);
  await volume.discard(164, 40);
  await volume.flush();
  step("P4", [7, 7, 22, "2/1", "2/2", 2, "3/14"]);
  await volume.discard(24 * 8, 6 * 8);
  await volume.flush();
  step("P5", [2, 2, 28, "2/1", "2/2", 3, "3/14"]);
  const [block] = (await bench.read(20, 1)) as [Uint8Array];
  const expected = workloadBlock(100).slice();
  expected.set(workloadBlock(43).subarray(0, 1536), 512);
  expected.fill(0, 4 * 512);
  expect(Buffer.compare(block, expected)).toBe(0);
  await volume.close();
});

test("workload K: the packer lets go of what somebody waits for", async () => {
  const bench = await Bench.start(2_097_152, 17, 1_048_576, {});
  const { volume } = bench;
  const settle = async (inUse: number): Promise<void> => {
    await expect.poll(() => volume.statistics().currentVIOsInProgress, { interval: 2 }).toBe(inUse);
  };
  await bench.write(0, seeds(1, 5, 1024), false);
  await expect.poll(() => volume.statistics().packer.compressedFragmentsInPacker).toBe(5);
  bench.expectFigures("K1", { data: 5, logical: 0, entries: 4, fragments: "0/0/5" });
  await bench.write(0, seeds(500, 1, 1024), false);
  await expect.poll(() => volume.statistics().logicalBlocksUsed).toBe(1);
  await settle(5);
  bench.expectFigures("K2", { data: 6, logical: 1, fragments: "0/0/5", out: "0/1" });
  await bench.write(100, seeds(2, 1, 1024), false);
  await settle(4);
  bench.expectFigures("K3", { data: 6, logical: 3, fragments: "0/0/4", out: "0/2" });
  expect(volume.statistics().hashLock.concurrentDataMatches).toBe(1);
  await volume.write(200, workloadBlock(900, 1024), { fua: true });
  await volume.flush();
  bench.expectFigures("K4", { data: 4, logical: 7, fragments: "3/1/0", out: "0/5" });
  expect(volume.statistics().biosIn.fua).toBe(1);
  await bench.write(300, seeds(77, 1), false);
  await volume.suspend({ save: true });
  await volume.resume();
  const k5 = volume.statistics();
  expect(k5.dataBlocksUsed).toBe(5);
  expect([
    k5.refCounts.blocksWritten,
    k5.slabJournal.blocksWritten,
    k5.slabSummary.blocksWritten,
    k5.blockMap.pagesSaved,
    k5.flushOut,
  ]).toEqual([33, 1, 2, 1, 2]);
  await bench.write(5000, seeds(7001, 5, 1024), false);
  await expect.poll(() => volume.statistics().packer.compressedFragmentsInPacker).toBe(5);
  bench.expectFigures("K6", { data: 10, entries: 17 });
  await volume.close();
});
