/**
 * Chooses the block for new data (Linux 6.12, block allocator, one zone).
 *
 * One slab is open; it is searched forward from a cursor for the next free block. When its end is reached it goes back into
 * a priority table and the slab of the highest priority is opened: slabs in use that are at least about half empty before
 * those never used, and these before fuller ones; within one priority the one that waited longest.
 */
import { invariant } from "@vdo/base";
import type { VdoStatistics } from "../statistics/index.ts";
import type { Slab } from "./slab.ts";

const PRIORITIES = 32;

export class BlockAllocator {
  readonly #table: Set<Slab>[] = Array.from({ length: PRIORITIES }, () => new Set<Slab>());
  readonly #statistics: VdoStatistics;
  /** Priority of a slab that was never used. */
  readonly #unopenedPriority: number;
  #open: Slab | null = null;
  #cursor = 0;

  constructor({ dataBlocks, statistics }: { dataBlocks: number; statistics: VdoStatistics }) {
    this.#statistics = statistics;
    this.#unopenedPriority = 1 + Math.floor(Math.log2(Math.floor((3 * dataBlocks) / 4)));
  }

  #priorityOf(slab: Slab): number {
    const free = slab.freeBlocks;
    if (free === 0) return 0;
    if (slab.journal.isBlank) return this.#unopenedPriority;
    const priority = 1 + Math.floor(Math.log2(free));
    return priority < this.#unopenedPriority ? priority : priority + 1;
  }

  /** A slab becomes usable. */
  add(slab: Slab): void {
    slab.priority = this.#priorityOf(slab);
    this.#table[slab.priority]?.add(slab);
  }

  /** The number of free blocks of `slab` changed. The open slab keeps its place until it is closed. */
  onFreeChanged(slab: Slab): void {
    if (slab === this.#open || !slab.isRecovered) return;
    const priority = this.#priorityOf(slab);
    if (priority === slab.priority) return;
    this.#table[slab.priority]?.delete(slab);
    slab.priority = priority;
    this.#table[priority]?.add(slab);
  }

  /** PBN of a free block, now provisional; 0 when this attempt found none. */
  allocate(): number {
    const found = this.#searchOpen();
    if (found !== 0) return found;
    const last = this.#open;
    this.#open = null;
    if (last !== null) this.add(last);
    const slab = this.#takeBest();
    if (slab === null) return 0;
    this.#openSlab(slab);
    return this.#searchOpen();
  }

  #searchOpen(): number {
    const slab = this.#open;
    if (slab === null || slab.freeBlocks === 0) return 0;
    const sbn = slab.counts.findFree(this.#cursor);
    if (sbn < 0) return 0;
    this.#cursor = sbn + 1;
    slab.counts.makeProvisional(sbn);
    return slab.start + sbn;
  }

  #takeBest(): Slab | null {
    for (let priority = PRIORITIES - 1; priority >= 0; priority--) {
      const slabs = this.#table[priority] as Set<Slab>;
      const first = slabs.values().next();
      if (first.done === true) continue;
      slabs.delete(first.value);
      return first.value;
    }
    return null;
  }

  #openSlab(slab: Slab): void {
    invariant(slab.isRecovered, "a slab that is opened has exact counts");
    this.#open = slab;
    this.#cursor = 0;
    if (slab.journal.isBlank) {
      this.#statistics.allocator.slabsOpened++;
      slab.dirtyForFirstUse();
    } else this.#statistics.allocator.slabsReopened++;
  }
}
