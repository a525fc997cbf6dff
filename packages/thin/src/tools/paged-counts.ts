/** Counts by block number, in pages that exist once something in them was counted: data devices have up to 2^40 blocks. */
import { ENTRIES_PER_BITMAP } from "./bitmap.ts";

/** One page for each bitmap of a space map. */
export class PagedCounts {
  readonly #pages = new Map<number, Uint32Array>();

  add(block: number): void {
    const number = Math.floor(block / ENTRIES_PER_BITMAP);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new Uint32Array(ENTRIES_PER_BITMAP);
      this.#pages.set(number, page);
    }
    const index = block % ENTRIES_PER_BITMAP;
    page[index] = (page[index] as number) + 1;
  }

  get(block: number): number {
    return this.#pages.get(Math.floor(block / ENTRIES_PER_BITMAP))?.[block % ENTRIES_PER_BITMAP] ?? 0;
  }
}
