/**
 * A record page: records sorted by name, stored as an implicit binary search tree in heap order (the children of index i
 * are 2i + 1, smaller, and 2i + 2, larger). Fill records repeat a name; their values are equal.
 */
import { NAME_BYTES, RECORD_BYTES } from "../constants.ts";

/** Writes record pages; owns the memory for sorting. */
export class RecordPageWriter {
  readonly recordsPerPage: number;
  /** Sorted position → position in the tree. */
  readonly #places: Uint16Array;
  readonly #keys: Float64Array;

  constructor(recordsPerPage: number) {
    this.recordsPerPage = recordsPerPage;
    this.#places = treeOrder(recordsPerPage);
    this.#keys = new Float64Array(recordsPerPage);
  }

  /** Sorts the records of `source` (as many as a page holds) into `page`. */
  write(source: Uint8Array, page: Uint8Array): void {
    const count = this.recordsPerPage;
    const keys = this.#keys;
    // The first 40 bits of the name and the record's number, exact in a double: a native sort without a comparator.
    for (let i = 0, at = 0; i < count; i++, at += RECORD_BYTES) {
      const high =
        (((source[at] as number) << 24) |
          ((source[at + 1] as number) << 16) |
          ((source[at + 2] as number) << 8) |
          (source[at + 3] as number)) >>>
        0;
      keys[i] = (high * 256 + (source[at + 4] as number)) * count + i;
    }
    keys.sort();
    this.#sortTies(source);
    for (let i = 0; i < count; i++) {
      const key = keys[i] as number;
      const record = key - Math.floor(key / count) * count;
      const from = record * RECORD_BYTES;
      page.set(source.subarray(from, from + RECORD_BYTES), (this.#places[i] as number) * RECORD_BYTES);
    }
  }

  /** Puts runs of equal prefixes in the order of whole names. */
  #sortTies(source: Uint8Array): void {
    const count = this.recordsPerPage;
    const keys = this.#keys;
    for (let first = 0; first < count; ) {
      const prefix = Math.floor((keys[first] as number) / count);
      let end = first + 1;
      while (end < count && Math.floor((keys[end] as number) / count) === prefix) end++;
      if (end - first > 1) {
        const run = keys.subarray(first, end);
        const sorted = Array.from(run).sort((a, b) =>
          compareNames(source, (a % count) * RECORD_BYTES, (b % count) * RECORD_BYTES),
        );
        run.set(sorted);
      }
      first = end;
    }
  }
}

function compareNames(source: Uint8Array, a: number, b: number): number {
  for (let i = 0; i < NAME_BYTES; i++) {
    const difference = (source[a + i] as number) - (source[b + i] as number);
    if (difference !== 0) return difference;
  }
  return a - b;
}

/** For each sorted position its index in the tree, by an in-order walk. */
function treeOrder(count: number): Uint16Array {
  const places = new Uint16Array(count);
  let next = 0;
  const visit = (index: number): void => {
    if (index >= count) return;
    visit(2 * index + 1);
    places[next++] = index;
    visit(2 * index + 2);
  };
  visit(0);
  return places;
}

/** Byte offset in `pages` of the record of `name` on the page of `count` records at `base`; -1 when it is not there. */
export function findRecord(pages: Uint8Array, base: number, count: number, name: Uint8Array): number {
  let index = 0;
  while (index < count) {
    const at = base + index * RECORD_BYTES;
    let i = 0;
    while (i < NAME_BYTES && pages[at + i] === name[i]) i++;
    if (i === NAME_BYTES) return at;
    index = 2 * index + ((name[i] as number) < (pages[at + i] as number) ? 1 : 2);
  }
  return -1;
}
