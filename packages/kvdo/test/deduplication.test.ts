/** Deduplication where it is hardest: equal names of different blocks, 255th copies, copies that meet in flight. */
import { Random } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { afterEach, describe, expect, test, vi } from "vitest";
import { HASH_LOCK_MOVES, HashLock } from "../src/dedupe/hash-lock.ts";
import { IndexClient } from "../src/dedupe/index-client.ts";
import { BlockHasher, VdoVolume, type VolumeOptions } from "../src/index.ts";
import { audit } from "../src/testing/audit.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../src/testing/tiny-volume.ts";
import { sameName } from "./support/same-name.ts";
import { allSettle, settles } from "./support/settles.ts";
import { workloadBlock } from "./support/workload-block.ts";

const BLOCK = 4096;
const TINY: TinyOptions = {
  slabBits: 12,
  slabs: 2,
  recoveryJournalBlocks: 64,
  slabJournalBlocks: 8,
  logicalBlocks: 20_000,
};
const OPTIONS: VolumeOptions = { blockMapCacheBlocks: 128, maximumAge: 8 };

async function open(device: BlockDevice, options: VolumeOptions = {}): Promise<VdoVolume> {
  const volume = await VdoVolume.open(device, { ...OPTIONS, ...options });
  await volume.indexSettled();
  return volume;
}

async function fresh(options: VolumeOptions = {}): Promise<{ device: MemoryDevice; volume: VdoVolume }> {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  return { device, volume: await open(device, options) };
}

async function writeAll(volume: VdoVolume, at: number, blocks: readonly Uint8Array[]): Promise<void> {
  const outcomes = await allSettle(
    "writes",
    blocks.map((block, i) => volume.write(at + i, block)),
  );
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  await settles("flush", volume.flush());
}

async function expectAll(volume: VdoVolume, at: number, blocks: readonly Uint8Array[]): Promise<void> {
  const target = new Uint8Array(BLOCK);
  for (const [i, block] of blocks.entries()) {
    await volume.read(at + i, target);
    expect(Buffer.compare(target, block), `block ${at + i}`).toBe(0);
  }
}

async function expectSound(device: BlockDevice, volume: VdoVolume): Promise<void> {
  await settles("close", volume.close());
  expect((await audit(device)).problems).toEqual([]);
}

describe("different blocks with the same 128-bit name", () => {
  const N = 40;
  const originals = Array.from({ length: N }, (_, i) => workloadBlock(i));
  const doubles = originals.map((block) => sameName(block));

  test("are made right: other bytes, the same name", () => {
    const hasher = new BlockHasher();
    const names = new Uint8Array(32);
    for (let i = 0; i < N; i++) {
      hasher.hash(originals[i]!, 0, names, 0);
      hasher.hash(doubles[i]!, 0, names, 16);
      expect(Buffer.compare(originals[i]!, doubles[i]!)).not.toBe(0);
      expect(Buffer.compare(names.subarray(0, 16), names.subarray(16))).toBe(0);
    }
  });

  test.each([true, false])(
    "one after the other: all are stored, one name is known each (compression %s)",
    async (compression) => {
      const { device, volume } = await fresh({ compression });
      await writeAll(volume, 0, originals);
      await writeAll(volume, 1000, doubles);
      await expectAll(volume, 0, originals);
      await expectAll(volume, 1000, doubles);
      const { dataBlocksUsed, hashLock, index } = volume.statistics();
      expect(dataBlocksUsed).toBe(2 * N);
      expect([index.entriesIndexed, hashLock.dedupeAdviceStale, hashLock.dedupeAdviceValid]).toEqual([N, N, 0]);
      await expectSound(device, volume);
    },
  );

  test("at the same time: they do not join", async () => {
    const { device, volume } = await fresh();
    await writeAll(
      volume,
      0,
      originals.flatMap((block, i) => [block, doubles[i]!, sameName(block, 77n)]),
    );
    await expectAll(
      volume,
      0,
      originals.flatMap((block, i) => [block, doubles[i]!, sameName(block, 77n)]),
    );
    expect(volume.statistics().dataBlocksUsed).toBe(3 * N);
    expect(volume.statistics().hashLock.concurrentHashCollisions).toBeGreaterThan(0);
    await expectSound(device, volume);
  });
});

describe("a block has at most 254 references", () => {
  const ROWS = [
    { what: "one after the other", streamBytes: BLOCK, burst: 1, copies: 300 },
    { what: "all at once", streamBytes: BLOCK, burst: 1000, copies: 1000 },
    { what: "compressed, one after the other", streamBytes: 900, burst: 1, copies: 300 },
    { what: "compressed, in bursts", streamBytes: 900, burst: 100, copies: 700 },
  ];
  test.each(ROWS)("copies written $what", async ({ streamBytes, burst, copies }) => {
    const { device, volume } = await fresh();
    const block = workloadBlock(5, streamBytes);
    for (let at = 0; at < copies; at += burst) {
      await writeAll(
        volume,
        at,
        Array.from({ length: Math.min(burst, copies - at) }, () => block),
      );
    }
    const { dataBlocksUsed, logicalBlocksUsed } = volume.statistics();
    expect(dataBlocksUsed).toBe(Math.ceil(copies / 254));
    expect(logicalBlocksUsed).toBe(copies);
    await expectAll(volume, 0, [block]);
    await expectAll(volume, copies - 1, [block]);
    // The index was taught the newest copy: one more finds it.
    await writeAll(volume, 5000, [block]);
    expect(volume.statistics().dataBlocksUsed).toBe(Math.ceil((copies + 1) / 254));
    await expectSound(device, volume);
  });
});

describe("copies that meet in flight", () => {
  afterEach(() => void vi.restoreAllMocks());

  test("meet in every state of a hash lock, and end on the right data", async () => {
    const moves = new Set<string>();
    const met = new Set<string>();
    const move = HashLock.prototype.move;
    const join = HashLock.prototype.join;
    vi.spyOn(HashLock.prototype, "move").mockImplementation(function (this: HashLock, to) {
      moves.add(`${this.state} ${to}`);
      move.call(this, to);
    });
    vi.spyOn(HashLock.prototype, "join").mockImplementation(function (this: HashLock, vio) {
      if (this.memberCount > 0) met.add(this.state);
      join.call(this, vio);
    });
    const { query, update } = IndexClient.prototype;
    const slowly = new Random(1);
    const later = (go: () => void): void => {
      if (slowly.chance(0.5)) go();
      else setImmediate(go);
    };
    vi.spyOn(IndexClient.prototype, "query").mockImplementation(function (this: IndexClient, vio, step) {
      later(() => query.call(this, vio, step));
    });
    vi.spyOn(IndexClient.prototype, "update").mockImplementation(function (this: IndexClient, vio, pbn, state, step) {
      later(() => update.call(this, vio, pbn, state, step));
    });
    for (let seed = 1; seed <= 4; seed++) {
      const disk = new SimulatedDisk({ blockCount: tinyBlocks(TINY), seed, batchMax: 6 });
      await formatTiny(disk, TINY);
      const volume = await open(disk);
      const random = new Random(seed);
      const model = new Map<number, number>();
      const content = (number: number): Uint8Array =>
        number < 100 ? workloadBlock(number, number % 2 === 0 ? BLOCK : 900) : sameName(workloadBlock(number - 100));
      for (let burst = 0; burst < 12; burst++) {
        const works: Promise<void>[] = [];
        const taken = new Set<number>();
        for (let i = 0; i < 150; i++) {
          const lbn = random.below(500);
          if (taken.has(lbn)) continue;
          taken.add(lbn);
          const number = random.chance(0.2) ? 100 + random.below(6) : random.below(12);
          model.set(lbn, number);
          works.push(volume.write(lbn, content(number), { fua: random.chance(0.1) }));
          if (random.chance(0.02)) works.push(volume.flush());
          // A few turns of the disk: so copies arrive in whatever state the others are in.
          if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
        }
        for (const outcome of await allSettle("a burst", works)) expect(outcome.status).toBe("fulfilled");
      }
      await settles("flush", volume.flush());
      for (const [lbn, number] of model) await expectAll(volume, lbn, [content(number)]);
      await expectSound(disk, volume);
    }
    for (const state of Object.keys(HASH_LOCK_MOVES)) {
      if (state === "initializing") continue;
      const entered = [...moves].some((text) => text.endsWith(` ${state}`));
      expect(entered, `${state} was entered`).toBe(true);
    }
    // In the other states a lock is for a moment only: nobody can arrive.
    expect([...met].sort()).toEqual(["deduping", "querying", "updating", "verifying", "writing"]);
  });
});

test("deduplication and compression can be switched while writes are under way", async () => {
  const { device, volume } = await fresh();
  const blocks = Array.from({ length: 60 }, (_, i) => workloadBlock(i, i % 2 === 0 ? BLOCK : 700));
  await writeAll(volume, 0, blocks);
  const stored = volume.statistics().dataBlocksUsed;
  await volume.setDeduplication(false);
  expect(volume.status().indexState).toBe("offline");
  await writeAll(
    volume,
    1000,
    blocks.filter((_, i) => i % 2 === 0),
  );
  expect(volume.statistics().dataBlocksUsed).toBe(stored + 30);
  await volume.setDeduplication(true);
  await writeAll(volume, 2000, blocks);
  expect(volume.statistics().dataBlocksUsed).toBe(stored + 30);

  // Parked fragments leave when compression is switched off; nobody has to flush for them.
  const parked = [0, 1, 2].map((i) => volume.write(3000 + i, workloadBlock(500 + i, 700)));
  await Promise.all(parked);
  await vi.waitFor(() => expect(volume.statistics().packer.compressedFragmentsInPacker).toBe(3));
  await volume.setCompression(false);
  await vi.waitFor(() => expect(volume.statistics().currentVIOsInProgress).toBe(0));
  const before = volume.statistics().packer.compressedBlocksWritten;
  await writeAll(
    volume,
    4000,
    Array.from({ length: 20 }, (_, i) => workloadBlock(600 + i, 700)),
  );
  expect(volume.statistics().packer.compressedBlocksWritten).toBe(before);
  const works: Promise<void>[] = [];
  for (let i = 0; i < 400; i++) {
    works.push(volume.write(5000 + i, workloadBlock(i % 90, i % 2 === 0 ? BLOCK : 700)));
    if (i % 40 === 0) works.push(volume.setCompression(i % 80 === 0), volume.setDeduplication(i % 80 !== 0));
  }
  for (const outcome of await allSettle("writes between switches", works)) expect(outcome.status).toBe("fulfilled");
  for (let i = 0; i < 400; i += 7)
    await expectAll(volume, 5000 + i, [workloadBlock(i % 90, i % 2 === 0 ? BLOCK : 700)]);
  await expectSound(device, volume);
});
