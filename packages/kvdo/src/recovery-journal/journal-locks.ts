/**
 * What keeps each recovery journal block from being reused (Linux 6.12, recovery journal lock counter).
 *
 * Every block on disk has three counts: `entries` (217 + 1 from its first entry on, minus one for each entry whose block map
 * page was updated, minus one when it is complete), `pages` (dirty block map pages whose oldest change it holds), and
 * `slabJournals` (slab journal tail blocks whose first entry it holds).
 */
import { invariant } from "@vdo/base";

export const LOCK_KIND_ENTRIES = 0;
export const LOCK_KIND_PAGES = 1;
export const LOCK_KIND_SLAB_JOURNALS = 2;

export class JournalLocks {
  readonly #size: number;
  readonly #counts: readonly [Int32Array, Int32Array, Int32Array];
  readonly #onZero: () => void;

  /** `size`: blocks of the journal; `onZero` is called whenever a count falls to 0. */
  constructor(size: number, onZero: () => void) {
    this.#size = size;
    this.#counts = [new Int32Array(size), new Int32Array(size), new Int32Array(size)];
    this.#onZero = onZero;
  }

  acquire(kind: number, sequence: number, count = 1): void {
    const counts = this.#counts[kind] as Int32Array;
    const slot = sequence % this.#size;
    counts[slot] = (counts[slot] as number) + count;
  }

  release(kind: number, sequence: number, count = 1): void {
    const counts = this.#counts[kind] as Int32Array;
    const slot = sequence % this.#size;
    const left = (counts[slot] as number) - count;
    invariant(left >= 0, "a journal block is not released more often than it was locked");
    counts[slot] = left;
    if (left === 0) this.#onZero();
  }

  isLocked(kind: number, sequence: number): boolean {
    return this.#counts[kind]![sequence % this.#size] !== 0;
  }
}
