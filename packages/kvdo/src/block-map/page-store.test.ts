import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { formatBlockMapPage } from "../format/index.ts";
import { ReadOnlyNotifier } from "../io/read-only.ts";
import { StorageIo } from "../io/storage-io.ts";
import { JournalLocks, LOCK_KIND_PAGES } from "../recovery-journal/journal-locks.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { BlockMapPage } from "./block-map-page.ts";
import { PageStore } from "./page-store.ts";

function newStore(): { store: PageStore; locks: JournalLocks; page: (pbn: number) => BlockMapPage } {
  const statistics = emptyStatistics();
  const io = new StorageIo(new MemoryDevice({ blockCount: 16 }), 0, statistics);
  const journalLocks = new JournalLocks(16, () => undefined);
  const notifier = new ReadOnlyNotifier();
  const store = new PageStore({ io, notifier, statistics, journalLocks, eraLength: 2, onWritten: () => undefined });
  const page = (pbn: number): BlockMapPage => {
    const made = new BlockMapPage(true);
    made.pbn = pbn;
    formatBlockMapPage(made.bytes, made.view, 1n, pbn);
    return made;
  };
  return { store, locks: journalLocks, page };
}

test("a page that becomes dirty after its era is written at once, for the journal may be full (simulation, seed 175)", async () => {
  const { store, locks, page } = newStore();
  const first = page(1);
  store.markDirty(first, 3);
  store.advance(9);
  // The era of block 3 is there until its page is written, and was passed over: nothing else comes back to it.
  const late = page(2);
  store.markDirty(late, 3);
  await store.drain();
  expect([first.dirtySequence, late.dirtySequence]).toEqual([0, 0]);
  expect(locks.isLocked(LOCK_KIND_PAGES, 3)).toBe(false);
});

test("a page of an era that lasts is not written", async () => {
  const { store, locks, page } = newStore();
  store.advance(9);
  const recent = page(1);
  store.markDirty(recent, 8);
  await store.drain();
  expect(recent.dirtySequence).toBe(8);
  expect(locks.isLocked(LOCK_KIND_PAGES, 8)).toBe(true);
});
