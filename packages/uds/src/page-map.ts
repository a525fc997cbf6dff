/**
 * The index page map: for each physical chapter and each of its index pages but the last, the number of the last delta
 * list on that page. Saved as `ALBIPM02`, the chapter of the last update, and the entries (u16 each).
 */
import { ascii, struct, u64leBig, viewOf } from "@vdo/base";
import { corrupt } from "./errors.ts";
import type { IndexGeometry } from "./geometry.ts";

export const pageMapHeader = struct("PageMapHeader", 16, { magic: ascii(8), lastUpdate: u64leBig });
const MAGIC = "ALBIPM02";

export class PageMap {
  /** Virtual chapter of the last update. */
  lastUpdate = 0;
  readonly #entries: Uint16Array;
  readonly #perChapter: number;
  readonly #lists: number;

  constructor(geometry: IndexGeometry) {
    this.#perChapter = geometry.indexPagesPerChapter - 1;
    this.#lists = geometry.listsPerChapter;
    this.#entries = new Uint16Array(geometry.chaptersPerVolume * this.#perChapter);
  }

  get byteLength(): number {
    return pageMapHeader.size + this.#entries.byteLength;
  }

  clear(): void {
    this.#entries.fill(0);
    this.lastUpdate = 0;
  }

  /** Index page `page` of chapter `virtualChapter`, stored at `physicalChapter`, ends with list `lastList`. */
  update(virtualChapter: number, physicalChapter: number, page: number, lastList: number): void {
    this.lastUpdate = virtualChapter;
    if (page < this.#perChapter) this.#entries[physicalChapter * this.#perChapter + page] = lastList;
  }

  /** The index page of `physicalChapter` that holds `list`. */
  find(physicalChapter: number, list: number): number {
    const first = physicalChapter * this.#perChapter;
    let page = 0;
    while (page < this.#perChapter && list > (this.#entries[first + page] as number)) page++;
    return page;
  }

  lowest(physicalChapter: number, page: number): number {
    return page === 0 ? 0 : (this.#entries[physicalChapter * this.#perChapter + page - 1] as number) + 1;
  }

  highest(physicalChapter: number, page: number): number {
    if (page === this.#perChapter) return this.#lists - 1;
    return this.#entries[physicalChapter * this.#perChapter + page] as number;
  }

  encode(): Uint8Array {
    const bytes = pageMapHeader.encode({ magic: MAGIC, lastUpdate: BigInt(this.lastUpdate) }, this.byteLength);
    const view = viewOf(bytes);
    for (let i = 0; i < this.#entries.length; i++)
      view.setUint16(pageMapHeader.size + 2 * i, this.#entries[i] as number, true);
    return bytes;
  }

  /** Throws `VDO_CORRUPT` when the magic is wrong. */
  decode(bytes: Uint8Array): void {
    const header = pageMapHeader.decode(bytes);
    if (header.magic !== MAGIC) throw corrupt("index page map", "magic", { expected: MAGIC, actual: header.magic });
    const view = viewOf(bytes);
    for (let i = 0; i < this.#entries.length; i++) this.#entries[i] = view.getUint16(pageMapHeader.size + 2 * i, true);
    this.lastUpdate = Number(header.lastUpdate);
  }
}
