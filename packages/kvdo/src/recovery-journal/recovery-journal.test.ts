import { Random, systemClock } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { RecordingDevice, SimulatedDisk } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import { journalUsableBlocks, JOURNAL_ENTRIES_PER_BLOCK as PER_BLOCK } from "../constants.ts";
import { DataVio } from "../data-path/data-vio.ts";
import { JOURNAL_NEW_MAPPING_AT, journalEntryAt, readMappingPbn, recoveryJournalHeader } from "../format/index.ts";
import { ReadOnlyNotifier } from "../io/read-only.ts";
import { StorageIo } from "../io/storage-io.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { LOCK_KIND_SLAB_JOURNALS } from "./journal-locks.ts";
import { RecoveryJournal } from "./recovery-journal.ts";

const SIZE = 32;
const START = 40;
const USABLE = journalUsableBlocks(SIZE) * PER_BLOCK;

function make(base: MemoryDevice | SimulatedDisk = new MemoryDevice({ blockCount: 64 })) {
  const device = new RecordingDevice(base, { keepData: true });
  const statistics = emptyStatistics();
  const notifier = new ReadOnlyNotifier();
  const committed: number[] = [];
  const requests: number[] = [];
  const journal = new RecoveryJournal(
    {
      io: new StorageIo(device, 0, statistics),
      notifier,
      statistics,
      clock: systemClock,
      origin: 0,
      size: SIZE,
      nonce: 7n,
      recoveries: 3,
      start: START,
      logicalBlocksUsed: 10,
      blockMapDataBlocks: 0,
    },
    {
      isUrgent: () => true,
      onAdvance: () => undefined,
      commitSlabJournals: (sequence) => void requests.push(sequence),
    },
  );
  let next = 0;
  const add = (count: number): DataVio[] =>
    Array.from({ length: count }, () => {
      const vio = new DataVio(next++, Buffer.alloc(0), Buffer.alloc(0));
      vio.entryPbn = 5;
      vio.entryNewPbn = 1000 + vio.number;
      vio.entryNewState = 1;
      vio.onCommitted = () => void committed.push(vio.number);
      journal.add(vio);
      return vio;
    });
  return { device, statistics, notifier, committed, requests, journal, add };
}

/** Lets everything that is under way on a device in memory end. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("entries of one turn go down in one write, after a flush, and come back in order", async () => {
  const { device, committed, add, statistics } = make();
  add(30);
  expect(committed).toEqual([]);
  await settle();
  expect(device.log.map(({ kind, fua }) => `${kind}${fua ? " fua" : ""}`)).toEqual(["flush", "write fua"]);
  expect(committed).toEqual(Array.from({ length: 30 }, (_, i) => i));
  const bytes = device.of("write")[0]!.data!;
  const header = recoveryJournalHeader.decode(bytes);
  expect(header).toMatchObject({ sequence: START, entryCount: 30, logicalBlocksUsed: 10, recoveryCount: 3, nonce: 7n });
  for (let i = 0; i < 30; i++) expect(readMappingPbn(bytes, journalEntryAt(i) + JOURNAL_NEW_MAPPING_AT)).toBe(1000 + i);
  expect(statistics.journal.entries).toEqual({ started: 30, written: 30, committed: 30 });
});

test("what comes during a commit waits for the next; a block that is not full is written again, with its old entries", async () => {
  const { device, committed, add, journal } = make();
  add(10);
  await Promise.resolve();
  await Promise.resolve();
  add(5);
  add(6);
  await settle();
  expect(device.of("write").map(({ data }) => recoveryJournalHeader.decode(data!).entryCount)).toEqual([10, 21]);
  expect(committed).toEqual(Array.from({ length: 21 }, (_, i) => i));
  expect(journal.logicalBlocksUsed).toBe(31);
});

test("without space entries wait; heads move when entries are released, and only after a flush", async () => {
  const { device, committed, add, journal } = make();
  const vios = add(USABLE + 3);
  await settle();
  expect(committed).toHaveLength(USABLE);
  device.log.length = 0;
  for (const vio of vios.slice(0, PER_BLOCK - 1)) journal.releaseEntry(vio.journalSequence);
  await settle();
  expect([journal.head, device.log.length]).toEqual([START, 0]);
  journal.releaseEntry(START);
  expect(journal.head).toBe(START);
  await settle();
  expect(journal.head).toBe(START + 1);
  expect(device.log[0]?.kind).toBe("flush");
  expect(committed).toEqual(vios.map(({ number }) => number));
});

test("the ring is gone around many times: positions, check bytes, and never a block that is still needed", async () => {
  const random = new Random(11);
  const { device, committed, add, journal, notifier } = make(
    new SimulatedDisk({ blockCount: 64, seed: 11, batchMax: 8 }),
  );
  const held: DataVio[] = [];
  let added = 0;
  let released = 0;
  while (added < 60 * PER_BLOCK) {
    const more = add(1 + random.below(300));
    added += more.length;
    held.push(...more);
    await new Promise((resolve) => setImmediate(resolve));
    // Those that are committed let go, in any order within a window.
    while (released < committed.length - random.below(50)) {
      const vio = held[released++] as DataVio;
      journal.releaseEntry(vio.journalSequence);
    }
    expect(journal.tail - journal.head).toBeLessThanOrEqual(SIZE + 1);
  }
  while (committed.length < added) {
    await new Promise((resolve) => setImmediate(resolve));
    while (released < committed.length) journal.releaseEntry(held[released++]!.journalSequence);
  }
  expect(committed).toEqual(Array.from({ length: added }, (_, i) => i));
  expect(notifier.isReadOnly).toBe(false);
  const written = new Set<number>();
  for (const { start, data } of device.of("write")) {
    const { sequence, checkByte } = recoveryJournalHeader.decode(data!);
    expect(start).toBe(sequence % SIZE);
    expect(checkByte).toBe(0x80 | (Math.floor(sequence / SIZE) % 0x80));
    written.add(sequence);
  }
  expect(written.size).toBeGreaterThan(60);
  await journal.save();
});

test("past two thirds of the ring the slab journals that hold it back are asked to commit", async () => {
  const { requests, add, journal } = make();
  journal.locks.acquire(LOCK_KIND_SLAB_JOURNALS, START);
  const release = async (count: number): Promise<void> => {
    const vios = add(count);
    await settle();
    for (const vio of vios) journal.releaseEntry(vio.journalSequence);
    await settle();
  };
  for (let block = 0; block < 21; block++) await release(PER_BLOCK);
  expect([requests, journal.head]).toEqual([[], START]);
  await release(1);
  expect(requests[0]).toBe(START);
  journal.locks.release(LOCK_KIND_SLAB_JOURNALS, START);
  await settle();
  expect(journal.head).toBeGreaterThan(START + 15);
  const before = requests.length;
  await release(1);
  expect(requests).toHaveLength(before);
});

test("a write that fails ends in read-only mode, and everybody is answered: encoded, waiting, without space, and later", async () => {
  const { committed, add, notifier, journal } = make();
  const vios = add(USABLE + 100);
  notifier.enter(new Error("elsewhere"));
  vios.push(...add(1));
  await settle();
  expect(new Set(committed).size).toBe(vios.length);
  expect(vios.at(-1)!.error?.code).toBe("VDO_READ_ONLY");
  await journal.drain();
  await journal.save();
});
