/**
 * Writes a closed chapter to the volume: index pages, then record pages, then a flush.
 *
 * The work is cut into slices of a few milliseconds, with a turn of the event loop between them. One chapter is written
 * at a time.
 */
import { BLOCK_BYTES, RECORD_BYTES } from "../constants.ts";
import type { IndexGeometry } from "../geometry.ts";
import type { IndexStorage } from "../layout/index-storage.ts";
import type { PageMap } from "../page-map.ts";
import { nextTurn } from "../turn.ts";
import { ChapterPacker } from "./chapter-packer.ts";
import type { OpenChapter } from "./open-chapter.ts";
import { RecordPageWriter } from "./record-page.ts";

/** Lists sorted, and pages built, in one slice. */
const LISTS_PER_SLICE = 512;
const PAGES_PER_SLICE = 8;

export interface ChapterWriterOptions {
  readonly geometry: IndexGeometry;
  readonly storage: IndexStorage;
  /** Block number at which the volume starts. */
  readonly volumeStart: number;
  readonly nonce: bigint;
  readonly pageMap: PageMap;
  /** Is given each index page once it is written. */
  readonly onIndexPage: (pageNumber: number, page: Uint8Array) => void;
}

export class ChapterWriter {
  readonly #options: ChapterWriterOptions;
  readonly #packer: ChapterPacker;
  readonly #recordPages: RecordPageWriter;
  readonly #indexBuffer: Uint8Array;
  readonly #recordBuffer: Uint8Array;
  readonly #collated: Uint8Array;

  constructor(options: ChapterWriterOptions) {
    this.#options = options;
    const { bytesPerPage, indexPagesPerChapter, recordsPerPage } = options.geometry;
    this.#packer = new ChapterPacker(options.geometry);
    this.#recordPages = new RecordPageWriter(recordsPerPage);
    this.#indexBuffer = new Uint8Array(bytesPerPage * indexPagesPerChapter);
    this.#recordBuffer = new Uint8Array(bytesPerPage * PAGES_PER_SLICE);
    this.#collated = new Uint8Array(bytesPerPage);
  }

  /** Bytes taken by a writer. */
  static memory(geometry: IndexGeometry): number {
    return (
      ChapterPacker.memory(geometry) + geometry.bytesPerPage * (geometry.indexPagesPerChapter + PAGES_PER_SLICE + 1)
    );
  }

  /** Records that the last chapter's index does not lead to, because lists were too full. */
  get droppedCount(): number {
    return this.#packer.droppedCount;
  }

  /** Writes `chapter`, whose places are all taken, as virtual chapter `virtualChapter`. */
  async write(chapter: OpenChapter, virtualChapter: number): Promise<void> {
    const { geometry, storage } = this.#options;
    const physical = virtualChapter % geometry.chaptersPerVolume;
    const firstPage = 1 + physical * geometry.pagesPerChapter;
    await this.#buildIndex(chapter, virtualChapter, physical);
    await storage.write(this.#blockOf(firstPage), this.#indexBuffer);
    for (let page = 0; page < geometry.recordPagesPerChapter; page += PAGES_PER_SLICE) {
      const count = Math.min(PAGES_PER_SLICE, geometry.recordPagesPerChapter - page);
      for (let i = 0; i < count; i++) this.#buildRecordPage(chapter, page + i, i);
      const bytes = this.#recordBuffer.subarray(0, count * geometry.bytesPerPage);
      await storage.write(this.#blockOf(firstPage + geometry.indexPagesPerChapter + page), bytes);
      await nextTurn();
    }
    await storage.flush();
    for (let page = 0; page < geometry.indexPagesPerChapter; page++) {
      this.#options.onIndexPage(firstPage + page, this.#indexPage(page));
    }
  }

  #blockOf(pageNumber: number): number {
    return this.#options.volumeStart + (pageNumber * this.#options.geometry.bytesPerPage) / BLOCK_BYTES;
  }

  #indexPage(page: number): Uint8Array {
    const { bytesPerPage } = this.#options.geometry;
    return this.#indexBuffer.subarray(page * bytesPerPage, (page + 1) * bytesPerPage);
  }

  async #buildIndex(chapter: OpenChapter, virtualChapter: number, physical: number): Promise<void> {
    const { geometry, nonce, pageMap } = this.#options;
    const { listsPerChapter, indexPagesPerChapter } = geometry;
    const packer = this.#packer;
    packer.distribute(chapter);
    for (let list = 0; list < listsPerChapter; list += LISTS_PER_SLICE) {
      await nextTurn();
      packer.sort(list, Math.min(list + LISTS_PER_SLICE, listsPerChapter));
    }
    let firstList = 0;
    for (let page = 0; page < indexPagesPerChapter; page++) {
      if (page % PAGES_PER_SLICE === 0) await nextTurn();
      const isLast = page === indexPagesPerChapter - 1;
      firstList += packer.pack(this.#indexPage(page), { firstList, isLast, nonce, virtualChapter });
      pageMap.update(virtualChapter, physical, page, firstList - 1);
    }
  }

  #buildRecordPage(chapter: OpenChapter, page: number, slot: number): void {
    const { bytesPerPage, recordsPerPage } = this.#options.geometry;
    const first = page * recordsPerPage;
    let source = chapter.records.subarray(first * RECORD_BYTES, (first + recordsPerPage) * RECORD_BYTES);
    if (chapter.removed > 0) {
      // Removed records are replaced by copies of the last one, which is there because it filled the chapter.
      this.#collated.set(source);
      source = this.#collated;
      const last = (chapter.capacity - 1) * RECORD_BYTES;
      const fill = chapter.records.subarray(last, last + RECORD_BYTES);
      for (let i = 0; i < recordsPerPage; i++) if (chapter.isRemoved(first + i)) source.set(fill, i * RECORD_BYTES);
    }
    this.#recordPages.write(source, this.#recordBuffer.subarray(slot * bytesPerPage, (slot + 1) * bytesPerPage));
  }
}
