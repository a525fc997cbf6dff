/**
 * The journal of one slab at run time (Linux 6.12): every change of a reference count, in recovery journal order.
 *
 * ```
 *      head          unreapable                     nextCommit      tail
 *   ────┬────────────────┬──────────────────────────────┬────────────┬──
 *  old  │ needed by reference blocks not yet written    │ being      │ being
 *       │                                               │ written    │ filled
 * ```
 *
 * Rules
 * - Entries are made in the order in which they are asked for; the queue stops at the first that has to wait.
 * - After a block was written before it was full, no entry is added until the slab summary names that block: a replay after
 *   a crash must put every entry in the same place.
 * - A block is reaped only after the reference blocks that needed it were written and a device flush.
 */
import { invariant, VdoError } from "@vdo/base";
import { BLOCK_SIZE, SLAB_JOURNAL_ENTRIES_PER_BLOCK, SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK } from "../constants.ts";
import type { ReferenceUpdate } from "../data-path/data-vio.ts";
import {
  clearSlabJournalBlockMapEntries,
  expandedEntry,
  isBefore,
  METADATA_TYPE,
  markSlabJournalBlockMapEntry,
  slabJournalHeader,
  writeSlabJournalEntry,
} from "../format/index.ts";
import { IO_META } from "../io/storage-io.ts";
import { LOCK_KIND_SLAB_JOURNALS } from "../recovery-journal/journal-locks.ts";
import type { Slab } from "./slab.ts";
import type { SlabContext } from "./slab-context.ts";

/** One change of a reference count, as an entry of the recovery journal states it. */
export interface JournaledChange {
  pbn: number;
  isIncrement: boolean;
  isBlockMap: boolean;
  /** Journal block, and place in it, of the entry. */
  sequence: number;
  index: number;
}

export class SlabJournal {
  readonly #slab: Slab;
  readonly #context: SlabContext;
  readonly size: number;
  head = 1;
  tail = 1;
  #unreapable = 1;
  #nextCommit = 1;
  #summarized = 1;
  #updatingSummary = false;
  #reaping = false;
  /** A partly filled block was written and the summary does not name it yet. */
  #partialWrite = false;
  #writing = 0;

  // --- the tail block
  #entryCount = 0;
  #hasBlockMapIncrements = false;
  /** Expanded recovery journal point of the newest entry: sequence, and 2 × entry (+ 1 for a decrement). */
  recoverySequence = 0;
  recoveryEntry = 0;
  #bytes: Uint8Array | null = null;

  /** Counts of what needs each block, and the recovery journal block each holds, by sequence modulo size. */
  readonly #locks: Int32Array;
  readonly #recoveryLocks: Float64Array;
  #queueHead: ReferenceUpdate | null = null;
  #queueTail: ReferenceUpdate | null = null;

  constructor(slab: Slab, context: SlabContext) {
    this.#slab = slab;
    this.#context = context;
    this.size = context.config.slabJournalBlocks;
    this.#locks = new Int32Array(this.size);
    this.#recoveryLocks = new Float64Array(this.size);
  }

  /** Never had an entry. */
  get isBlank(): boolean {
    return this.tail === 1 && this.#entryCount === 0;
  }

  get length(): number {
    return this.tail - this.head;
  }

  get isIdle(): boolean {
    return this.#writing === 0 && !this.#updatingSummary && !this.#reaping;
  }

  get hasEntries(): boolean {
    return this.#entryCount > 0;
  }

  /** Recovery journal block that the tail block holds; only when it has entries. */
  get tailRecoveryLock(): number {
    return this.#recoveryLocks[this.tail % this.size] as number;
  }

  /** Sets where the journal stands, from what the storage holds: see `loadTail` of the depot. */
  restore({
    head,
    tail,
    recoverySequence,
    recoveryEntry,
  }: {
    head: number;
    tail: number;
    recoverySequence: number;
    recoveryEntry: number;
  }): void {
    this.head = head;
    this.tail = tail;
    this.#unreapable = head;
    this.#nextCommit = tail;
    this.#summarized = tail;
    this.recoverySequence = recoverySequence;
    this.recoveryEntry = recoveryEntry;
  }

  /** The slab's counts are exact: nothing in the journal is needed any more. */
  forget(): void {
    this.head = this.tail;
    this.#unreapable = this.tail;
  }

  // --- entries

  /** Makes the entry of `update` and changes the count; calls `context.onUpdated(update)` when both are done. */
  add(update: ReferenceUpdate): void {
    if (this.#queueHead === null && this.#tryAdd(update)) return;
    update.next = null;
    if (this.#queueTail === null) this.#queueHead = update;
    else this.#queueTail.next = update;
    this.#queueTail = update;
  }

  #processQueue(): void {
    while (this.#queueHead !== null) {
      const update = this.#queueHead;
      // Unlinked first: making the entry may lead to another one for the same vio.
      this.#queueHead = update.next;
      if (this.#queueHead === null) this.#queueTail = null;
      update.next = null;
      if (!this.#tryAdd(update)) {
        update.next = this.#queueHead;
        this.#queueHead = update;
        if (this.#queueTail === null) this.#queueTail = update;
        return;
      }
    }
  }

  /** The volume became read-only: everything that waits goes on, with the error. */
  failQueue(): void {
    while (this.#queueHead !== null) {
      const update = this.#queueHead;
      this.#queueHead = update.next;
      if (this.#queueHead === null) this.#queueTail = null;
      update.next = null;
      update.vio.error ??= this.#context.notifier.refusal();
      this.#context.onUpdated(update);
    }
  }

  /** False when the entry has to wait. */
  #tryAdd(update: ReferenceUpdate): boolean {
    const { notifier, statistics, config } = this.#context;
    if (notifier.isReadOnly) {
      update.vio.error ??= notifier.refusal();
      this.#context.onUpdated(update);
      return true;
    }
    // While the slab is recovered its journal is replayed: a count changed meanwhile would be overlooked.
    if (this.#partialWrite || this.#slab.isRebuilding) return false;
    if (update.isBlockMap && this.#entryCount >= SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK && !this.#hasBlockMapIncrements) {
      this.commitTail();
      if (this.#partialWrite) return false;
    }
    if (this.length >= config.blockingThreshold) {
      statistics.slabJournal.blockedCount++;
      // A slab that is not recovered is to be recovered next: nothing else makes room in its journal.
      this.#slab.isWanted = true;
      this.#slab.writeDirtyCounts(Number.POSITIVE_INFINITY);
      return false;
    }
    if (this.#entryCount === 0 && !this.#startBlock(update)) return false;
    const { vio } = update;
    this.#writeEntry(update.pbn, update.isIncrement, update.isBlockMap, vio.journalSequence, vio.journalIndex);
    const sequence = this.tail;
    const entry = this.#entryCount - 1;
    const full = this.#entryCount >= this.#capacity;
    this.#slab.applyUpdate(update, sequence, entry);
    if (full) this.commitTail();
    this.#context.onUpdated(update);
    return true;
  }

  #startBlock(update: ReferenceUpdate): boolean {
    const { statistics, config } = this.#context;
    const slot = this.tail % this.size;
    if (this.#locks[slot] !== 0) {
      statistics.slabJournal.diskFullCount++;
      this.#slab.writeDirtyCounts(Number.POSITIVE_INFINITY);
      return false;
    }
    this.#locks[slot] = SLAB_JOURNAL_ENTRIES_PER_BLOCK + 1;
    if (this.tail === 1) this.#locks[slot] += this.#slab.dirtyAllCounts();
    this.#bytes ??= new Uint8Array(BLOCK_SIZE);
    this.#hasBlockMapIncrements = false;
    const recoveryBlock = update.vio.journalSequence;
    this.#recoveryLocks[slot] = recoveryBlock;
    this.#context.journalLocks.acquire(LOCK_KIND_SLAB_JOURNALS, recoveryBlock);
    this.#context.dirtyJournals.add(this);
    const dirty = this.#slab.counts.dirtyCount;
    if (this.length >= config.flushingThreshold && dirty > 0) {
      statistics.slabJournal.flushCount++;
      const deadline = config.flushingDeadline;
      const portion =
        this.length >= deadline
          ? Number.POSITIVE_INFINITY
          : Math.max(1, Math.floor(dirty / (deadline - this.length + 1)));
      this.#slab.writeDirtyCounts(portion);
    }
    return true;
  }

  /** Hot path: plain arguments, nothing is allocated. */
  #writeEntry(pbn: number, isIncrement: boolean, isBlockMap: boolean, sequence: number, index: number): void {
    const bytes = this.#bytes as Uint8Array;
    const entry = expandedEntry(index, isIncrement);
    invariant(
      sequence > this.recoverySequence || (sequence === this.recoverySequence && entry > this.recoveryEntry),
      "slab journal entries are made in recovery journal order",
    );
    this.recoverySequence = sequence;
    this.recoveryEntry = entry;
    if (isBlockMap) {
      if (!this.#hasBlockMapIncrements) {
        clearSlabJournalBlockMapEntries(bytes);
        this.#hasBlockMapIncrements = true;
      }
      markSlabJournalBlockMapEntry(bytes, this.#entryCount);
    }
    writeSlabJournalEntry(bytes, this.#entryCount, pbn - this.#slab.start, isIncrement);
    this.#entryCount++;
  }

  // --- recovery

  /**
   * Makes an entry of the recovery journal that this journal lacks; false when it has it already. Nothing waits here, and
   * counts are not touched. A full ring moves on by a block, which must have been reaped before the crash.
   */
  replay(change: JournaledChange): boolean {
    const { pbn, isIncrement, isBlockMap, sequence, index } = change;
    const entry = expandedEntry(index, isIncrement);
    if (!isBefore(this.recoverySequence, this.recoveryEntry, sequence, entry)) return false;
    if (isBlockMap && this.#entryCount >= SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK && !this.#hasBlockMapIncrements) {
      this.commitTail();
    }
    const slot = this.tail % this.size;
    if (this.#entryCount === 0) {
      if (this.length >= this.size) this.head = this.#unreapable = this.head + 1;
      this.#locks[slot] = SLAB_JOURNAL_ENTRIES_PER_BLOCK + 1;
      this.#recoveryLocks[slot] = 0;
      this.#bytes ??= new Uint8Array(BLOCK_SIZE);
      this.#hasBlockMapIncrements = false;
      this.#context.dirtyJournals.add(this);
    }
    this.#writeEntry(pbn, isIncrement, isBlockMap, sequence, index);
    this.releaseLock(this.tail);
    if (this.#entryCount >= this.#capacity) this.commitTail();
    return true;
  }

  get #capacity(): number {
    return this.#hasBlockMapIncrements ? SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK : SLAB_JOURNAL_ENTRIES_PER_BLOCK;
  }

  /** The slab is recovered: what waited for it goes on. */
  resume(): void {
    this.#processQueue();
  }

  // --- locks

  /** Lets go of one lock on block `sequence`: its entry's, or a reference block's. Reaping follows in {@link reap}. */
  releaseLock(sequence: number, count = 1): void {
    const slot = sequence % this.size;
    const left = (this.#locks[slot] as number) - count;
    invariant(left >= 0, "a slab journal block is not released more often than it was locked");
    this.#locks[slot] = left;
  }

  // --- commit

  /** Writes the tail block, full or not, and starts the next one. Nothing happens when it is empty. */
  commitTail(): void {
    if (this.#entryCount === 0) return;
    this.#context.dirtyJournals.delete(this);
    if (this.#context.notifier.isReadOnly) return;
    const bytes = this.#bytes as Uint8Array;
    const sequence = this.tail;
    if (this.#entryCount < this.#capacity) this.#partialWrite = true;
    slabJournalHeader.set(new DataView(bytes.buffer), 0, {
      head: this.head,
      sequence,
      recoveryPoint: { sequence: this.recoverySequence, entry: this.recoveryEntry },
      nonce: this.#context.config.nonce,
      metadataType: METADATA_TYPE.slabJournal,
      hasBlockMapIncrements: this.#hasBlockMapIncrements ? 1 : 0,
      entryCount: this.#entryCount,
    });
    this.releaseLock(sequence, SLAB_JOURNAL_ENTRIES_PER_BLOCK - this.#entryCount);
    this.tail++;
    this.#entryCount = 0;
    this.#bytes = null;
    this.#writing++;
    this.#context.busy();
    void this.#write(sequence, bytes);
  }

  /** Sequence numbers of blocks whose write has not finished, in order of submission. */
  readonly #inFlight = new Set<number>();

  async #write(sequence: number, bytes: Uint8Array): Promise<void> {
    const { io, notifier, statistics } = this.#context;
    this.#inFlight.add(sequence);
    try {
      await io.writeMeta(IO_META, this.#slab.journalOrigin + (sequence % this.size), bytes);
      statistics.slabJournal.blocksWritten++;
      this.#inFlight.delete(sequence);
      const oldest = this.#inFlight.values().next();
      this.#nextCommit = oldest.done === true ? this.tail : Math.min(oldest.value, this.tail);
      this.#writing--;
      void this.#updateSummary();
    } catch (error) {
      this.#inFlight.delete(sequence);
      this.#writing--;
      notifier.enter(error);
    }
    this.#context.idle();
  }

  async #updateSummary(): Promise<void> {
    if (this.#updatingSummary || this.#context.notifier.isReadOnly) return;
    this.#updatingSummary = true;
    this.#context.busy();
    try {
      while (this.#summarized < this.#nextCommit) {
        const upTo = this.#nextCommit;
        await this.#context.summary.update(this.#slab.number, {
          tailOffset: upTo % this.size,
          fullnessHint: this.#slab.hint,
          loadCounts: this.head > 1,
          isDirty: true,
        });
        this.#releaseSummarized(upTo);
      }
    } catch (error) {
      this.#context.notifier.enter(error);
    }
    this.#updatingSummary = false;
    if (this.#inFlight.size === 0 && this.#summarized === this.tail) this.#partialWrite = false;
    this.reap();
    this.#processQueue();
    this.#context.idle();
  }

  #releaseSummarized(upTo: number): void {
    for (let sequence = this.#summarized; sequence < upTo; sequence++) {
      const recoveryBlock = this.#recoveryLocks[sequence % this.size] as number;
      if (recoveryBlock > 0) {
        this.#context.journalLocks.release(LOCK_KIND_SLAB_JOURNALS, recoveryBlock);
        this.#recoveryLocks[sequence % this.size] = 0;
      }
      this.releaseLock(sequence);
    }
    this.#summarized = upTo;
  }

  // --- reaping

  /** Moves the head over blocks that nothing needs, after a device flush. */
  reap(): void {
    if (this.#reaping || this.#context.notifier.isReadOnly || !this.#slab.isRecovered) return;
    let to = this.#unreapable;
    while (to < this.tail && this.#locks[to % this.size] === 0) to++;
    if (to === this.#unreapable) return;
    this.#unreapable = to;
    this.#reaping = true;
    this.#context.busy();
    this.#context.io.flush(IO_META).then(
      () => {
        this.#reaping = false;
        this.head = to;
        this.#processQueue();
        this.reap();
        this.#context.idle();
      },
      (error) => {
        this.#reaping = false;
        this.#context.notifier.enter(error);
        this.#context.idle();
      },
    );
  }

  /** The error for a journal block that does not fit its place. */
  static corrupt(slab: number, sequence: number, field: string, expected: unknown, actual: unknown): VdoError {
    return new VdoError(
      "VDO_CORRUPT",
      `slab ${slab}, journal block ${sequence}: ${field} is ${String(actual)}, expected ${String(expected)}; rebuild the volume (vdo forceRebuild)`,
      { structure: `slab ${slab} journal block ${sequence}`, field, expected, actual },
    );
  }
}
