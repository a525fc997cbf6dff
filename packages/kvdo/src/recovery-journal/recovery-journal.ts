/**
 * The recovery journal at run time (Linux 6.12): every change of a block map slot is an entry here before it is anything else.
 *
 * Life of an entry: `add` (waits if the journal has no space) → assigned to the active block, which fixes its journal point
 * and the usage counters → encoded when a commit starts → committed, in order → its vio goes on.
 *
 * Invariants
 * - At most one commit is outstanding: a device flush (so that the data the entries name is stable), then the blocks, stable.
 * - Entries are released strictly in the order in which they were assigned.
 * - A block is not overwritten while `tail - head > size`, and heads move only after a device flush.
 *
 * A commit begins at once when somebody waits for it (`isUrgent`) or a block is full, else after {@link COMMIT_DELAY_MS}:
 * acknowledged writes that nobody flushes may gather into one journal write.
 */
import { type Clock, invariant, VdoError } from "@vdo/base";
import {
  JOURNAL_ENTRIES_PER_BLOCK,
  JOURNAL_RESERVED_BLOCKS,
  journalUsableBlocks,
  SEQUENCE_LIMIT,
  slabJournalCommitThreshold,
} from "../constants.ts";
import { type DataVio, VioQueue } from "../data-path/data-vio.ts";
import { JOURNAL_OPERATION_BLOCK_MAP, journalCheckByte, journalPosition } from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import { IO_JOURNAL, type StorageIo } from "../io/storage-io.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import { JournalBlock } from "./journal-block.ts";
import { JournalLocks, LOCK_KIND_ENTRIES, LOCK_KIND_PAGES, LOCK_KIND_SLAB_JOURNALS } from "./journal-locks.ts";

/** Longest time an entry nobody waits for stays out of the journal. */
const COMMIT_DELAY_MS = 2;

export interface RecoveryJournalOptions {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  statistics: VdoStatistics;
  clock: Clock;
  /** First PBN and number of blocks of the partition. */
  origin: number;
  size: number;
  nonce: bigint;
  /** Complete recoveries of the volume. */
  recoveries: number;
  /** Sequence number of the first block to be written. */
  start: number;
  logicalBlocksUsed: number;
  blockMapDataBlocks: number;
}

/** What the rest of the engine does when the journal moves. */
export interface JournalListener {
  /** True while somebody waits for entries to be committed. */
  isUrgent(): boolean;
  /** A block was opened; `tail` is the next sequence number. */
  onAdvance(tail: number): void;
  /** The slab journals that hold `sequence` are to commit their tail blocks. */
  commitSlabJournals(sequence: number): void;
}

export class RecoveryJournal {
  logicalBlocksUsed: number;
  blockMapDataBlocks: number;
  readonly locks: JournalLocks;
  readonly #options: RecoveryJournalOptions;
  readonly #listener: JournalListener;
  readonly #size: number;
  /** First PBN of the partition. */
  #origin: number;
  readonly #usableLength: number;
  /** Sequence number of the next block to open. */
  #tail: number;
  #available: number;
  #active: JournalBlock | null = null;
  /** Opened and not yet recycled, oldest first. */
  readonly #open: JournalBlock[] = [];
  readonly #free: JournalBlock[] = [];
  /** Waiting for space. */
  readonly #waitingForSpace = new VioQueue();
  #committing = false;
  #commitScheduled = false;
  /** A block map page that others wait for is among the entries not committed. */
  #pagesWaiting = false;
  #cancelTimer: (() => void) | null = null;
  #lastAcknowledged: number;
  #blockMapReapHead: number;
  #slabJournalReapHead: number;
  #blockMapHead: number;
  #slabJournalHead: number;
  #reaping = false;
  #reapingAllowed = true;
  #idleWaiters: (() => void)[] = [];

  constructor(options: RecoveryJournalOptions, listener: JournalListener) {
    this.#options = options;
    this.#listener = listener;
    this.#size = options.size;
    this.#origin = options.origin;
    this.#usableLength = journalUsableBlocks(options.size);
    this.#available = this.#usableLength * JOURNAL_ENTRIES_PER_BLOCK;
    this.#tail = options.start;
    this.#blockMapHead = options.start;
    this.#slabJournalHead = options.start;
    this.#blockMapReapHead = options.start;
    this.#slabJournalReapHead = options.start;
    this.#lastAcknowledged = options.start - 1;
    this.logicalBlocksUsed = options.logicalBlocksUsed;
    this.blockMapDataBlocks = options.blockMapDataBlocks;
    this.locks = new JournalLocks(options.size, () => this.#reap());
    for (let i = 0; i < JOURNAL_RESERVED_BLOCKS; i++) this.#free.push(new JournalBlock());
    options.notifier.onEnter(() => this.#failWaiting());
  }

  get io(): StorageIo {
    return this.#options.io;
  }

  /** Next sequence number to be opened: after a save, where the journal starts again. */
  get tail(): number {
    return this.#tail;
  }

  /** The older of the two heads. */
  get head(): number {
    return Math.min(this.#blockMapHead, this.#slabJournalHead);
  }

  /**
   * Makes an entry of the `entry…` fields and `operation` of `vio`; `vio.onCommitted(vio)` is called when it is stable (or
   * with `vio.error` set when the volume became read-only).
   */
  add(vio: DataVio): void {
    if (this.#options.notifier.isReadOnly) {
      vio.error = this.#options.notifier.refusal();
      vio.onCommitted(vio);
      return;
    }
    if (this.#waitingForSpace.length > 0 || !this.#assign(vio)) {
      this.#waitingForSpace.push(vio);
      // The attempt itself may have used up the sequence numbers.
      if (this.#options.notifier.isReadOnly) this.#failWaiting();
      else this.hurry();
      return;
    }
    this.#considerCommit();
  }

  /** Someone waits: commit what is assigned without delay. */
  hurry(): void {
    if (!this.#committing && this.#hasUncommitted()) this.#scheduleCommit();
  }

  #hasUncommitted(): boolean {
    for (const block of this.#open) if (block.waiting.length > 0) return true;
    return false;
  }

  #assign(vio: DataVio): boolean {
    if (this.#available <= 0) return false;
    let block = this.#active;
    if (block === null || block.isFull) {
      block = this.#openBlock();
      if (block === null) return false;
    }
    const statistics = this.#options.statistics.journal;
    if (block.waiting.length === 0) statistics.blocks.started++;
    if (block.entryCount === 0) {
      this.locks.acquire(LOCK_KIND_ENTRIES, block.sequence, JOURNAL_ENTRIES_PER_BLOCK + 1);
    }
    block.assign(vio);
    this.#available--;
    statistics.entries.started++;
    if (vio.operation === JOURNAL_OPERATION_BLOCK_MAP) {
      this.blockMapDataBlocks++;
      this.#pagesWaiting = true;
    } else {
      if (vio.entryNewState !== 0) this.logicalBlocksUsed++;
      if (vio.entryOldState !== 0) this.logicalBlocksUsed--;
    }
    this.#checkSlabJournalCommitThreshold();
    return true;
  }

  #openBlock(): JournalBlock | null {
    if (this.#tail - this.head > this.#size) {
      this.#options.statistics.journal.diskFull++;
      return null;
    }
    if (this.#tail >= SEQUENCE_LIMIT) {
      this.#options.notifier.enter(
        new VdoError("VDO_JOURNAL_OVERFLOW", "the recovery journal used up its sequence numbers (2^48)", {
          sequence: this.#tail,
        }),
      );
      return null;
    }
    const block = this.#free.pop();
    if (block === undefined) return null;
    const sequence = this.#tail;
    block.open({
      sequence,
      nonce: this.#options.nonce,
      checkByte: journalCheckByte(sequence, this.#size),
      recoveryCount: this.#options.recoveries % 256,
      logicalBlocksUsed: this.logicalBlocksUsed,
      blockMapDataBlocks: this.blockMapDataBlocks,
    });
    this.#open.push(block);
    this.#active = block;
    this.#tail++;
    this.#listener.onAdvance(this.#tail);
    return block;
  }

  #checkSlabJournalCommitThreshold(): void {
    if (this.#tail - this.#slabJournalHead <= slabJournalCommitThreshold(this.#size)) return;
    this.#options.statistics.journal.slabJournalCommitsRequested++;
    this.#listener.commitSlabJournals(this.#slabJournalHead);
  }

  // --- commits

  #considerCommit(): void {
    if (this.#committing || this.#commitScheduled) return;
    const active = this.#active;
    if ((active?.isFull ?? false) || this.#open.length > 1 || this.#pagesWaiting || this.#listener.isUrgent()) {
      this.#scheduleCommit();
      return;
    }
    this.#cancelTimer ??= this.#options.clock.after(COMMIT_DELAY_MS, () => {
      this.#cancelTimer = null;
      this.hurry();
    });
  }

  #scheduleCommit(): void {
    if (this.#commitScheduled) return;
    this.#commitScheduled = true;
    // After everything that runs in this turn, so that its entries go together.
    queueMicrotask(() => {
      this.#commitScheduled = false;
      if (!this.#committing) void this.#commit();
    });
  }

  #takeBatch(): JournalBlock[] {
    const batch = this.#open.filter((block) => block.isFull && block.waiting.length > 0);
    const active = this.#active;
    if (batch.length === 0 && active !== null && active.waiting.length > 0) batch.push(active);
    return batch;
  }

  async #commit(): Promise<void> {
    if (this.#options.notifier.isReadOnly) return;
    const batch = this.#takeBatch();
    if (batch.length === 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#committing = true;
    const statistics = this.#options.statistics.journal;
    for (const block of batch) {
      statistics.entries.written += block.encode(this.#blockMapHead, this.#slabJournalHead);
      statistics.blocks.written++;
      block.isWriting = true;
    }
    this.#pagesWaiting = this.#pagesWaiting && this.#hasUncommitted();
    try {
      const { io } = this.#options;
      await Promise.all(
        batch.map((block) =>
          io.writeMeta(IO_JOURNAL, this.#origin + journalPosition(block.sequence, this.#size), block.bytes, {
            preflush: true,
            fua: true,
          }),
        ),
      );
    } catch (error) {
      for (const block of batch) block.isWriting = false;
      this.#committing = false;
      this.#options.notifier.enter(error);
      this.#failEncoded();
      return;
    }
    this.#finishCommit(batch);
  }

  #finishCommit(batch: readonly JournalBlock[]): void {
    const statistics = this.#options.statistics.journal;
    for (const block of batch) {
      block.isWriting = false;
      block.committedCount = block.encodedCount;
      statistics.blocks.committed++;
      statistics.entries.committed += block.encoded.length;
      if (block.sequence > this.#lastAcknowledged) this.#lastAcknowledged = block.sequence;
    }
    for (const block of batch) {
      for (let vio = block.encoded.shift(); vio !== null; vio = block.encoded.shift()) vio.onCommitted(vio);
      if (block.isFull && block.isCommitted) this.#recycle(block);
    }
    this.#committing = false;
    this.#assignWaiting();
    this.#reap();
    if (this.#hasUncommitted()) this.#considerCommit();
    this.#wakeIdle();
  }

  #recycle(block: JournalBlock): void {
    const position = this.#open.indexOf(block);
    invariant(position >= 0, "a recycled journal block was open");
    this.#open.splice(position, 1);
    if (this.#active === block) this.#active = null;
    this.#free.push(block);
    this.locks.release(LOCK_KIND_ENTRIES, block.sequence, 1 + JOURNAL_ENTRIES_PER_BLOCK - block.entryCount);
  }

  #assignWaiting(): void {
    let any = false;
    for (let vio = this.#waitingForSpace.head; vio !== null; vio = this.#waitingForSpace.head) {
      // Taken out first: assigning links the vio into the block's own queue.
      this.#waitingForSpace.shift();
      if (!this.#assign(vio)) {
        this.#waitingForSpace.pushFront(vio);
        if (this.#options.notifier.isReadOnly) this.#failWaiting();
        break;
      }
      any = true;
    }
    if (any && !this.#committing) this.#scheduleCommit();
  }

  // --- reaping

  /** One entry's vio has updated the block map. */
  releaseEntry(sequence: number): void {
    this.locks.release(LOCK_KIND_ENTRIES, sequence);
  }

  #reap(): void {
    if (this.#reaping || !this.#reapingAllowed || this.#options.notifier.isReadOnly) return;
    const limit = this.#lastAcknowledged;
    const mapBefore = this.#blockMapReapHead;
    const slabBefore = this.#slabJournalReapHead;
    this.#blockMapReapHead = this.#advance(mapBefore, limit, LOCK_KIND_PAGES);
    this.#slabJournalReapHead = this.#advance(slabBefore, limit, LOCK_KIND_SLAB_JOURNALS);
    if (this.#blockMapReapHead === mapBefore && this.#slabJournalReapHead === slabBefore) return;
    this.#reaping = true;
    this.#options.io.flush(IO_JOURNAL).then(
      () => this.#finishReap(),
      (error) => {
        this.#reaping = false;
        this.#options.notifier.enter(error);
        this.#wakeIdle();
      },
    );
  }

  #advance(from: number, limit: number, kind: number): number {
    let head = from;
    while (head < limit && !this.locks.isLocked(LOCK_KIND_ENTRIES, head) && !this.locks.isLocked(kind, head)) head++;
    return head;
  }

  #finishReap(): void {
    this.#reaping = false;
    const before = this.head;
    this.#blockMapHead = this.#blockMapReapHead;
    this.#slabJournalHead = this.#slabJournalReapHead;
    this.#available += (this.head - before) * JOURNAL_ENTRIES_PER_BLOCK;
    this.#assignWaiting();
    this.#checkSlabJournalCommitThresholdAfterReap();
    this.#reap();
    this.#wakeIdle();
  }

  #checkSlabJournalCommitThresholdAfterReap(): void {
    if (this.#active !== null) this.#checkSlabJournalCommitThreshold();
  }

  // --- failure

  #failWaiting(): void {
    const failed = new VioQueue();
    failed.append(this.#waitingForSpace);
    for (const block of this.#open) failed.append(block.waiting);
    this.#failAll(failed);
    this.#wakeIdle();
  }

  #failEncoded(): void {
    const failed = new VioQueue();
    for (const block of this.#open) failed.append(block.encoded);
    this.#failAll(failed);
    this.#wakeIdle();
  }

  #failAll(failed: VioQueue): void {
    for (let vio = failed.shift(); vio !== null; vio = failed.shift()) {
      vio.error = this.#options.notifier.refusal();
      vio.onCommitted(vio);
    }
  }

  // --- drain

  get #isIdle(): boolean {
    return !this.#committing && !this.#reaping && !this.#hasUncommitted() && this.#waitingForSpace.length === 0;
  }

  #wakeIdle(): void {
    if (!this.#isIdle && !this.#options.notifier.isReadOnly) return;
    if (this.#committing || this.#reaping) return;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  /** Resolves when everything assigned is committed and no reaping is under way. */
  async drain(): Promise<void> {
    while (!this.#isIdle && !(this.#options.notifier.isReadOnly && !this.#committing && !this.#reaping)) {
      this.hurry();
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
  }

  /** Drains and closes the active block, so that the next block written is `tail`: for a clean stop. */
  async save(): Promise<void> {
    await this.drain();
    if (this.#active?.isCommitted === true) this.#recycle(this.#active);
    this.#active = null;
    await this.drain();
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  /** The partition was copied to `origin`, while nothing was under way. */
  moveTo(origin: number): void {
    this.#origin = origin;
  }

  /** After a save: the journal is empty and starts again at its tail. */
  restart(): void {
    this.#blockMapHead = this.#blockMapReapHead = this.#tail;
    this.#slabJournalHead = this.#slabJournalReapHead = this.#tail;
    this.#available = this.#usableLength * JOURNAL_ENTRIES_PER_BLOCK;
  }

  /** Stops or allows the heads to move (they stand still while the volume is suspended). */
  setReaping(allowed: boolean): void {
    this.#reapingAllowed = allowed;
    if (allowed) this.#reap();
  }
}
