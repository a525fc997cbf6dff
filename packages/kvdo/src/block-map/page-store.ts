/**
 * Dirty block map pages and their way to the storage (Linux 6.12, dirty lists and page write-out).
 *
 * - A dirty page carries the oldest recovery journal block whose change it holds, and keeps that block from being reused
 *   until the page is written.
 * - Pages are written when that block is older than the era (11738 journal blocks by default), when their buffer is needed,
 *   and at a clean stop. A batch begins with a device flush, because the journal must be ahead of the pages.
 * - A page that was never written is written twice, first marked as not initialised: a torn first write then reads as empty,
 *   and the journal, which is still there, fills it.
 * - What is written is a copy, so a page may change, and become dirty again, while it is being written.
 */
import { BLOCK_SIZE } from "../constants.ts";
import { isPageInitialised, setPageInitialised } from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import { IO_META, IO_PAGE_CACHE, type StorageIo } from "../io/storage-io.ts";
import { type JournalLocks, LOCK_KIND_PAGES } from "../recovery-journal/journal-locks.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import type { BlockMapPage } from "./block-map-page.ts";

const WRITES_IN_FLIGHT = 64;

export interface PageStoreOptions {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  statistics: VdoStatistics;
  journalLocks: JournalLocks;
  /** Journal blocks after which a dirty page is written. */
  eraLength: number;
  /** A page was written, or its write failed. */
  onWritten: (page: BlockMapPage) => void;
}

export class PageStore {
  readonly #options: PageStoreOptions;
  /** Dirty pages by the journal block they hold. */
  readonly #eras = new Map<number, Set<BlockMapPage>>();
  #oldestEra = 0;
  /** Pages that hold a journal block before this one are written at once. */
  #limit = 0;
  #queue: BlockMapPage[] = [];
  #isWriting = false;
  #idleWaiters: (() => void)[] = [];
  dirtyLeaves = 0;
  outgoingLeaves = 0;

  constructor(options: PageStoreOptions) {
    this.#options = options;
  }

  /** `page` changed by an entry of journal block `sequence`. */
  markDirty(page: BlockMapPage, sequence: number): void {
    const before = page.dirtySequence;
    if (before !== 0 && before <= sequence) return;
    const locks = this.#options.journalLocks;
    locks.acquire(LOCK_KIND_PAGES, sequence);
    if (before !== 0) {
      this.#eras.get(before)?.delete(page);
      locks.release(LOCK_KIND_PAGES, before);
    } else if (page.isLeaf) this.dirtyLeaves++;
    page.dirtySequence = sequence;
    let era = this.#eras.get(sequence);
    if (era === undefined) {
      era = new Set();
      this.#eras.set(sequence, era);
      if (this.#oldestEra === 0 || sequence < this.#oldestEra) this.#oldestEra = sequence;
    }
    era.add(page);
    // Its time has come already, and the journal may be full: then no block is opened that would have it written.
    if (sequence < this.#limit) this.write(page);
  }

  /** The journal opened a block: pages that hold one older than the era are written. `tail` is the journal's tail. */
  advance(tail: number): void {
    const limit = tail - this.#options.eraLength;
    this.#limit = limit;
    if (this.#oldestEra === 0) return;
    for (; this.#oldestEra < limit; this.#oldestEra++) {
      const era = this.#eras.get(this.#oldestEra);
      if (era === undefined) continue;
      for (const page of era) this.write(page);
      if (era.size === 0) this.#eras.delete(this.#oldestEra);
    }
  }

  /** Has a dirty page written soon. */
  write(page: BlockMapPage): void {
    if (page.isQueued || page.dirtySequence === 0) return;
    page.isQueued = true;
    this.#queue.push(page);
    this.#start();
  }

  /** Has the pages that have been dirty longest written: up to `count`. */
  writeOldest(count: number): void {
    let left = count;
    for (const [sequence, era] of this.#eras) {
      if (era.size === 0) {
        this.#eras.delete(sequence);
        continue;
      }
      for (const page of era) {
        if (left-- <= 0) return;
        this.write(page);
      }
    }
  }

  #start(): void {
    if (this.#isWriting) return;
    this.#isWriting = true;
    void Promise.resolve().then(() => this.#writeBatches());
  }

  async #writeBatches(): Promise<void> {
    while (this.#queue.length > 0 && !this.#options.notifier.isReadOnly) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        if (batch.some((page) => page.isLeaf)) {
          this.#options.statistics.blockMap.flushCount++;
          await this.#options.io.flush(IO_PAGE_CACHE);
        } else await this.#options.io.flush(IO_META);
        await this.#writeBatch(batch);
      } catch (error) {
        this.#options.notifier.enter(error);
      }
    }
    this.#isWriting = false;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  async #writeBatch(batch: readonly BlockMapPage[]): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      const copy = new Uint8Array(BLOCK_SIZE);
      for (let page = batch[next++]; page !== undefined; page = batch[next++]) await this.#writePage(page, copy);
    };
    await Promise.all(Array.from({ length: Math.min(WRITES_IN_FLIGHT, batch.length) }, worker));
  }

  async #writePage(page: BlockMapPage, copy: Uint8Array): Promise<void> {
    const { io, notifier, statistics, journalLocks, onWritten } = this.#options;
    if (notifier.isReadOnly) return;
    page.isQueued = false;
    const sequence = page.dirtySequence;
    const era = this.#eras.get(sequence);
    era?.delete(page);
    if (era?.size === 0) this.#eras.delete(sequence);
    page.dirtySequence = 0;
    page.isWriting = true;
    copy.set(page.bytes);
    const group = page.isLeaf ? IO_PAGE_CACHE : IO_META;
    if (page.isLeaf) {
      this.dirtyLeaves--;
      this.outgoingLeaves++;
      statistics.blockMap.pagesSaved++;
    }
    try {
      const wasInitialised = isPageInitialised(copy);
      await io.writeMeta(group, page.pbn, copy);
      if (!wasInitialised) {
        setPageInitialised(copy, true);
        await io.writeMeta(group, page.pbn, copy, { preflush: true });
        setPageInitialised(page.bytes, true);
      }
      journalLocks.release(LOCK_KIND_PAGES, sequence);
    } catch (error) {
      if (page.isLeaf) {
        statistics.blockMap.failedWrites++;
        if (page.dirtySequence === 0) this.dirtyLeaves++;
      }
      // Its changes are in memory only: it must not be evicted. No era names it, for nothing is written any more.
      page.dirtySequence ||= sequence;
      notifier.enter(error);
    }
    page.isWriting = false;
    if (page.isLeaf) this.outgoingLeaves--;
    onWritten(page);
  }

  /** Resolves when no page is being written. */
  async drain(): Promise<void> {
    while (this.#isWriting) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
  }

  /** Writes every dirty page. */
  async save(): Promise<void> {
    do {
      for (const era of this.#eras.values()) for (const page of era) this.write(page);
      await this.drain();
    } while (!this.#options.notifier.isReadOnly && [...this.#eras.values()].some((era) => era.size > 0));
    this.#eras.clear();
    this.#oldestEra = 0;
  }
}
