/**
 * All I/O to the storage, counted as the statistics count it (`spec` names of Linux 6.12, statistics version 36).
 *
 * - PBNs are translated by the geometry's bio offset here and nowhere else.
 * - A "preflush" is a device flush that starts after the call; calls that wait for one share it.
 * - After a failed flush nobody knows which writes are stable, and a later flush that succeeds does not tell (storage may
 *   have dropped what it could not write). So all flushes fail from then on, and with them every write that needs one first:
 *   no journal entry can come to name data that is lost. Only the record of read-only mode is still written.
 * - Metadata failures put the volume into read-only mode; that is decided by the callers, who know what failed.
 */
import { type BlockDevice, writeVector } from "@vdo/block-device";
import type { BioCounters, VdoStatistics } from "../statistics/index.ts";

/** Which of the groups of counters an I/O belongs to. Journal and page cache I/O is also metadata I/O. */
export const IO_DATA = 0;
export const IO_META = 1;
export const IO_JOURNAL = 2;
export const IO_PAGE_CACHE = 3;

export interface MetaWriteFlags {
  preflush?: boolean;
  fua?: boolean;
  /** Nothing in it relies on earlier writes: written even after a failed flush. */
  isRecordOfFailure?: boolean;
}

export class StorageIo {
  readonly device: BlockDevice;
  readonly #offset: number;
  readonly #started: BioCounters[][];
  readonly #completed: BioCounters[][];
  /** The flush that has not started yet: everybody who asks until it starts shares it. */
  #queuedFlush: Promise<void> | null = null;
  #runningFlush: Promise<void> = Promise.resolve();
  /** The error of the first flush that failed. */
  #flushFailure: unknown = null;
  /** Writes ended that were not forced, and how many of them a flush has covered. */
  #writesEnded = 0;
  #writesFlushed = 0;

  constructor(device: BlockDevice, bioOffset: number, statistics: VdoStatistics) {
    this.device = device;
    this.#offset = bioOffset;
    const s = statistics;
    this.#started = [[s.biosOut], [s.biosMeta], [s.biosMeta, s.biosJournal], [s.biosMeta, s.biosPageCache]];
    this.#completed = [
      [s.biosOutCompleted],
      [s.biosMetaCompleted],
      [s.biosMetaCompleted, s.biosJournalCompleted],
      [s.biosMetaCompleted, s.biosPageCacheCompleted],
    ];
  }

  /** Number of blocks of the storage, counted in PBNs. */
  get pbnLimit(): number {
    return this.device.blockCount + this.#offset;
  }

  #countFlush(groups: readonly BioCounters[]): void {
    for (const bios of groups) {
      bios.emptyFlush++;
      bios.flush++;
    }
  }

  /** True when every write of data or metadata that ended is durable: a flush has covered it, or it was forced. */
  get isDurable(): boolean {
    return this.#writesEnded === this.#writesFlushed;
  }

  /** A flush of the device that starts after this call, so it covers every write completed before. Uncounted. */
  deviceFlush(): Promise<void> {
    this.#queuedFlush ??= this.#runningFlush.then(() => {
      this.#queuedFlush = null;
      if (this.#flushFailure !== null) throw this.#flushFailure;
      const covered = this.#writesEnded;
      const flush = this.device.flush().then(
        () => {
          this.#writesFlushed = covered;
        },
        (error: unknown) => {
          this.#flushFailure = error ?? new Error("flush failed");
          throw this.#flushFailure;
        },
      );
      this.#runningFlush = flush.catch(() => undefined);
      return flush;
    });
    return this.#queuedFlush;
  }

  /** An empty flush, counted in `group`. */
  async flush(group: number): Promise<void> {
    this.#countFlush(this.#started[group]!);
    await this.deviceFlush();
    this.#countFlush(this.#completed[group]!);
  }

  /** Counts `count` data reads or writes of one block each as started (or completed). */
  countData(isWrite: boolean, count: number, done: boolean, fuaCount = 0): void {
    const bios = (done ? this.#completed : this.#started)[IO_DATA]![0]!;
    if (isWrite) bios.write += count;
    else bios.read += count;
    bios.fua += fuaCount;
  }

  /** True when the storage can forget blocks. */
  get canDiscard(): boolean {
    return this.device.discard !== undefined;
  }

  /** Number on the device of block `pbn`. */
  deviceBlock(pbn: number): number {
    return pbn - this.#offset;
  }

  /** Has the storage forget `count` blocks from `pbn`. Uncounted: the original never does it. */
  async discard(pbn: number, count: number): Promise<void> {
    await this.device.discard?.(this.deviceBlock(pbn), count);
  }

  /** Reads data blocks, uncounted (see {@link countData}). */
  readData(pbn: number, target: Uint8Array): Promise<void> {
    return this.device.read(pbn - this.#offset, target);
  }

  /** Writes data blocks to consecutive PBNs, uncounted (see {@link countData}). */
  async writeData(pbn: number, sources: readonly Uint8Array[]): Promise<void> {
    try {
      await writeVector(this.device, pbn - this.#offset, sources);
    } finally {
      this.#writesEnded++;
    }
  }

  /** Reads `target.length / 4096` blocks of metadata from `pbn`; counted as `bios` reads (default 1). */
  async readMeta(group: number, pbn: number, target: Uint8Array, bios = 1): Promise<void> {
    for (const counters of this.#started[group]!) counters.read += bios;
    await this.device.read(pbn - this.#offset, target);
    for (const counters of this.#completed[group]!) counters.read += bios;
  }

  /** Writes one or more blocks of metadata; counted as one write. `source` belongs to the device until it resolves. */
  async writeMeta(group: number, pbn: number, source: Uint8Array, flags: MetaWriteFlags = {}): Promise<void> {
    const preflush = flags.preflush === true;
    const fua = flags.fua === true;
    for (const bios of this.#started[group]!) {
      bios.write++;
      if (preflush) bios.flush++;
      if (fua) bios.fua++;
    }
    if (preflush && flags.isRecordOfFailure !== true) await this.deviceFlush();
    else if (preflush) await this.#runningFlush.then(() => this.device.flush());
    try {
      await this.device.write(pbn - this.#offset, source, fua ? { fua: true } : undefined);
    } finally {
      if (!fua) this.#writesEnded++;
    }
    for (const bios of this.#completed[group]!) {
      bios.write++;
      if (fua) bios.fua++;
    }
  }
}
