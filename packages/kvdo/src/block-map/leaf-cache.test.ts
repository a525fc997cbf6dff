import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DataVio } from "../data-path/data-vio.ts";
import { mappingAt, readMappingPbn } from "../format/index.ts";
import { ReadOnlyNotifier } from "../io/read-only.ts";
import { StorageIo } from "../io/storage-io.ts";
import { JournalLocks, LOCK_KIND_PAGES } from "../recovery-journal/journal-locks.ts";
import { emptyStatistics } from "../statistics/index.ts";
import type { BlockMapPage } from "./block-map-page.ts";
import { LeafCache } from "./leaf-cache.ts";
import { PageStore } from "./page-store.ts";

const PAGES = 40;

function make(capacity: number, eraLength = 10) {
  const base = new MemoryDevice({ blockCount: PAGES });
  const faulty = new FaultyDevice(base);
  const device = new RecordingDevice(faulty);
  const statistics = emptyStatistics();
  const notifier = new ReadOnlyNotifier();
  const journalLocks = new JournalLocks(64, () => undefined);
  const io = new StorageIo(device, 0, statistics);
  const store: PageStore = new PageStore({
    io,
    notifier,
    statistics,
    journalLocks,
    eraLength,
    onWritten: () => cache.onWritten(),
  });
  const cache: LeafCache = new LeafCache({ io, notifier, statistics, store, nonce: 5n, capacity, overlay: null });
  const get = (pbn: number, act: (page: BlockMapPage) => void = () => undefined): Promise<void> =>
    new Promise((resolve, reject) => {
      const vio = new DataVio(0, Buffer.alloc(0), Buffer.alloc(0));
      vio.onPage = (_, page) => {
        if (page === null) return reject(vio.error);
        act(page);
        resolve();
      };
      cache.get(vio, pbn, true);
    });
  const change = (pbn: number, value: number, sequence: number): Promise<void> =>
    get(pbn, (page) => {
      page.map(1, value, 1);
      store.markDirty(page, sequence);
    });
  const stored = async (pbn: number): Promise<number> => {
    const bytes = new Uint8Array(4096);
    await base.read(pbn, bytes);
    return readMappingPbn(bytes, mappingAt(1));
  };
  return { device, faulty, statistics, notifier, journalLocks, store, cache, get, change, stored };
}

test("the least recently used page makes room", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(9), { maxLength: 80 }), async (pbns) => {
      const { device, get } = make(4);
      let recent: number[] = [];
      for (const pbn of pbns) {
        device.log.length = 0;
        await get(pbn);
        expect(device.of("read").length, `page ${pbn}, in memory ${recent}`).toBe(recent.includes(pbn) ? 0 : 1);
        recent = [pbn, ...recent.filter((other) => other !== pbn)].slice(0, 4);
      }
    }),
    { numRuns: 50 },
  );
});

test("pages asked for at once are read once; changes survive eviction in any history", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(fc.nat(PAGES - 1), { maxLength: 12 }), { maxLength: 20 }), async (bursts) => {
      const { get, change, store, notifier, cache } = make(5);
      const model = new Map<number, number>();
      let value = 100;
      let sequence = 1;
      for (const burst of bursts) {
        const works = burst.map((pbn) => {
          model.set(pbn, ++value);
          return change(pbn, value, sequence);
        });
        store.advance(++sequence);
        await Promise.all(works);
        for (const pbn of burst.slice(0, 3)) {
          await get(pbn, (page) => expect(page.mappedPbn(1)).toBe(model.get(pbn)));
        }
      }
      await store.save();
      for (const [pbn, expected] of model) await get(pbn, (page) => expect(page.mappedPbn(1)).toBe(expected));
      expect([notifier.isReadOnly, store.dirtyLeaves, store.outgoingLeaves]).toEqual([false, 0, 0]);
      cache.gauge();
    }),
    { numRuns: 40 },
  );
});

test("a page is written when the journal block that it holds is older than the era, and lets go of it then", async () => {
  const { device, change, store, stored, journalLocks } = make(8, 10);
  await change(1, 111, 5);
  await change(2, 222, 6);
  await change(1, 112, 7);
  for (const tail of [8, 15]) store.advance(tail);
  await store.drain();
  expect(device.of("write")).toEqual([]);
  expect(journalLocks.isLocked(LOCK_KIND_PAGES, 5)).toBe(true);
  store.advance(16);
  await store.drain();
  expect([await stored(1), await stored(2)]).toEqual([112, 0]);
  expect([journalLocks.isLocked(LOCK_KIND_PAGES, 5), journalLocks.isLocked(LOCK_KIND_PAGES, 6)]).toEqual([false, true]);
  // The first write is made twice, with a flush between.
  const changes = device.log.filter(({ kind }) => kind !== "read").map(({ kind }) => kind);
  expect(changes.slice(-3)).toEqual(["write", "flush", "write"]);
  await change(1, 113, 20);
  device.log.length = 0;
  await store.save();
  expect([await stored(1), await stored(2)]).toEqual([113, 222]);
  expect(device.of("write").filter(({ start }) => start === 1)).toHaveLength(1);
});

test("in read-only mode dirty pages stay, and others are read beside them", async () => {
  const { change, get, notifier, faulty, stored, store } = make(3);
  for (const pbn of [1, 2, 3]) await change(pbn, pbn * 11, 1);
  faulty.add({ operation: "write" });
  // Who waits for a buffer when writing fails is served all the same.
  const waiting = [get(10), get(11), get(12), get(13)];
  await Promise.all(waiting);
  await store.drain();
  expect(notifier.isReadOnly).toBe(true);
  for (const pbn of [20, 21, 22, 23, 24]) await get(pbn);
  for (const pbn of [1, 2, 3]) {
    await get(pbn, (page) => expect(page.mappedPbn(1)).toBe(pbn * 11));
    expect(await stored(pbn)).toBe(0);
  }
});
