/** Freed blocks are discarded on the storage: which, when, and what is there afterwards. */
import { Random } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../src/index.ts";
import { audit } from "./support/audit.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 2,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 2000,
};
const OPTIONS: VolumeOptions = { deduplication: false, compression: false, maximumAge: 10, blockMapCacheBlocks: 128 };
const GARBAGE = 0xdb;

/** A device in memory that notes its discards and leaves garbage behind them. */
class Discarding extends MemoryDevice implements BlockDevice {
  readonly discarded: { start: number; count: number }[] = [];
  override discard = async (start: number, count: number): Promise<void> => {
    this.discarded.push({ start, count });
    await this.write(start, new Uint8Array(count * 4096).fill(GARBAGE));
  };
  get blocksDiscarded(): number {
    return this.discarded.reduce((sum, { count }) => sum + count, 0);
  }
}

async function start(discardStorage: VolumeOptions["discardStorage"], blocks = tinyBlocks(TINY)) {
  const disk = new Discarding({ blockCount: blocks });
  await formatTiny(disk, TINY);
  const open = (): Promise<VdoVolume> =>
    VdoVolume.open(disk, discardStorage === undefined ? OPTIONS : { ...OPTIONS, discardStorage });
  return { disk, open, volume: await open() };
}

async function write(volume: VdoVolume, at: number, count: number, seed: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, i) => volume.write(at + i, workloadBlock(seed + i))));
}

async function expectBlocks(volume: VdoVolume, at: number, count: number, seed: number): Promise<void> {
  const block = new Uint8Array(4096);
  for (let i = 0; i < count; i++) {
    await volume.read(at + i, block);
    expect(Buffer.compare(block, workloadBlock(seed + i)), `block ${at + i}`).toBe(0);
  }
}

test("without being asked for, nothing is discarded", async () => {
  const { disk, volume } = await start(undefined);
  await write(volume, 0, 200, 1);
  await volume.discard(0, 200);
  await volume.close();
  expect(disk.discarded).toEqual([]);
});

test("what is freed is discarded by the clean stop at the latest, what is used is not", async () => {
  const { disk, open, volume } = await start({ groupBlocks: 1 });
  await write(volume, 0, 400, 1);
  await volume.discard(100, 200);
  await write(volume, 300, 50, 5000);
  await volume.close();
  // 200 unmapped blocks, and 50 that were overwritten elsewhere.
  expect(disk.blocksDiscarded).toBe(250);
  expect((await audit(disk)).problems).toEqual([]);
  const again = await open();
  await expectBlocks(again, 0, 100, 1);
  await expectBlocks(again, 300, 50, 5000);
  await expectBlocks(again, 350, 50, 351);
  await again.close();
});

test("groups are aligned on the device, and wait until all of their blocks are free", async () => {
  const { disk, volume } = await start({ groupBlocks: 16, delayMs: 0 });
  await write(volume, 0, 320, 1);
  for (let lbn = 0; lbn < 320; lbn += 2) await volume.discard(lbn, 1);
  await volume.suspend({ save: true });
  expect(disk.discarded).toEqual([]);
  await volume.resume();
  for (let lbn = 1; lbn < 320; lbn += 2) await volume.discard(lbn, 1);
  await volume.close();
  expect(disk.blocksDiscarded).toBeGreaterThanOrEqual(320 - 32);
  for (const { start: first, count } of disk.discarded) expect([first % 16, count % 16]).toEqual([0, 0]);
  expect((await audit(disk)).problems).toEqual([]);
});

test("a start gives back what was freed before it was asked for", async () => {
  const { disk, volume } = await start(undefined);
  await write(volume, 0, 400, 1);
  await volume.discard(0, 390);
  await volume.close();
  const later = await VdoVolume.open(disk, { ...OPTIONS, discardStorage: { groupBlocks: 1, delayMs: 0 } });
  await later.suspend({ save: true });
  expect(disk.blocksDiscarded).toBeGreaterThanOrEqual(390);
  await later.resume();
  await expectBlocks(later, 390, 10, 391);
  await later.close();
  expect((await audit(disk)).problems).toEqual([]);
});

test("a full volume that is emptied takes new data at once: writes wait for the discards", async () => {
  const disk = new SimulatedDisk({ blockCount: tinyBlocks(TINY), seed: 5, discardGarbage: true, slowWrites: 0.6 });
  await disk.run(formatTiny(disk, TINY));
  const opening = VdoVolume.open(disk, { ...OPTIONS, discardStorage: { groupBlocks: 1, delayMs: 0 } });
  const volume = await disk.run(opening, { idleTurnsMax: 1000 });
  const run = <T>(work: Promise<T>): Promise<T> => disk.run(work, { idleTurnsMax: 1000 });
  const { length } = await fill(volume, run);
  for (let round = 0; round < 3; round++) {
    await run(volume.discard(0, length));
    await new Promise((resolve) => setTimeout(resolve, 2));
    await run(write(volume, 0, length, 10_000 * (round + 1)));
    await run(expectBlocks(volume, 0, length, 10_000 * (round + 1)));
  }
  await run(volume.close());
  expect((await audit(disk)).problems).toEqual([]);
});

/** Writes until the volume is full. */
async function fill(volume: VdoVolume, run: <T>(work: Promise<T>) => Promise<T>): Promise<{ length: number }> {
  for (let lbn = 0; ; lbn += 20) {
    const isFull = await run(
      write(volume, lbn, 20, lbn).then(
        () => volume.flush().then(() => false),
        () => true,
      ),
    );
    if (isFull) return { length: lbn };
  }
}

test("a discard that fails ends the discards, and nothing else", async () => {
  const lines: string[] = [];
  const disk = new Discarding({ blockCount: tinyBlocks(TINY) });
  disk.discard = async () => {
    throw new Error("the disk has no such command");
  };
  await formatTiny(disk, TINY);
  const log = (level: string, text: string): void => void lines.push(`${level}: ${text}`);
  const volume = await VdoVolume.open(disk, { ...OPTIONS, log, discardStorage: { groupBlocks: 1 } });
  await write(volume, 0, 100, 1);
  await volume.discard(0, 50);
  await volume.suspend({ save: true });
  await volume.resume();
  await write(volume, 0, 50, 900);
  await volume.close();
  expect(lines.filter((line) => line.includes("not discarded on the storage any more"))).toHaveLength(1);
  expect((await audit(disk)).problems).toEqual([]);
});

test("a power cut at any moment loses nothing, whatever a discarded block holds", async () => {
  const seed = 20_261_127;
  const random = new Random(seed);
  for (let history = 0; history < 12; history++) {
    const disk = new SimulatedDisk({ blockCount: tinyBlocks(TINY), seed: history, discardGarbage: true });
    await disk.run(formatTiny(disk, TINY));
    await disk.run(disk.flush());
    const options = { ...OPTIONS, discardStorage: { groupBlocks: random.pick([1, 1, 4]), delayMs: 0 } };
    const volume = await disk.run(VdoVolume.open(disk, options), { idleTurnsMax: 1000 });
    const durable = new Map<number, number>();
    for (let round = 0; round < 8; round++) {
      const at = random.below(300);
      const content = 1000 * (round + 1);
      await disk.run(write(volume, at, 40, content), { idleTurnsMax: 1000 });
      await disk.run(volume.flush(), { idleTurnsMax: 1000 });
      for (let i = 0; i < 40; i++) durable.set(at + i, content + i);
    }
    const writing = write(volume, 0, 300, 90_000).catch(() => undefined);
    await Promise.race([disk.cutAfter(disk.completed + random.below(60)), writing]);
    const left = disk.crash(history);
    const again = await left.run(VdoVolume.open(left, options), { idleTurnsMax: 1000 });
    const block = new Uint8Array(4096);
    for (const [lbn, content] of durable) {
      await left.run(again.read(lbn, block), { idleTurnsMax: 1000 });
      const allowed = lbn < 300 ? [content, 90_000 + lbn] : [content];
      const isRight = allowed.some((wanted) => Buffer.compare(block, workloadBlock(wanted)) === 0);
      expect(isRight, `seed ${seed}, history ${history}, block ${lbn}`).toBe(true);
    }
    await left.run(again.close(), { idleTurnsMax: 1000 });
    expect((await audit(left)).problems).toEqual([]);
  }
});
