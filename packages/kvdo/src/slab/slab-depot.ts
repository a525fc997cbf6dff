/** All slabs of a volume: the physical space, its reference counts, and who may use which block (Linux 6.12, slab depot). */
import { VdoError } from "@vdo/base";
import type { ReferenceUpdate } from "../data-path/data-vio.ts";
import { defaultSummaryEntry, fullnessHint } from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import type { StorageIo } from "../io/storage-io.ts";
import type { JournalLocks } from "../recovery-journal/journal-locks.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import { BlockAllocator } from "./block-allocator.ts";
import { LOCK_READ, MAXIMUM_REFERENCES, type PbnLock, PbnLockTable } from "./pbn-locks.ts";
import { Scrubber } from "./scrubber.ts";
import { Slab } from "./slab.ts";
import type { SlabContext, SlabRules } from "./slab-context.ts";
import type { SlabJournal } from "./slab-journal.ts";
import { SlabSummary } from "./slab-summary.ts";
import type { StorageDiscards } from "./storage-discards.ts";

/** Slabs loaded at the same time. */
const LOADS_IN_FLIGHT = 16;

export interface SlabDepotOptions {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  statistics: VdoStatistics;
  journalLocks: JournalLocks;
  config: SlabRules;
  /** PBN of slab 0, and PBN just past the last slab. */
  firstBlock: number;
  lastBlock: number;
  summaryOrigin: number;
  /** An entry and a count of a vio's reference update were made. */
  onUpdated: (update: ReferenceUpdate) => void;
}

export class SlabDepot implements SlabContext {
  readonly config: SlabRules;
  readonly io: StorageIo;
  readonly notifier: ReadOnlyNotifier;
  readonly statistics: VdoStatistics;
  readonly summary: SlabSummary;
  readonly journalLocks: JournalLocks;
  readonly pbnLocks = new PbnLockTable();
  readonly dirtyJournals = new Set<SlabJournal>();
  slabs: readonly Slab[];
  readonly onUpdated: (update: ReferenceUpdate) => void;
  readonly #allocator: BlockAllocator;
  readonly #first: number;
  #last: number;
  /** Blocks whose count is not 0. */
  allocatedBlocks = 0;
  readonly scrubber: Scrubber;
  discards: StorageDiscards | null = null;
  #pending = 0;
  #idleWaiters: (() => void)[] = [];
  #settleWaiters: (() => void)[] = [];
  #lastCommitRequest = 0;

  constructor(options: SlabDepotOptions) {
    this.config = options.config;
    this.io = options.io;
    this.notifier = options.notifier;
    this.statistics = options.statistics;
    this.journalLocks = options.journalLocks;
    this.onUpdated = options.onUpdated;
    this.#first = options.firstBlock;
    this.#last = options.lastBlock;
    this.summary = new SlabSummary({ io: options.io, origin: options.summaryOrigin, statistics: options.statistics });
    const count = Math.floor((options.lastBlock - options.firstBlock) / options.config.slabBlocks);
    this.slabs = Array.from(
      { length: count },
      (_, number) => new Slab(number, options.firstBlock + number * options.config.slabBlocks, this),
    );
    this.#allocator = new BlockAllocator({
      dataBlocks: options.config.dataBlocks,
      statistics: options.statistics,
    });
    this.scrubber = new Scrubber(this);
    options.statistics.allocator.slabCount = count;
    options.notifier.onEnter(() => {
      for (const slab of this.slabs) slab.journal.failQueue();
      this.scrubber.failWaiting();
      this.#wake();
    });
  }

  // --- geometry

  /** Data blocks of all slabs. */
  get dataBlocks(): number {
    return this.slabs.length * this.config.dataBlocks;
  }

  get freeBlocks(): number {
    return this.dataBlocks - this.allocatedBlocks;
  }

  /** The slab of which `pbn` is a data block; null when it is none. */
  slabOf(pbn: number): Slab | null {
    if (pbn < this.#first || pbn >= this.#last) return null;
    const offset = pbn - this.#first;
    const number = Math.floor(offset / this.config.slabBlocks);
    if (offset - number * this.config.slabBlocks >= this.config.dataBlocks) return null;
    return this.slabs[number] ?? null;
  }

  /** True when `pbn` is a block that can hold data or a block map page. */
  isDataBlock(pbn: number): boolean {
    return this.slabOf(pbn) !== null;
  }

  // --- allocation and locks

  /** Allocates a block under a new lock of `type`, with a provisional reference; null when no block is free. */
  allocate(type: number): PbnLock | null {
    // Two rounds, as the original makes them: the second would wait for a slab that is being recovered.
    const pbn = this.#allocator.allocate() || this.#allocator.allocate();
    if (pbn === 0) return null;
    this.allocatedBlocks++;
    const lock = this.pbnLocks.create(pbn, type);
    lock.hasProvisionalReference = true;
    return lock;
  }

  /**
   * A share of a read lock on `pbn`, for verification and new references; null when the block must not be shared (it is
   * being written, has all the references it can have, or its slab is not recovered).
   */
  acquireReadLock(pbn: number): PbnLock | null {
    const existing = this.pbnLocks.get(pbn);
    if (existing !== undefined) {
      if (existing.type !== LOCK_READ) return null;
      existing.holders++;
      return existing;
    }
    const slab = this.slabOf(pbn);
    if (slab === null || !slab.isRecovered) return null;
    const sbn = pbn - slab.start;
    const count = slab.counts.get(sbn);
    if (count >= MAXIMUM_REFERENCES) return null;
    const lock = this.pbnLocks.create(pbn, LOCK_READ);
    lock.incrementLimit = MAXIMUM_REFERENCES - count;
    if (count === 0) {
      slab.counts.makeProvisional(sbn);
      lock.hasProvisionalReference = true;
      this.onFreeChanged(slab, -1);
    }
    return lock;
  }

  /** Lets go of a share; with the last one a reference that stayed provisional is given back. */
  releaseLock(lock: PbnLock): void {
    if (!this.pbnLocks.release(lock) || !lock.hasProvisionalReference) return;
    lock.hasProvisionalReference = false;
    const slab = this.slabOf(lock.pbn) as Slab;
    slab.counts.dropProvisional(lock.pbn - slab.start);
    this.onFreeChanged(slab, 1);
    if (lock.wasReferenced) this.discards?.note(slab, lock.pbn - slab.start);
  }

  /** Keeps free blocks from being used, in I/O of the slab; they count as free all the same. */
  holdFree(slab: Slab, first: number, count: number): void {
    this.busy();
    slab.counts.hold(first, count);
    this.#allocator.onFreeChanged(slab);
  }

  /** Ends {@link holdFree}. */
  releaseFree(slab: Slab, first: number): void {
    slab.counts.release(first);
    this.#allocator.onFreeChanged(slab);
    this.idle();
  }

  onFreeChanged(slab: Slab, delta: number): void {
    this.allocatedBlocks -= delta;
    this.#allocator.onFreeChanged(slab);
  }

  /** Makes the slab journal entry and the change of the count of `update.pbn`. */
  update(update: ReferenceUpdate): void {
    const slab = this.slabOf(update.pbn);
    if (slab === null) {
      const error = new VdoError(
        "VDO_BAD_MAPPING",
        `block ${update.pbn} of a trusted mapping is not a data block of any slab`,
        {
          lbn: update.vio.lbn,
          pbn: update.pbn,
          state: 0,
        },
      );
      update.vio.error ??= error;
      this.notifier.enter(error);
      this.onUpdated(update);
      return;
    }
    slab.journal.add(update);
  }

  /** Slab journals whose tail block keeps recovery journal block `sequence` locked commit it. */
  commitOldestTails(sequence: number): void {
    if (sequence === this.#lastCommitRequest && this.dirtyJournals.size === 0) return;
    this.#lastCommitRequest = sequence;
    for (const journal of this.dirtyJournals) {
      // Journals are in the order in which their blocks were begun, which is nearly that of the locks.
      if (journal.tailRecoveryLock > sequence) break;
      journal.commitTail();
    }
  }

  // --- load and drain

  /** Loads the summary (defaults for a volume never started) and writes it to all copies. */
  async loadSummary({ isNew, oldZones }: { isNew: boolean; oldZones: number }): Promise<void> {
    if (isNew) {
      this.summary.setDefaults(defaultSummaryEntry(fullnessHint(this.config.dataBlocks, this.config.hintShift)));
    } else await this.summary.load(oldZones);
  }

  /** Finds the end of every slab journal. */
  loadJournals(): Promise<void> {
    return this.#forEachSlab((slab) => slab.loadJournalTail());
  }

  /** Makes the counts of every slab exact and opens all slabs for allocation. What had to be replayed is saved if `save` is set. */
  async loadCounts({ save }: { save: boolean }): Promise<void> {
    await this.#forEachSlab((slab) => slab.load(save));
    for (const slab of this.#inLoadOrder()) this.open(slab);
  }

  /** Clean slabs first, then the emptiest, then the first. */
  #inLoadOrder(): Slab[] {
    const keyed = this.slabs.map((slab) => ({ slab, entry: this.summary.get(slab.number) }));
    keyed.sort(
      (a, b) =>
        Number(a.entry.isDirty) - Number(b.entry.isDirty) ||
        b.entry.fullnessHint - a.entry.fullnessHint ||
        a.slab.number - b.slab.number,
    );
    return keyed.map(({ slab }) => slab);
  }

  /** A slab whose counts are exact is used from now on. */
  open(slab: Slab): void {
    this.allocatedBlocks += this.config.dataBlocks - slab.counts.unusedBlocks;
    if (!slab.journal.isBlank) this.statistics.allocator.slabsOpened++;
    this.#allocator.add(slab);
    this.discards?.sweep(slab);
  }

  /**
   * After a recovery: slabs that were never used are opened at once, all others by the scrubber, which the caller starts;
   * before this resolves it has opened those that cannot wait, and at least one slab.
   */
  async prepareScrubbing(): Promise<void> {
    const unrecovered: Slab[] = [];
    let usable = 0;
    for (const slab of this.#inLoadOrder()) {
      const { isDirty, loadCounts } = this.summary.get(slab.number);
      if (isDirty || loadCounts) {
        unrecovered.push(slab);
        slab.isWanted = slab.journal.length >= this.config.scrubbingThreshold;
      } else {
        slab.isRecovered = true;
        this.open(slab);
        usable++;
      }
    }
    this.scrubber.add(unrecovered);
    if (usable === 0 && unrecovered[0] !== undefined) unrecovered[0].isWanted = true;
    await this.scrubber.runWanted();
  }

  /** The volume grew to `slabs` slabs: the new ones were never used, and their summary entries say so. */
  grow({ slabs, lastBlock, summaryOrigin }: { slabs: number; lastBlock: number; summaryOrigin: number }): void {
    const added: Slab[] = [];
    for (let number = this.slabs.length; number < slabs; number++) {
      const slab = new Slab(number, this.#first + number * this.config.slabBlocks, this);
      slab.isRecovered = true;
      added.push(slab);
    }
    this.slabs = [...this.slabs, ...added];
    this.#last = lastBlock;
    this.summary.moveTo(summaryOrigin);
    this.statistics.allocator.slabCount = slabs;
    for (const slab of added) this.open(slab);
  }

  /** Everything that the recovery put into slab journals goes to the storage. */
  async commitReplayed(): Promise<void> {
    for (const journal of [...this.dirtyJournals]) journal.commitTail();
    await this.drain();
    if (this.notifier.isReadOnly) throw this.notifier.error;
  }

  async #forEachSlab(work: (slab: Slab) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let slab = this.slabs[next++]; slab !== undefined; slab = this.slabs[next++]) await work(slab);
    };
    await Promise.all(Array.from({ length: LOADS_IN_FLIGHT }, worker));
  }

  busy(): void {
    this.#pending++;
  }

  idle(): void {
    this.#pending--;
    const settled = this.#settleWaiters;
    this.#settleWaiters = [];
    for (const wake of settled) wake();
    if (this.#pending === 0) this.#wake();
  }

  settle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#pending === 0) resolve();
      else this.#settleWaiters.push(resolve);
    });
  }

  #wake(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  /** Resolves when no I/O of any slab is under way. */
  async drain(): Promise<void> {
    while (this.#pending > 0) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
  }

  /** Writes everything that is not on the storage: journal tails, counts, summary. For a clean stop. */
  async save(): Promise<void> {
    if (this.notifier.isReadOnly) return this.drain();
    for (const journal of [...this.dirtyJournals]) journal.commitTail();
    await this.drain();
    for (const slab of this.slabs) if (slab.isRecovered) slab.writeDirtyCounts(Number.POSITIVE_INFINITY);
    await this.drain();
    if (this.notifier.isReadOnly) return;
    for (const slab of this.slabs) if (slab.isRecovered) slab.journal.forget();
  }
}
