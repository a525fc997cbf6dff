/**
 * The flattened map of a stack: for each guest cluster the delta that provides it and its place there, so that the height of
 * the stack costs nothing per request.
 *
 * It is kept in pages that parallel the pages of the BAT (1024 words, the header is the first 16 words of page 0). At most
 * `pagesMax` pages stay in memory; a page is never dirty (it is published after it was written), so the least recently used
 * one is dropped and, when it is wanted again, flattened anew from all deltas.
 */
import { invariant, isVdoError } from "@vdo/base";
import { type Delta, HEADER_WORDS, PAGE_WORDS } from "../image/delta.ts";

/** Place of a cluster that no delta holds. */
export const NO_PLACE = 0xffff_ffff;

export class MapPage {
  readonly number: number;
  readonly places = new Uint32Array(PAGE_WORDS).fill(NO_PLACE);
  readonly levels = new Uint8Array(PAGE_WORDS);
  /** Used since the last look for a page to drop. */
  touched = true;
  /** Users that rely on it staying. */
  pins = 0;

  constructor(number: number) {
    this.number = number;
  }
}

export function pageOf(cluster: number): number {
  return Math.floor((cluster + HEADER_WORDS) / PAGE_WORDS);
}

export function indexOf(cluster: number): number {
  return (cluster + HEADER_WORDS) % PAGE_WORDS;
}

export class ClusterMap {
  readonly #deltas: readonly Delta[];
  readonly #pagesMax: number;
  readonly #pages = new Map<number, MapPage>();
  readonly #loading = new Map<number, Promise<MapPage>>();
  #generation = 0;
  #loads = 0;

  /** `deltas` is the live list of the stack, base first. */
  constructor(deltas: readonly Delta[], pagesMax: number) {
    this.#deltas = deltas;
    this.#pagesMax = Math.max(1, pagesMax);
  }

  /** Pages read so far: how often the cache did not have one. */
  get loads(): number {
    return this.#loads;
  }

  get pagesCached(): number {
    return this.#pages.size;
  }

  /** The page, if it is in memory. */
  cached(number: number): MapPage | undefined {
    const page = this.#pages.get(number);
    if (page !== undefined) page.touched = true;
    return page;
  }

  /** The page, read if need be. What it says holds until the next `await`. */
  async load(number: number): Promise<MapPage> {
    for (;;) {
      const page = this.cached(number);
      if (page !== undefined) return page;
      const generation = this.#generation;
      let loading = this.#loading.get(number);
      if (loading === undefined) {
        loading = this.#read(number).finally(() => this.#loading.delete(number));
        this.#loading.set(number, loading);
      }
      const loaded = await loading;
      if (generation !== this.#generation) continue;
      if (!this.#pages.has(number)) this.#keep(loaded);
    }
  }

  /** As {@link load}, and the page stays until {@link unpin}. */
  async pin(number: number): Promise<MapPage> {
    const page = await this.load(number);
    page.pins++;
    return page;
  }

  unpin(page: MapPage): void {
    invariant(page.pins > 0, "a page is unpinned by who pinned it");
    page.pins--;
  }

  /** Forgets all pages: the stack has changed. */
  clear(): void {
    this.#generation++;
    for (const page of this.#pages.values()) invariant(page.pins === 0, "no page is pinned when the stack changes");
    this.#pages.clear();
    this.#loading.clear();
  }

  #keep(page: MapPage): void {
    this.#pages.set(page.number, page);
    for (let left = 2 * this.#pages.size; this.#pages.size > this.#pagesMax && left > 0; left--) {
      const [number, oldest] = this.#pages.entries().next().value as [number, MapPage];
      this.#pages.delete(number);
      if (!oldest.touched && oldest.pins === 0 && oldest !== page) continue;
      oldest.touched = false;
      this.#pages.set(number, oldest);
    }
  }

  async #read(number: number): Promise<MapPage> {
    this.#loads++;
    try {
      return await this.#flatten(number);
    } catch (error) {
      if (!isVdoError(error, "VDO_CORRUPT")) throw error;
      // A merge between lower deltas makes one of them longer, under another handle.
      for (const delta of this.#deltas.slice(0, -1)) await delta.file.refresh();
      return this.#flatten(number);
    }
  }

  async #flatten(number: number): Promise<MapPage> {
    const deltas = this.#deltas.slice();
    const bytes = await Promise.all(
      deltas.map(async (delta) => {
        if (delta.raw || number >= delta.pageCount) return undefined;
        const page = new Uint8Array(PAGE_WORDS * 4);
        await delta.readPage(number, page);
        return new Uint32Array(page.buffer);
      }),
    );
    const page = new MapPage(number);
    for (let level = deltas.length - 1; level >= 0; level--) flatten(page, deltas[level] as Delta, level, bytes[level]);
    return page;
  }
}

/** Adds what `delta` holds and no higher one does. */
function flatten(page: MapPage, delta: Delta, level: number, words: Uint32Array | undefined): void {
  const first = page.number * PAGE_WORDS - HEADER_WORDS;
  const count = delta.clusterCount;
  for (let i = page.number === 0 ? HEADER_WORDS : 0; i < PAGE_WORDS; i++) {
    const cluster = first + i;
    if (cluster >= count) return;
    if (page.places[i] !== NO_PLACE) continue;
    const place = delta.raw ? cluster : delta.placeOf(cluster, words?.[i] ?? 0);
    if (place === 0 && !delta.raw) continue;
    page.places[i] = place;
    page.levels[i] = level;
  }
}
