/**
 * Answers requests: the volume index names a chapter, the chapter's record says yes or no (Linux 6.12, index).
 *
 * Everything happens in the thread of the caller. A request is answered at once unless a page has to be read; then it is
 * parked in the page's queue and run again from the start when the page is here ({@link RequestGates}). A full chapter
 * is written while the next one fills.
 */
import { VdoError } from "@vdo/base";
import { ChapterWriter } from "../chapter/chapter-writer.ts";
import { listStart } from "../chapter/index-page.ts";
import { OpenChapter } from "../chapter/open-chapter.ts";
import { findRecord } from "../chapter/record-page.ts";
import { CHAPTER_MEAN_DELTA } from "../constants.ts";
import { deltaCode } from "../delta/delta-code.ts";
import { ListCursor } from "../delta/list-cursor.ts";
import type { SubIndex } from "../delta/sub-index.ts";
import { corrupt } from "../errors.ts";
import type { IndexGeometry } from "../geometry.ts";
import type { IndexStorage } from "../layout/index-storage.ts";
import { PageMap } from "../page-map.ts";
import { chapterAddress, chapterList } from "../record-place.ts";
import { RecordLocation, UdsOperation, type UdsRequest } from "../request.ts";
import { RequestCounters } from "../statistics.ts";
import { VolumeIndex } from "../volume-index.ts";
import { PageCache } from "./page-cache.ts";
import { RequestGates } from "./request-gates.ts";
import { SparseCache } from "./sparse-cache.ts";

/** First word of the old and of the new value in {@link UdsRequest.words}. */
const VALUE_WORD = 4;
const OLD_VALUE_WORD = 8;

/** Outcome of a search in a chapter. */
const Search = { PARKED: -1, ABSENT: 0, FOUND: 1 } as const;
type Search = (typeof Search)[keyof typeof Search];

export interface IndexEngineOptions {
  readonly geometry: IndexGeometry;
  readonly storage: IndexStorage;
  readonly volumeStart: number;
  readonly nonce: bigint;
  /** Called before a chapter is written; makes sure that no older save is loaded any more. */
  readonly beforeChapterWrite: () => Promise<void>;
  /** Told once, when an error disables the index. */
  readonly onDisabled: (error: unknown) => void;
}

export class IndexEngine {
  readonly volumeIndex: VolumeIndex;
  readonly pageMap: PageMap;
  readonly pageCache: PageCache;
  readonly sparseCache: SparseCache | undefined;
  readonly counters = new RequestCounters();
  readonly gates: RequestGates;
  openChapter: OpenChapter;
  writingChapter: OpenChapter;
  newest = 0;
  oldest = 0;
  /** Set by any request since the last save. */
  needToSave = false;
  /** A chapter could not be written, so that this state must not be saved. */
  chapterLost = false;
  /** Records missing from their chapter's index because its lists were too full. */
  droppedRecords = 0;

  readonly #options: IndexEngineOptions;
  readonly #geometry: IndexGeometry;
  readonly #cursor: ListCursor;
  readonly #writer: ChapterWriter;
  #closePending = false;
  #writing: Promise<void> | undefined;
  #disabled: unknown;
  #refusal: VdoError | undefined;
  /** Set while {@link findInChapter} uses the page cache. */
  #searcher: UdsRequest | undefined;

  constructor(options: IndexEngineOptions) {
    const { geometry, storage, volumeStart, nonce } = options;
    this.#options = options;
    this.gates = new RequestGates(
      (request) => this.#execute(request),
      () => this.#writing === undefined,
    );
    this.#geometry = geometry;
    this.volumeIndex = new VolumeIndex(geometry);
    this.pageMap = new PageMap(geometry);
    this.openChapter = new OpenChapter(geometry.recordsPerChapter);
    this.writingChapter = new OpenChapter(geometry.recordsPerChapter);
    this.#cursor = new ListCursor(deltaCode(CHAPTER_MEAN_DELTA), geometry.chapterPayloadBits);
    this.sparseCache = geometry.sampleRate > 0 ? new SparseCache(geometry) : undefined;
    const { pageMap } = this;
    this.pageCache = new PageCache({
      geometry,
      storage,
      volumeStart,
      nonce,
      pageMap,
      resume: (request) => {
        if (this.#searcher === undefined) this.gates.resume(request);
        else request.onDone(request);
      },
      fail: (error) => this.#disable(error),
    });
    this.#writer = new ChapterWriter({
      geometry,
      storage,
      volumeStart,
      nonce,
      pageMap,
      onIndexPage: (number, page) => this.#installIndexPage(number, page),
    });
  }

  /** The error that disabled the index, if one did. */
  get disabled(): unknown {
    return this.#disabled;
  }

  #installIndexPage(pageNumber: number, page: Uint8Array): void {
    const physical = Math.floor((pageNumber - 1) / this.#geometry.pagesPerChapter);
    const index = (pageNumber - 1) % this.#geometry.pagesPerChapter;
    this.pageCache.install(pageNumber, page, this.pageMap.lowest(physical, index));
  }

  /** Takes a request. Never blocks; its `onDone` is called now or later. */
  submit(request: UdsRequest): void {
    request.searchChapter = -1;
    this.gates.submit(request);
  }

  #disable(error: unknown): void {
    if (this.#disabled !== undefined) return;
    this.#disabled = error;
    // Made once: an error with its stack costs more than a request.
    const message = "the index is disabled after an earlier failure; close it and open it again";
    this.#refusal = new VdoError("UDS_DISABLED", message, {}, error);
    this.#options.onDisabled(error);
  }

  // Requests ---------------------------------------------------------------------------------------------------------

  /** Runs a request. False when it was parked. */
  #execute(request: UdsRequest): boolean {
    request.found = false;
    request.location = RecordLocation.NOWHERE;
    request.error = undefined;
    if (this.#disabled !== undefined) {
      request.error = this.#refusal;
      return true;
    }
    if (this.sparseCache !== undefined && this.volumeIndex.isHook(request.name) && !this.#triage(request)) return false;
    const isDone = request.operation === UdsOperation.DELETE ? this.#delete(request) : this.#lookUp(request);
    if (isDone) this.#count(request);
    return isDone;
  }

  #count(request: UdsRequest): void {
    const { operation, found, location } = request;
    const counters = found ? this.counters.found : this.counters.notFound;
    counters[operation] = (counters[operation] as number) + 1;
    if (found && operation === UdsOperation.POST) {
      this.counters.postsByLocation[location] = (this.counters.postsByLocation[location] as number) + 1;
    }
    this.needToSave = true;
  }

  /** True when only the hooks of `chapter` are in the volume index. */
  isSparse(chapter: number): boolean {
    const { sparseChapters, denseChapters } = this.#geometry;
    if (sparseChapters === 0 || this.newest - this.oldest + 1 <= denseChapters) return false;
    return chapter + denseChapters <= this.newest;
  }

  /** Makes sure that the chapter a hook is in is cached. False when the request was parked for that. */
  #triage(request: UdsRequest): boolean {
    const cache = this.sparseCache as SparseCache;
    const chapter = (this.volumeIndex.hooks as SubIndex).peek(request.name);
    if (chapter < 0 || !this.isSparse(chapter)) return true;
    if (cache.touch(chapter) || chapter < this.oldest) return true;
    const { storage, volumeStart, nonce } = this.#options;
    this.gates.stall();
    cache.load(chapter, { oldest: this.oldest, storage, volumeStart, nonce }).then(
      () => this.gates.unstall(request),
      (error: unknown) => {
        this.#disable(error);
        this.gates.unstall(request);
      },
    );
    return false;
  }

  #lookUp(request: UdsRequest): boolean {
    const { operation, name } = request;
    const sub = this.volumeIndex.get(name);
    let search: Search = Search.ABSENT;
    const wasFound = sub.found;
    const wasCollision = sub.isCollision;
    const chapter = sub.chapter;
    if (wasFound) {
      search = this.#resolve(request, chapter);
      if (search === Search.PARKED) return false;
    }
    if (search === Search.FOUND) {
      request.found = true;
      request.location = this.#locationOf(chapter);
    }
    // A collision entry is certain: its record is missing only because the chapter's index was too full for it.
    const isOverflowed = wasCollision && wasFound && search === Search.ABSENT;
    if (search === Search.FOUND || isOverflowed) {
      if (operation === UdsOperation.QUERY_NO_UPDATE || (operation === UdsOperation.QUERY && isOverflowed)) return true;
      if (chapter !== this.newest) sub.setChapter(this.newest);
      else if (operation !== UdsOperation.UPDATE) return true;
    } else {
      const sparse = this.#searchSparse(request);
      if (sparse === Search.PARKED) return false;
      if (sparse === Search.FOUND) {
        request.found = true;
        request.location = RecordLocation.SPARSE;
      }
      if (operation === UdsOperation.QUERY_NO_UPDATE || (operation === UdsOperation.QUERY && !request.found))
        return true;
      if (!sub.put(name, this.newest)) return true;
    }
    const valueAt = !request.found || operation === UdsOperation.UPDATE ? VALUE_WORD : OLD_VALUE_WORD;
    if (this.openChapter.put(name, request.words, valueAt) === 0) this.#chapterFull();
    return true;
  }

  #locationOf(chapter: number): RecordLocation {
    if (chapter === this.newest) return RecordLocation.OPEN_CHAPTER;
    return this.isSparse(chapter) ? RecordLocation.SPARSE : RecordLocation.DENSE;
  }

  #delete(request: UdsRequest): boolean {
    const { name } = request;
    const sub = this.volumeIndex.get(name);
    if (!sub.found) return true;
    const { chapter } = sub;
    if (!sub.isCollision) {
      const search = this.#resolve(request, chapter);
      if (search === Search.PARKED) return false;
      if (search === Search.ABSENT) return true;
    }
    request.found = true;
    request.location = this.#locationOf(chapter);
    sub.remove();
    if (chapter === this.newest) this.openChapter.remove(name, request.words);
    return true;
  }

  /** Looks for the record in the chapter that the volume index named; its value goes to `oldValue`. */
  #resolve(request: UdsRequest, chapter: number): Search {
    if (chapter === this.newest) return this.#resolveInMemory(request, this.openChapter);
    if (chapter === this.newest - 1 && this.writingChapter.size > 0) {
      return this.#resolveInMemory(request, this.writingChapter);
    }
    if (this.sparseCache !== undefined && request.searchChapter !== chapter && this.isSparse(chapter)) {
      const page = this.sparseCache.searchIn(chapter, request.name);
      if (page === -1) return Search.ABSENT;
      if (page >= 0) {
        request.searchChapter = chapter;
        request.searchPage = page;
      }
    }
    return this.#searchChapter(request, chapter);
  }

  /** True when closed chapter `chapter` holds the request's name. For the rebuild, one at a time, before any request. */
  async findInChapter(request: UdsRequest, chapter: number): Promise<boolean> {
    request.searchChapter = -1;
    this.#searcher = request;
    for (;;) {
      let search: Search = Search.PARKED;
      const parked = new Promise<void>((resolve) => {
        request.onDone = () => resolve();
        search = this.#searchChapter(request, chapter);
      });
      if (search === Search.PARKED) await parked;
      if (this.#disabled !== undefined) throw this.#disabled;
      if (search === Search.PARKED) continue;
      this.#searcher = undefined;
      return (search as Search) === Search.FOUND;
    }
  }

  #resolveInMemory(request: UdsRequest, chapter: OpenChapter): Search {
    const record = chapter.find(request.name, request.words);
    if (record < 0) return Search.ABSENT;
    chapter.copyValue(record, request.words, OLD_VALUE_WORD);
    return Search.FOUND;
  }

  #searchSparse(request: UdsRequest): Search {
    const cache = this.sparseCache;
    if (cache === undefined || this.volumeIndex.isHook(request.name)) return Search.ABSENT;
    const page = cache.search(request.name, this.oldest);
    if (page < 0) return Search.ABSENT;
    return this.#searchRecordPage(request, cache.foundChapter, page);
  }

  /** Searches a closed chapter on storage: its index page, then the record page that this names. */
  #searchChapter(request: UdsRequest, chapter: number): Search {
    if (request.searchChapter !== chapter) {
      const { chaptersPerVolume, pagesPerChapter, chapterAddressBits, chapterListBits, bytesPerPage } = this.#geometry;
      const physical = chapter % chaptersPerVolume;
      const list = chapterList(request.name, chapterAddressBits, chapterListBits);
      const page = this.pageMap.find(physical, list);
      const base = this.pageCache.find(1 + physical * pagesPerChapter + page, request);
      if (base < 0) return Search.PARKED;
      const local = list - (this.pageCache.firstLists[base / bytesPerPage] as number);
      const { view } = this.pageCache;
      const cursor = this.#cursor;
      const address = chapterAddress(request.name, chapterAddressBits);
      cursor.find(view, base, listStart(view, base, local), listStart(view, base, local + 1), address, request.name);
      if (cursor.damaged) {
        this.#disable(
          corrupt(`index page ${page} of chapter ${chapter}`, `list ${list}`, {
            expected: "whole entries",
            actual: "an entry that runs past the end",
          }),
        );
      }
      request.searchChapter = chapter;
      request.searchPage = cursor.found ? cursor.value() : -1;
    }
    if (request.searchPage < 0) return Search.ABSENT;
    const search = this.#searchRecordPage(request, chapter, request.searchPage);
    // Kept for the case that the request has to run again: a closed chapter does not change.
    if (search === Search.ABSENT) request.searchPage = -1;
    return search;
  }

  #searchRecordPage(request: UdsRequest, chapter: number, recordPage: number): Search {
    const { chaptersPerVolume, pagesPerChapter, indexPagesPerChapter, recordPagesPerChapter, recordsPerPage } =
      this.#geometry;
    if (recordPage >= recordPagesPerChapter) return Search.ABSENT;
    const page = 1 + (chapter % chaptersPerVolume) * pagesPerChapter + indexPagesPerChapter + recordPage;
    const base = this.pageCache.find(page, request);
    if (base < 0) return Search.PARKED;
    const at = findRecord(this.pageCache.bytes, base, recordsPerPage, request.name);
    if (at < 0) return Search.ABSENT;
    const { bytes } = this.pageCache;
    for (let i = 0; i < 16; i++) request.oldValue[i] = bytes[at + 16 + i] as number;
    return Search.FOUND;
  }

  // Chapters ---------------------------------------------------------------------------------------------------------

  #chapterFull(): void {
    if (this.#writing === undefined) this.#closeChapter();
    else {
      this.gates.stall();
      this.#closePending = true;
    }
  }

  /** The open chapter becomes the writing chapter, and is written while the next one fills. */
  #closeChapter(): void {
    const closed = this.openChapter;
    const virtualChapter = this.newest;
    this.openChapter = this.writingChapter;
    this.writingChapter = closed;
    this.openChapter.clear();
    this.newest = virtualChapter + 1;
    this.volumeIndex.openChapter(this.newest);
    const { chaptersPerVolume } = this.#geometry;
    if (this.newest - this.oldest >= chaptersPerVolume) {
      this.pageCache.forgetChapter(this.oldest % chaptersPerVolume);
      this.oldest++;
    }
    this.#writing = this.#options
      .beforeChapterWrite()
      .then(() => this.#writer.write(closed, virtualChapter))
      .catch((error: unknown) => {
        this.chapterLost = true;
        this.#disable(error);
      })
      .then(() => this.#chapterWritten());
  }

  #chapterWritten(): void {
    this.#writing = undefined;
    this.droppedRecords += this.#writer.droppedCount;
    if (this.#closePending) {
      this.#closePending = false;
      if (this.#disabled === undefined) this.#closeChapter();
      this.gates.unstall();
    }
    this.gates.checkIdle();
  }
}
