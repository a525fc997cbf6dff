/**
 * Cache of leaf pages: a fixed number, least recently used out first (Linux 6.12, block map page cache).
 *
 * A page that is resident is handed to its step at once; so between two steps of one vio it may have been evicted, and each
 * step asks again. Buffers are taken from memory in chunks as they are first needed.
 */
import { VdoError } from "@vdo/base";
import { BLOCK_SIZE } from "../constants.ts";
import { type DataVio, VioQueue } from "../data-path/data-vio.ts";
import { formatBlockMapPage, judgeBlockMapPage } from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import { IO_PAGE_CACHE, type StorageIo } from "../io/storage-io.ts";
import type { MappingChanges } from "../recovery/journal-entries.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import { BlockMapPage, PAGE_FREE, PAGE_LOADING, PAGE_RESIDENT } from "./block-map-page.ts";
import type { PageStore } from "./page-store.ts";

const PAGES_PER_CHUNK = 64;
/** Pages looked at for one eviction, and dirty pages then sent to be written. */
const EVICTION_SEARCH = 64;

export interface LeafCacheOptions {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  statistics: VdoStatistics;
  store: PageStore;
  nonce: bigint;
  /** Pages in memory at most. */
  capacity: number;
  /** Changes that pages lack on the storage, made as they are read: for a dirty volume that is only read. */
  overlay: MappingChanges | null;
}

export class LeafCache {
  readonly #options: LeafCacheOptions;
  readonly #pages = new Map<number, BlockMapPage>();
  readonly #free: BlockMapPage[] = [];
  #created = 0;
  #loading = 0;
  /** Least and most recently used. */
  #oldest: BlockMapPage | null = null;
  #newest: BlockMapPage | null = null;
  readonly #waitingForBuffer = new VioQueue();
  /** Leaves allocated in this run that were never loaded: whatever their blocks hold is not theirs. */
  readonly #fresh = new Set<number>();

  constructor(options: LeafCacheOptions) {
    this.#options = options;
    options.notifier.onEnter(() => this.#serveWaiting());
  }

  /** The leaf at `pbn` was just allocated. */
  addFresh(pbn: number): void {
    this.#fresh.add(pbn);
  }

  /** Calls `vio.onPage(vio, page)` with the leaf at `pbn`, at once when it is in memory. */
  get(vio: DataVio, pbn: number, forWrite: boolean): void {
    const { statistics } = this.#options;
    if (forWrite) statistics.blockMap.writeCount++;
    else statistics.blockMap.readCount++;
    const page = this.#pages.get(pbn);
    if (page !== undefined && page.state === PAGE_RESIDENT) {
      statistics.blockMap.foundInCache++;
      this.#touch(page);
      vio.onPage(vio, page);
      return;
    }
    vio.pagePbn = pbn;
    if (page !== undefined) {
      statistics.blockMap.waitForPage++;
      page.waiters.push(vio);
      return;
    }
    if (this.#fetch(vio, true)) return;
    statistics.blockMap.cachePressure++;
    this.#waitingForBuffer.push(vio);
  }

  /** The leaf at `pbn` if it is in memory now; nothing is counted. */
  peek(pbn: number): BlockMapPage | null {
    const page = this.#pages.get(pbn);
    return page !== undefined && page.state === PAGE_RESIDENT ? page : null;
  }

  /** Serves `vio` or begins to load its page; false when there is no buffer to load it into. */
  #fetch(vio: DataVio, isFirst: boolean): boolean {
    const existing = this.#pages.get(vio.pagePbn);
    if (existing !== undefined) {
      if (existing.state === PAGE_RESIDENT) {
        this.#touch(existing);
        vio.onPage(vio, existing);
      } else existing.waiters.push(vio);
      return true;
    }
    const { notifier, statistics } = this.#options;
    let buffer = this.#takeFree();
    if (buffer !== null) {
      if (isFirst) statistics.blockMap.fetchRequired++;
    } else {
      if (isFirst) statistics.blockMap.discardRequired++;
      buffer = this.#evict();
      // In read-only mode no dirty page will ever be written, and reads go on: this page makes the cache larger, and can
      // be evicted.
      if (buffer === null && notifier.isReadOnly) buffer = new BlockMapPage(true);
    }
    if (buffer === null) return false;
    void this.#load(buffer, vio);
    return true;
  }

  #takeFree(): BlockMapPage | null {
    const page = this.#free.pop();
    if (page !== undefined) return page;
    const { capacity } = this.#options;
    if (this.#created >= capacity) return null;
    const count = Math.min(PAGES_PER_CHUNK, capacity - this.#created);
    const chunk = new Uint8Array(count * BLOCK_SIZE);
    for (let i = count - 1; i >= 0; i--) {
      this.#free.push(new BlockMapPage(true, chunk.subarray(i * BLOCK_SIZE, (i + 1) * BLOCK_SIZE)));
    }
    this.#created += count;
    return this.#free.pop() as BlockMapPage;
  }

  /**
   * The least recently used clean page, taken out of the cache; null, with writes begun, when there is none among those
   * looked at. In read-only mode all are looked at.
   */
  #evict(): BlockMapPage | null {
    const limit = this.#options.notifier.isReadOnly ? Number.POSITIVE_INFINITY : EVICTION_SEARCH;
    let page = this.#oldest;
    for (let i = 0; i < limit && page !== null; i++) {
      if (page.dirtySequence === 0 && !page.isWriting) {
        this.#unlink(page);
        this.#pages.delete(page.pbn);
        page.state = PAGE_FREE;
        return page;
      }
      this.#options.store.write(page);
      page = page.next;
    }
    return null;
  }

  async #load(page: BlockMapPage, first: DataVio): Promise<void> {
    const { io, notifier, statistics, nonce, overlay } = this.#options;
    const pbn = first.pagePbn;
    page.pbn = pbn;
    page.state = PAGE_LOADING;
    page.waiters.push(first);
    this.#pages.set(pbn, page);
    this.#loading++;
    statistics.blockMap.pagesLoaded++;
    let failure: unknown = null;
    try {
      await io.readMeta(IO_PAGE_CACHE, pbn, page.bytes);
      const verdict = this.#fresh.delete(pbn) ? "uninitialised" : judgeBlockMapPage(page.view, nonce, pbn);
      if (verdict === "uninitialised") formatBlockMapPage(page.bytes, page.view, nonce, pbn);
      if (verdict === "bad") failure = badPage(page, pbn);
      overlay?.apply(pbn, (slot, newPbn, newState) => page.map(slot, newPbn, newState));
    } catch (error) {
      statistics.blockMap.failedReads++;
      failure = error;
    }
    this.#loading--;
    if (failure === null) {
      page.state = PAGE_RESIDENT;
      this.#linkNewest(page);
    } else {
      this.#pages.delete(pbn);
      page.state = PAGE_FREE;
      this.#free.push(page);
      notifier.enter(failure);
    }
    const waiters = new VioQueue();
    waiters.append(page.waiters);
    for (let vio = waiters.shift(); vio !== null; vio = waiters.shift()) {
      if (failure !== null) vio.error ??= toError(failure, pbn);
      vio.onPage(vio, failure === null ? page : null);
    }
    // Whatever became of the page, there may be a buffer now: its own, or that of the page used longest ago.
    this.#serveWaiting();
  }

  /** A page was written, so it can be evicted now. */
  onWritten(): void {
    this.#serveWaiting();
  }

  /** In the order of arrival, up to the first that finds no buffer. */
  #serveWaiting(): void {
    for (let vio = this.#waitingForBuffer.shift(); vio !== null; vio = this.#waitingForBuffer.shift()) {
      if (!this.#fetch(vio, false)) {
        this.#waitingForBuffer.pushFront(vio);
        return;
      }
      this.#options.statistics.blockMap.reclaimed++;
    }
  }

  // --- order of use

  #touch(page: BlockMapPage): void {
    if (this.#newest === page) return;
    this.#unlink(page);
    this.#linkNewest(page);
  }

  #linkNewest(page: BlockMapPage): void {
    page.previous = this.#newest;
    page.next = null;
    if (this.#newest === null) this.#oldest = page;
    else this.#newest.next = page;
    this.#newest = page;
  }

  #unlink(page: BlockMapPage): void {
    if (page.previous === null) this.#oldest = page.next;
    else page.previous.next = page.next;
    if (page.next === null) this.#newest = page.previous;
    else page.next.previous = page.previous;
    page.previous = null;
    page.next = null;
  }

  /** Fills in the gauges of the statistics. */
  gauge(): void {
    const { blockMap } = this.#options.statistics;
    const { store, capacity } = this.#options;
    blockMap.dirtyPages = store.dirtyLeaves;
    blockMap.outgoingPages = store.outgoingLeaves;
    blockMap.incomingPages = this.#loading;
    blockMap.freePages = Math.max(0, capacity - this.#pages.size);
    blockMap.cleanPages = Math.max(0, this.#pages.size - this.#loading - store.dirtyLeaves - store.outgoingLeaves);
    blockMap.failedPages = 0;
  }
}

function badPage(page: BlockMapPage, pbn: number): VdoError {
  const actual = page.view.getUint32(16, true) + page.view.getUint32(20, true) * 0x1_0000_0000;
  return new VdoError(
    "VDO_BAD_PAGE",
    `block map page at block ${pbn} says that it is page ${actual}; the volume is read-only now, rebuild it (vdo forceRebuild)`,
    { structure: "block map page", field: "pbn", expected: pbn, actual },
  );
}

/** Whatever was thrown, as an error of ours. */
export function toError(failure: unknown, block: number): VdoError {
  if (failure instanceof VdoError) return failure;
  return new VdoError(
    "VDO_IO",
    `I/O of block ${block} failed: ${String(failure)}`,
    { operation: "read", block },
    failure,
  );
}
