/**
 * Whole chapter indexes of a few sparse chapters, in order of use (Linux 6.12, sparse cache).
 *
 * A hook that is found in a sparse chapter brings the chapter's index in, in the hope that its neighbours in time are
 * asked for next. A chapter that misses too often in a row is skipped by searches until a hook names it again.
 */
import { listStart, readIndexPage } from "../chapter/index-page.ts";
import { BLOCK_BYTES, CACHE_CHAPTERS, CHAPTER_MEAN_DELTA, SPARSE_MISSES_MAX } from "../constants.ts";
import { deltaCode } from "../delta/delta-code.ts";
import { ListCursor } from "../delta/list-cursor.ts";
import { corrupt } from "../errors.ts";
import type { IndexGeometry } from "../geometry.ts";
import type { IndexStorage } from "../layout/index-storage.ts";
import { chapterAddress, chapterList } from "../record-place.ts";

class CachedChapter {
  /** -1 when nothing is cached. */
  virtualChapter = -1;
  misses = 0;
  skip = false;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly firstLists: Uint16Array;

  constructor(geometry: IndexGeometry) {
    this.bytes = new Uint8Array(geometry.indexPagesPerChapter * geometry.bytesPerPage + 8);
    this.view = new DataView(this.bytes.buffer);
    this.firstLists = new Uint16Array(geometry.indexPagesPerChapter);
  }
}

export class SparseCache {
  readonly #geometry: IndexGeometry;
  readonly #cursor: ListCursor;
  /** Most recently used first; those without a chapter are at the end. */
  readonly #order: CachedChapter[];

  constructor(geometry: IndexGeometry) {
    this.#geometry = geometry;
    this.#cursor = new ListCursor(deltaCode(CHAPTER_MEAN_DELTA), geometry.chapterPayloadBits);
    this.#order = Array.from({ length: CACHE_CHAPTERS }, () => new CachedChapter(geometry));
  }

  /** Bytes taken by a cache. */
  static memory(geometry: IndexGeometry): number {
    return CACHE_CHAPTERS * geometry.indexPagesPerChapter * geometry.bytesPerPage;
  }

  /** Virtual chapters cached, most recently used first. */
  get chapters(): number[] {
    return this.#order.filter((entry) => entry.virtualChapter >= 0).map((entry) => entry.virtualChapter);
  }

  clear(): void {
    for (const entry of this.#order) entry.virtualChapter = -1;
  }

  #toFront(index: number): CachedChapter {
    const entry = this.#order[index] as CachedChapter;
    this.#order.copyWithin(1, 0, index);
    this.#order[0] = entry;
    entry.misses = 0;
    entry.skip = false;
    return entry;
  }

  /** True when `virtualChapter` is cached; it then becomes the most recently used. */
  touch(virtualChapter: number): boolean {
    for (let i = 0; i < this.#order.length; i++) {
      if ((this.#order[i] as CachedChapter).virtualChapter !== virtualChapter) continue;
      this.#toFront(i);
      return true;
    }
    return false;
  }

  /** Reads the index of `virtualChapter` in, in place of a dead, a skipped or the least recently used one. */
  async load(
    virtualChapter: number,
    {
      oldest,
      storage,
      volumeStart,
      nonce,
    }: { oldest: number; storage: IndexStorage; volumeStart: number; nonce: bigint },
  ): Promise<void> {
    const rank = (entry: CachedChapter): number => (entry.virtualChapter < oldest ? 2 : entry.skip ? 1 : 0);
    for (const entry of this.#order) if (entry.virtualChapter < oldest) entry.virtualChapter = -1;
    this.#order.sort((a, b) => rank(a) - rank(b));
    const entry = this.#toFront(this.#order.length - 1);
    entry.virtualChapter = -1;
    const geometry = this.#geometry;
    const physical = virtualChapter % geometry.chaptersPerVolume;
    const firstPage = 1 + physical * geometry.pagesPerChapter;
    const target = entry.bytes.subarray(0, entry.bytes.length - 8);
    await storage.read(volumeStart + (firstPage * geometry.bytesPerPage) / BLOCK_BYTES, target);
    let nextList = 0;
    for (let page = 0; page < geometry.indexPagesPerChapter; page++) {
      const info = readIndexPage(entry.view, page * geometry.bytesPerPage, geometry.bytesPerPage, nonce);
      if (info === undefined || Number(info.virtualChapter) !== virtualChapter || info.firstList !== nextList) {
        throw corrupt(`index page ${page} of chapter ${virtualChapter}`, "content", {
          expected: "an index page of this chapter",
          actual: info === undefined ? "other bytes" : `chapter ${info.virtualChapter}, list ${info.firstList}`,
        });
      }
      entry.firstLists[page] = info.firstList;
      nextList += info.listCount;
    }
    entry.virtualChapter = virtualChapter;
  }

  /** Virtual chapter in which {@link search} found the last record page. */
  foundChapter = -1;

  /**
   * Searches all cached chapters from `oldest` on. Returns the record page that should hold `name`, with its chapter in
   * {@link foundChapter}; -1 when no cached index leads anywhere.
   */
  search(name: Uint8Array, oldest: number): number {
    for (let i = 0; i < this.#order.length; i++) {
      const entry = this.#order[i] as CachedChapter;
      if (entry.virtualChapter < oldest || entry.virtualChapter < 0 || entry.skip) continue;
      const page = this.#searchChapter(entry, name);
      if (page >= 0) {
        this.foundChapter = entry.virtualChapter;
        this.#toFront(i);
        return page;
      }
      entry.misses++;
      if (entry.misses > SPARSE_MISSES_MAX) entry.skip = true;
    }
    return -1;
  }

  /** Searches the cached index of one chapter; -2 when it is not cached, -1 when the name is not in it. */
  searchIn(virtualChapter: number, name: Uint8Array): number {
    for (const entry of this.#order) {
      if (entry.virtualChapter === virtualChapter) return this.#searchChapter(entry, name);
    }
    return -2;
  }

  #searchChapter(entry: CachedChapter, name: Uint8Array): number {
    const { chapterAddressBits, chapterListBits, bytesPerPage, indexPagesPerChapter } = this.#geometry;
    const list = chapterList(name, chapterAddressBits, chapterListBits);
    let page = indexPagesPerChapter - 1;
    while (page > 0 && (entry.firstLists[page] as number) > list) page--;
    const base = page * bytesPerPage;
    const local = list - (entry.firstLists[page] as number);
    const cursor = this.#cursor;
    const start = listStart(entry.view, base, local);
    const end = listStart(entry.view, base, local + 1);
    cursor.find(entry.view, base, start, end, chapterAddress(name, chapterAddressBits), name);
    return cursor.found ? cursor.value() : -1;
  }
}
