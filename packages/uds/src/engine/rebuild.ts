/**
 * Rebuilds the volume index from the chapters on the volume (Linux 6.12, replay), when there is no usable save.
 *
 * The work is done page by page with turns of the event loop between, and can be stopped between chapters. What is only
 * in memory when an index is lost (the open chapter) is lost; names that were deleted may come back.
 */
import { VdoError } from "@vdo/base";
import { type IndexPageInfo, listStart, readIndexPage } from "../chapter/index-page.ts";
import { BLOCK_BYTES, CHAPTER_MEAN_DELTA, RECORD_BYTES } from "../constants.ts";
import { deltaCode } from "../delta/delta-code.ts";
import { ListCursor } from "../delta/list-cursor.ts";
import { corrupt } from "../errors.ts";
import type { IndexGeometry } from "../geometry.ts";
import type { IndexStorage } from "../layout/index-storage.ts";
import { UdsRequest } from "../request.ts";
import { nextTurn } from "../turn.ts";
import { findChapterBoundaries } from "./chapter-boundaries.ts";
import type { IndexEngine } from "./index-engine.ts";

export interface RebuildProgress {
  /** Chapters replayed, and to be replayed in all. */
  readonly done: number;
  readonly total: number;
}

export interface RebuildOptions {
  readonly geometry: IndexGeometry;
  readonly storage: IndexStorage;
  readonly volumeStart: number;
  readonly nonce: bigint;
  readonly onProgress: (progress: RebuildProgress) => void;
  readonly isStopping: () => boolean;
}

/** Record pages read at once. */
const PAGES_PER_READ = 8;

/** Fills `engine` from the volume. Throws `UDS_STOPPED`, `VDO_CORRUPT`, or what the device reports. */
export async function rebuildIndex(engine: IndexEngine, options: RebuildOptions): Promise<void> {
  await new Rebuild(engine, options).run();
}

class Rebuild {
  readonly #engine: IndexEngine;
  readonly #options: RebuildOptions;
  readonly #cursor: ListCursor;
  readonly #indexPages: Uint8Array;
  readonly #indexView: DataView;
  readonly #recordPages: Uint8Array;
  readonly #request = new UdsRequest();

  constructor(engine: IndexEngine, options: RebuildOptions) {
    this.#engine = engine;
    this.#options = options;
    const { bytesPerPage, indexPagesPerChapter, chapterPayloadBits } = options.geometry;
    this.#cursor = new ListCursor(deltaCode(CHAPTER_MEAN_DELTA), chapterPayloadBits);
    this.#indexPages = new Uint8Array(bytesPerPage * indexPagesPerChapter + 8);
    this.#indexView = new DataView(this.#indexPages.buffer);
    this.#recordPages = new Uint8Array(bytesPerPage * PAGES_PER_READ);
  }

  async run(): Promise<void> {
    const engine = this.#engine;
    const { chaptersPerVolume } = this.#options.geometry;
    engine.volumeIndex.clear();
    engine.openChapter.clear();
    engine.writingChapter.clear();
    engine.pageMap.clear();
    engine.newest = 0;
    engine.oldest = 0;
    const found = await findChapterBoundaries((physical) => this.#probe(physical), chaptersPerVolume);
    if (found !== undefined) {
      engine.newest = found.highest + 1;
      engine.oldest = found.lowest;
      // The slot of the open chapter belongs to it, whatever is still there.
      if (engine.newest - engine.oldest >= chaptersPerVolume) engine.oldest = engine.newest - chaptersPerVolume + 1;
      await this.#replayAll();
    }
    engine.volumeIndex.openChapter(engine.newest);
    engine.needToSave = true;
  }

  async #replayAll(): Promise<void> {
    const { oldest, newest, volumeIndex } = this.#engine;
    const { onProgress, isStopping } = this.#options;
    const total = newest - oldest;
    for (let chapter = oldest; chapter < newest; chapter++) {
      onProgress({ done: chapter - oldest, total });
      if (isStopping()) {
        throw new VdoError(
          "UDS_STOPPED",
          `the rebuild was stopped before chapter ${chapter}; it starts anew next time`,
          { chapter },
        );
      }
      volumeIndex.openChapter(chapter);
      await this.#replayChapter(chapter);
    }
    onProgress({ done: total, total });
  }

  #firstPage(physical: number): number {
    return 1 + physical * this.#options.geometry.pagesPerChapter;
  }

  async #readPages(firstPage: number, target: Uint8Array): Promise<void> {
    const { storage, volumeStart, geometry } = this.#options;
    await storage.read(volumeStart + (firstPage * geometry.bytesPerPage) / BLOCK_BYTES, target);
  }

  /** Reads the index pages of a physical chapter; undefined unless they are all of one chapter and follow each other. */
  async #readIndexPages(physical: number): Promise<IndexPageInfo[] | undefined> {
    const { bytesPerPage, indexPagesPerChapter, chaptersPerVolume } = this.#options.geometry;
    await this.#readPages(this.#firstPage(physical), this.#indexPages.subarray(0, bytesPerPage * indexPagesPerChapter));
    const pages: IndexPageInfo[] = [];
    let nextList = 0;
    for (let page = 0; page < indexPagesPerChapter; page++) {
      const info = readIndexPage(this.#indexView, page * bytesPerPage, bytesPerPage, this.#options.nonce);
      if (info === undefined || info.firstList !== nextList) return undefined;
      if (page > 0 && info.virtualChapter !== pages[0]?.virtualChapter) return undefined;
      pages.push(info);
      nextList += info.listCount;
    }
    const virtual = pages[0]?.virtualChapter ?? 0n;
    if (nextList !== this.#options.geometry.listsPerChapter) return undefined;
    if (virtual > BigInt(Number.MAX_SAFE_INTEGER) || Number(virtual % BigInt(chaptersPerVolume)) !== physical)
      return undefined;
    return pages;
  }

  /** Virtual number of the chapter in a slot, -1 when it is not sound. */
  async #probe(physical: number): Promise<number> {
    const { bytesPerPage, recordPagesPerChapter } = this.#options.geometry;
    const pages = await this.#readIndexPages(physical);
    if (pages === undefined) return -1;
    for (const [page, { listCount }] of pages.entries()) {
      const base = page * bytesPerPage;
      for (let list = 0; list < listCount; list++) {
        const start = listStart(this.#indexView, base, list);
        const end = listStart(this.#indexView, base, list + 1);
        if (!this.#cursor.isSound(this.#indexView, base, start, end, recordPagesPerChapter)) return -1;
      }
    }
    return Number(pages[0]?.virtualChapter);
  }

  async #replayChapter(chapter: number): Promise<void> {
    const { geometry } = this.#options;
    const { bytesPerPage, recordPagesPerChapter, indexPagesPerChapter } = geometry;
    const physical = chapter % geometry.chaptersPerVolume;
    const pages = await this.#readIndexPages(physical);
    if (pages === undefined || Number(pages[0]?.virtualChapter) !== chapter) {
      throw corrupt(`chapter ${chapter}`, "index pages", { expected: `those of chapter ${chapter}`, actual: "others" });
    }
    for (const [page, { firstList, listCount }] of pages.entries()) {
      this.#engine.pageMap.update(chapter, physical, page, firstList + listCount - 1);
    }
    const isSparse = this.#engine.isSparse(chapter);
    const firstRecordPage = this.#firstPage(physical) + indexPagesPerChapter;
    for (let page = 0; page < recordPagesPerChapter; page += PAGES_PER_READ) {
      const count = Math.min(PAGES_PER_READ, recordPagesPerChapter - page);
      const bytes = this.#recordPages.subarray(0, count * bytesPerPage);
      await this.#readPages(firstRecordPage + page, bytes);
      for (let at = 0; at < bytes.length; at += bytesPerPage) {
        await this.#replayPage(bytes.subarray(at, at + bytesPerPage), chapter, isSparse);
        await nextTurn();
      }
    }
  }

  async #replayPage(page: Uint8Array, chapter: number, isSparse: boolean): Promise<void> {
    const { name } = this.#request;
    const { volumeIndex } = this.#engine;
    for (let at = 0; at < page.length; at += RECORD_BYTES) {
      for (let i = 0; i < 16; i++) name[i] = page[at + i] as number;
      if (isSparse && !volumeIndex.isHook(name)) continue;
      const sub = volumeIndex.get(name);
      if (!sub.found) {
        sub.put(name, chapter);
        continue;
      }
      if (sub.isCollision) {
        if (sub.chapter !== chapter) sub.setChapter(chapter);
        continue;
      }
      // A plain entry of this chapter is taken to be another name's: the chapter holds each name once.
      if (sub.chapter === chapter) {
        sub.put(name, chapter);
        continue;
      }
      const isThere = await this.#engine.findInChapter(this.#request, sub.chapter);
      volumeIndex.get(name);
      if (isThere) sub.setChapter(chapter);
      else sub.put(name, chapter);
    }
  }
}
