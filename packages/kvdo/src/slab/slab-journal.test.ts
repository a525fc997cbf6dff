import { MemoryDevice } from "@vdo/block-device";
import { RecordingDevice } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import {
  SLAB_JOURNAL_ENTRIES_PER_BLOCK,
  SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK,
  slabJournalFlushingDeadline,
} from "../constants.ts";
import { DataVio, type ReferenceUpdate } from "../data-path/data-vio.ts";
import { computeSlabConfig, fullnessHintShift, slabJournalHeader } from "../format/index.ts";
import { ReadOnlyNotifier } from "../io/read-only.ts";
import { StorageIo } from "../io/storage-io.ts";
import { JournalLocks, LOCK_KIND_SLAB_JOURNALS } from "../recovery-journal/journal-locks.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { SlabDepot } from "./slab-depot.ts";

const SLAB = 1024;
const SUMMARY = 4 * SLAB;

async function make() {
  const device = new RecordingDevice(new MemoryDevice({ blockCount: SUMMARY + 64 }));
  const statistics = emptyStatistics();
  const config = computeSlabConfig(SLAB, 8);
  const thresholds = {
    flushing: config.flushingThreshold,
    blocking: config.blockingThreshold,
    scrubbing: config.scrubbingThreshold,
  };
  const updated: ReferenceUpdate[] = [];
  const journalLocks = new JournalLocks(64, () => undefined);
  const depot = new SlabDepot({
    io: new StorageIo(device, 0, statistics),
    notifier: new ReadOnlyNotifier(),
    statistics,
    journalLocks,
    config: {
      ...config,
      flushingDeadline: slabJournalFlushingDeadline(thresholds),
      hintShift: fullnessHintShift(SLAB),
      nonce: 9n,
    },
    firstBlock: 0,
    lastBlock: 4 * SLAB,
    summaryOrigin: SUMMARY,
    onUpdated: (update) => void updated.push(update),
  });
  await depot.loadSummary({ isNew: true, oldZones: 1 });
  await depot.loadJournals();
  await depot.loadCounts({ save: true });
  device.log.length = 0;
  const slab = depot.slabs[0]!;
  let number = 0;
  /** One entry each: block 3 gains and loses a reference in turn. */
  const add = (count: number, isBlockMap = false): void => {
    for (let i = 0; i < count; i++) {
      const vio = new DataVio(number, Buffer.alloc(0), Buffer.alloc(0));
      vio.journalSequence = 1 + Math.floor(number / 217);
      vio.journalIndex = number % 217;
      const update = vio.increment;
      update.isIncrement = isBlockMap || number % 2 === 0;
      update.isBlockMap = isBlockMap;
      update.pbn = isBlockMap ? (depot.allocate(1)?.pbn ?? 0) : 3;
      number++;
      depot.update(update);
    }
  };
  const config8 = depot.config;
  return { device, statistics, depot, slab, add, updated, journalLocks, config: config8 };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("a full block is written and named by the summary; its recovery journal block is held until then", async () => {
  const { device, slab, add, updated, journalLocks } = await make();
  add(SLAB_JOURNAL_ENTRIES_PER_BLOCK - 1);
  expect([device.log.length, slab.journal.tail, updated.length]).toEqual([0, 1, 1352]);
  expect(journalLocks.isLocked(LOCK_KIND_SLAB_JOURNALS, 1)).toBe(true);
  add(1);
  expect(slab.journal.tail).toBe(2);
  // Entries go on into the next block while this one is being written.
  add(5);
  expect(updated).toHaveLength(1358);
  await settle();
  expect(device.log.map(({ kind, start }) => [kind, start])).toEqual([
    ["write", slab.journalOrigin + 1],
    ["flush", 0],
    ["write", SUMMARY],
  ]);
  expect(journalLocks.isLocked(LOCK_KIND_SLAB_JOURNALS, 1)).toBe(false);
});

test("after a block that was not full, entries wait until the summary names it", async () => {
  const { device, slab, add, updated } = await make();
  add(3);
  slab.journal.commitTail();
  add(4);
  expect(updated).toHaveLength(3);
  await settle();
  expect(updated).toHaveLength(7);
  expect(device.log.map(({ kind }) => kind)).toEqual(["write", "flush", "write"]);
  // In the order in which they were asked for.
  expect(updated.map(({ vio }) => vio.number)).toEqual([0, 1, 2, 3, 4, 5, 6]);
});

test("a block map increment that does not fit beside so many entries begins a block of its own", async () => {
  const { device, slab, add } = await make();
  add(SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK);
  expect(slab.journal.tail).toBe(1);
  add(1, true);
  await settle();
  expect(slab.journal.tail).toBe(2);
  const block = new Uint8Array(4096);
  await device.read(slab.journalOrigin + 1, block);
  expect(slabJournalHeader.decode(block)).toMatchObject({
    sequence: 1,
    entryCount: SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK,
    hasBlockMapIncrements: 0,
  });
  // With one in it, a block holds fewer.
  add(SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK - 1);
  expect(slab.journal.tail).toBe(3);
});

test("a journal that grows has counts written, and blocks are reaped after a flush: it goes around for ever", async () => {
  const { device, statistics, slab, add, config } = await make();
  for (let block = 0; block < 40; block++) {
    add(SLAB_JOURNAL_ENTRIES_PER_BLOCK);
    expect(slab.journal.length).toBeLessThanOrEqual(config.blockingThreshold + 1);
    await settle();
  }
  expect(slab.journal.tail).toBeGreaterThan(30);
  expect(statistics.refCounts.blocksWritten).toBeGreaterThan(3);
  expect(slab.journal.head).toBeGreaterThan(slab.journal.tail - config.slabJournalBlocks);
  // No journal block was written over one that the counts on the storage still needed.
  const counts = device.log.filter(({ kind, start }) => kind === "write" && start === slab.countsOrigin);
  for (const write of counts) expect(device.log[device.log.indexOf(write) - 1]?.kind).toBe("flush");
  const { pending } = { pending: statistics.slabJournal.diskFullCount };
  expect(pending).toBe(0);
});

test("a burst beyond the blocking threshold waits, and is worked off", async () => {
  const { statistics, slab, add, updated, config } = await make();
  const count = SLAB_JOURNAL_ENTRIES_PER_BLOCK * 20;
  add(count);
  expect(updated.length).toBeLessThanOrEqual(SLAB_JOURNAL_ENTRIES_PER_BLOCK * config.blockingThreshold);
  expect(statistics.slabJournal.blockedCount).toBeGreaterThan(0);
  for (let i = 0; i < 40 && updated.length < count; i++) await settle();
  expect(updated.map(({ vio }) => vio.number)).toEqual(Array.from({ length: count }, (_, i) => i));
  expect(slab.counts.get(3)).toBe(0);
});

test("read-only mode answers what waits", async () => {
  const { depot, add, updated } = await make();
  const count = SLAB_JOURNAL_ENTRIES_PER_BLOCK * 20;
  add(count);
  depot.notifier.enter(new Error("elsewhere"));
  expect(updated).toHaveLength(count);
  add(1);
  expect(updated).toHaveLength(count + 1);
  expect(updated.at(-1)?.vio.error?.code).toBe("VDO_READ_ONLY");
  await depot.drain();
  await depot.save();
});

test("slabs are opened by fullness: half-empty ones in use, then new ones, then fuller ones; full ones never", async () => {
  const { depot, config } = await make();
  const LOCK = 1;
  const slabOf = (pbn: number): number => Math.floor(pbn / SLAB);
  const take = (count: number): number[] => {
    const pbns: number[] = [];
    for (let i = 0; i < count; i++) {
      const lock = depot.allocate(LOCK);
      if (lock === null) break;
      pbns.push(lock.pbn);
    }
    return pbns;
  };
  // One slab after the other, its blocks in order. Block 0 of this volume is never data: here it stands for "none".
  depot.slabs[0]!.counts.makeProvisional(0);
  depot.onFreeChanged(depot.slabs[0]!, -1);
  const first = take(config.dataBlocks - 1);
  expect(first).toEqual(Array.from({ length: config.dataBlocks - 1 }, (_, i) => i + 1));
  expect(slabOf(take(1)[0]!)).toBe(1);
  const rest = take(10_000);
  expect(new Set(rest.map(slabOf))).toEqual(new Set([1, 2, 3]));
  expect(depot.freeBlocks).toBe(0);
  expect(depot.allocate(LOCK)).toBeNull();
  // Blocks that are given back are found again, those of the emptier slab first.
  const give = (pbns: number[]): void => {
    for (const pbn of pbns) depot.releaseLock(depot.pbnLocks.get(pbn)!);
  };
  give(first.slice(0, 20));
  give(rest.filter((pbn) => slabOf(pbn) === 2).slice(0, 600));
  expect(depot.freeBlocks).toBe(620);
  const again = take(620).map(slabOf);
  expect(again.filter((slab) => slab === 2)).toHaveLength(600);
  expect(again.slice(-20).every((slab) => slab === 0) || again.slice(0, 20).every((slab) => slab === 0)).toBe(true);
  expect(depot.allocate(LOCK)).toBeNull();
});
