/**
 * Pages of closed chapters, in one fixed block of memory, least recently used out first.
 *
 * A request that needs a page which is not here waits in the page's own queue; when the page arrives, its waiters are run
 * at once, in order. Reads in flight are bounded; further pages wait for their turn, and when every place is taken by a
 * page still to be read, requests wait for a place. Nothing is allocated per look-up.
 */
import type { VdoError } from "@vdo/base";
import { type IndexPageInfo, readIndexPage } from "../chapter/index-page.ts";
import { BLOCK_BYTES, CACHE_CHAPTERS, PAGE_READS_MAX } from "../constants.ts";
import { corrupt } from "../errors.ts";
import type { IndexGeometry } from "../geometry.ts";
import type { IndexStorage } from "../layout/index-storage.ts";
import type { PageMap } from "../page-map.ts";
import type { UdsRequest } from "../request.ts";
import { RequestQueue } from "./request-queue.ts";

const PageState = { FREE: 0, QUEUED: 1, READING: 2, STALE: 3, VALID: 4 } as const;

export interface PageCacheOptions {
  readonly geometry: IndexGeometry;
  readonly storage: IndexStorage;
  readonly volumeStart: number;
  readonly nonce: bigint;
  readonly pageMap: PageMap;
  /** Runs a request whose page has arrived. */
  readonly resume: (request: UdsRequest) => void;
  /** Is told of a page that cannot be used, before its waiters are resumed. */
  readonly fail: (error: unknown) => void;
}

export class PageCache {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly slotCount: number;
  /** First list, and number of lists, of the index page in a slot. */
  readonly firstLists: Uint16Array;
  hits = 0;
  misses = 0;
  readonly #options: PageCacheOptions;
  readonly #slots = new Map<number, number>();
  readonly #pages: Float64Array;
  readonly #states: Uint8Array;
  readonly #waiting: RequestQueue[] = [];
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #newest = -1;
  #oldest = -1;
  readonly #queue: Int32Array;
  #queueHead = 0;
  #queueLength = 0;
  #reading = 0;
  readonly #starved = new RequestQueue();

  constructor(options: PageCacheOptions) {
    this.#options = options;
    const { bytesPerPage } = options.geometry;
    this.slotCount = PageCache.slots(options.geometry);
    this.bytes = new Uint8Array(this.slotCount * bytesPerPage + 8);
    this.view = new DataView(this.bytes.buffer);
    this.firstLists = new Uint16Array(this.slotCount);
    this.#pages = new Float64Array(this.slotCount).fill(-1);
    this.#states = new Uint8Array(this.slotCount);
    this.#newer = new Int32Array(this.slotCount);
    this.#older = new Int32Array(this.slotCount);
    this.#queue = new Int32Array(this.slotCount);
    for (let slot = 0; slot < this.slotCount; slot++) {
      this.#waiting.push(new RequestQueue());
      this.#link(slot);
    }
  }

  static slots(geometry: IndexGeometry): number {
    return Math.max(CACHE_CHAPTERS * geometry.recordPagesPerChapter, 2 * PAGE_READS_MAX);
  }

  /** Bytes taken by a cache. */
  static memory(geometry: IndexGeometry): number {
    return PageCache.slots(geometry) * (geometry.bytesPerPage + 64);
  }

  #link(slot: number): void {
    this.#older[slot] = this.#newest;
    this.#newer[slot] = -1;
    if (this.#newest >= 0) this.#newer[this.#newest] = slot;
    else this.#oldest = slot;
    this.#newest = slot;
  }

  #unlink(slot: number): void {
    const newer = this.#newer[slot] as number;
    const older = this.#older[slot] as number;
    if (newer >= 0) this.#older[newer] = older;
    else this.#newest = older;
    if (older >= 0) this.#newer[older] = newer;
    else this.#oldest = newer;
  }

  /** The byte at which page `pageNumber` is, or -1: then `request` waits, and is resumed when the page is here. */
  find(pageNumber: number, request: UdsRequest): number {
    let slot = this.#slots.get(pageNumber);
    if (slot !== undefined && this.#states[slot] === PageState.VALID) {
      this.hits++;
      if (slot !== this.#newest) {
        this.#unlink(slot);
        this.#link(slot);
      }
      return slot * this.#options.geometry.bytesPerPage;
    }
    if (slot === undefined) {
      this.misses++;
      slot = this.#claim(pageNumber);
      if (slot < 0) {
        this.#starved.push(request);
        return -1;
      }
      this.#states[slot] = PageState.QUEUED;
      this.#queue[(this.#queueHead + this.#queueLength++) % this.slotCount] = slot;
      this.#startReads();
    }
    (this.#waiting[slot] as RequestQueue).push(request);
    return -1;
  }

  /** Takes the least recently used slot that is not waiting for its page; -1 when there is none. */
  #claim(pageNumber: number): number {
    let slot = this.#oldest;
    while (slot >= 0 && this.#states[slot] !== PageState.FREE && this.#states[slot] !== PageState.VALID) {
      slot = this.#newer[slot] as number;
    }
    if (slot < 0) return -1;
    const old = this.#pages[slot] as number;
    if (old >= 0) this.#slots.delete(old);
    this.#pages[slot] = pageNumber;
    this.#slots.set(pageNumber, slot);
    this.#unlink(slot);
    this.#link(slot);
    return slot;
  }

  #startReads(): void {
    while (this.#reading < PAGE_READS_MAX && this.#queueLength > 0) {
      const slot = this.#queue[this.#queueHead] as number;
      this.#queueHead = (this.#queueHead + 1) % this.slotCount;
      this.#queueLength--;
      if (this.#states[slot] === PageState.QUEUED) this.#states[slot] = PageState.READING;
      this.#reading++;
      this.#read(slot).then(
        () => this.#arrived(slot),
        (error: unknown) => this.#failed(slot, error),
      );
    }
  }

  #read(slot: number): Promise<void> {
    const { storage, volumeStart, geometry } = this.#options;
    const at = slot * geometry.bytesPerPage;
    const block = volumeStart + ((this.#pages[slot] as number) * geometry.bytesPerPage) / BLOCK_BYTES;
    return storage.read(block, this.bytes.subarray(at, at + geometry.bytesPerPage));
  }

  #arrived(slot: number): void {
    const error = this.#states[slot] === PageState.STALE ? undefined : this.#accept(slot);
    if (error !== undefined) {
      this.#failed(slot, error);
      return;
    }
    if (this.#states[slot] === PageState.STALE) this.#release(slot);
    else this.#states[slot] = PageState.VALID;
    this.#settle(slot);
  }

  #failed(slot: number, cause: unknown): void {
    const stale = this.#states[slot] === PageState.STALE;
    this.#release(slot);
    if (!stale) this.#options.fail(cause);
    this.#settle(slot);
  }

  #release(slot: number): void {
    const page = this.#pages[slot] as number;
    if (page >= 0 && this.#slots.get(page) === slot) this.#slots.delete(page);
    this.#pages[slot] = -1;
    this.#states[slot] = PageState.FREE;
  }

  #settle(slot: number): void {
    this.#reading--;
    // Only those that wait now: a resumed request may come to wait here again.
    const waiting = this.#waiting[slot] as RequestQueue;
    for (let left = waiting.length; left > 0; left--) this.#options.resume(waiting.shift() as UdsRequest);
    for (let left = this.#starved.length; left > 0; left--) this.#options.resume(this.#starved.shift() as UdsRequest);
    this.#startReads();
  }

  /** Checks a page that was read; an index page must be the one that the page map knows. */
  #accept(slot: number): VdoError | undefined {
    const { geometry, nonce, pageMap } = this.#options;
    const number = (this.#pages[slot] as number) - 1;
    const chapter = Math.floor(number / geometry.pagesPerChapter);
    const page = number % geometry.pagesPerChapter;
    if (page >= geometry.indexPagesPerChapter) return undefined;
    const info = readIndexPage(this.view, slot * geometry.bytesPerPage, geometry.bytesPerPage, nonce);
    const name = `index page ${page} of chapter slot ${chapter}`;
    if (info === undefined)
      return corrupt(name, "content", { expected: "an index page of this volume", actual: "other bytes" });
    return this.#checkPlace(name, info, { chapter, page, slot, pageMap });
  }

  #checkPlace(
    name: string,
    info: IndexPageInfo,
    { chapter, page, slot, pageMap }: { chapter: number; page: number; slot: number; pageMap: PageMap },
  ): VdoError | undefined {
    const { geometry } = this.#options;
    if (Number(info.virtualChapter % BigInt(geometry.chaptersPerVolume)) !== chapter) {
      return corrupt(name, "virtual chapter", {
        expected: `one stored in slot ${chapter}`,
        actual: info.virtualChapter,
      });
    }
    const lowest = pageMap.lowest(chapter, page);
    const highest = pageMap.highest(chapter, page);
    const last = info.firstList + info.listCount - 1;
    if (info.firstList !== lowest) return corrupt(name, "first list", { expected: lowest, actual: info.firstList });
    if (last !== highest) return corrupt(name, "last list", { expected: highest, actual: last });
    this.firstLists[slot] = info.firstList;
    return undefined;
  }

  /** Takes in an index page that was just written. */
  install(pageNumber: number, page: Uint8Array, firstList: number): void {
    if (this.#slots.has(pageNumber)) return;
    const slot = this.#claim(pageNumber);
    if (slot < 0) return;
    this.bytes.set(page, slot * page.length);
    this.firstLists[slot] = firstList;
    this.#states[slot] = PageState.VALID;
  }

  /** Forgets the pages of an expired chapter; requests that wait for them are tried again. */
  forgetChapter(physicalChapter: number): void {
    const { pagesPerChapter } = this.#options.geometry;
    const first = 1 + physicalChapter * pagesPerChapter;
    for (let page = first; page < first + pagesPerChapter; page++) {
      const slot = this.#slots.get(page);
      if (slot === undefined) continue;
      if (this.#states[slot] === PageState.VALID) this.#release(slot);
      else {
        this.#states[slot] = PageState.STALE;
        this.#slots.delete(page);
      }
    }
  }

  /** Forgets everything; nothing may be waiting. */
  clear(): void {
    for (let slot = 0; slot < this.slotCount; slot++) if (this.#states[slot] === PageState.VALID) this.#release(slot);
  }
}
