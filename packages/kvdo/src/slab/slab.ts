/** A slab: data blocks, their reference counts, and the journal of changes to them (Linux 6.12). */
import { VdoError } from "@vdo/base";
import { BLOCK_SIZE } from "../constants.ts";
import type { ReferenceUpdate } from "../data-path/data-vio.ts";
import { fullnessHint, METADATA_TYPE, slabJournalHeader } from "../format/index.ts";
import { IO_META } from "../io/storage-io.ts";
import { type ReferenceBlock, ReferenceCounts } from "./reference-counts.ts";
import type { SlabContext } from "./slab-context.ts";
import { SlabJournal } from "./slab-journal.ts";
import { replaySlabJournal } from "./slab-replay.ts";

export class Slab {
  readonly number: number;
  /** PBN of the first data block. */
  readonly start: number;
  readonly counts: ReferenceCounts;
  readonly journal: SlabJournal;
  readonly #context: SlabContext;
  /** False while the counts do not hold what the journal says. */
  isRecovered = false;
  /** Its journal is being replayed: new entries wait. */
  isRebuilding = false;
  /** To be recovered before others: something waits for it. */
  isWanted = false;
  /** Place in the allocator's table; see {@link BlockAllocator}. */
  priority = 0;
  #countsWriting = 0;
  #summaryWriting = false;
  /** Why the end of the journal is not known. */
  #tailDamage: VdoError | null = null;

  constructor(number: number, start: number, context: SlabContext) {
    this.number = number;
    this.start = start;
    this.#context = context;
    this.counts = new ReferenceCounts(context.config.dataBlocks);
    this.journal = new SlabJournal(this, context);
  }

  get countsOrigin(): number {
    return this.start + this.#context.config.dataBlocks;
  }

  get journalOrigin(): number {
    return this.countsOrigin + this.#context.config.referenceCountBlocks;
  }

  get freeBlocks(): number {
    return this.counts.freeBlocks;
  }

  /** Fullness hint for the summary: 0 when full, else free blocks scaled to 6 bits, at least 1. */
  get hint(): number {
    return fullnessHint(this.counts.unusedBlocks, this.#context.config.hintShift);
  }

  // --- changes

  /** Applies an update whose entry is number `entry` of slab journal block `sequence`. */
  applyUpdate(update: ReferenceUpdate, sequence: number, entry: number): void {
    if (!this.isRecovered) {
      this.journal.releaseLock(sequence);
      return;
    }
    const { counts } = this;
    const sbn = update.pbn - this.start;
    const before = counts.freeBlocks;
    try {
      if (update.isIncrement) counts.increment(sbn, update.isBlockMap, update.lock);
      else counts.decrement(sbn, this.#context.pbnLocks.get(update.pbn));
    } catch (error) {
      update.vio.error ??= error as VdoError;
      this.#context.notifier.enter(error);
      return;
    }
    counts.pointSequence = sequence;
    counts.pointEntry = entry;
    const block = counts.blockOf(sbn);
    if (counts.dirty(block)) block.slabJournalLock = sequence;
    else this.journal.releaseLock(sequence);
    if (counts.freeBlocks === before) return;
    this.#context.onFreeChanged(this, counts.freeBlocks - before);
    if (counts.freeBlocks > before) this.#context.discards?.note(this, sbn);
  }

  /** Marks all reference blocks dirty, each needing journal block 1; returns how many locks that took. */
  dirtyAllCounts(): number {
    for (const block of this.counts.blocks) {
      this.counts.dirty(block);
      block.slabJournalLock = 1;
    }
    return this.counts.blocks.length;
  }

  /** A slab that was never used is opened: its counts are to be initialised on the storage before they are needed. */
  dirtyForFirstUse(): void {
    for (const block of this.counts.blocks) this.counts.dirty(block);
  }

  // --- writing counts

  /** Starts the write of up to `limit` dirty reference blocks, those dirtied first in front. */
  writeDirtyCounts(limit: number): void {
    if (this.#context.notifier.isReadOnly) return;
    for (let i = 0; i < limit; i++) {
      const block = this.counts.takeDirty();
      if (block === null) return;
      void this.#writeCounts(block);
    }
  }

  async #writeCounts(block: ReferenceBlock): Promise<void> {
    const { io, notifier, statistics } = this.#context;
    const lock = block.slabJournalLock;
    block.slabJournalLock = 0;
    block.isWriting = true;
    this.#countsWriting++;
    this.#context.busy();
    const bytes = new Uint8Array(BLOCK_SIZE);
    this.counts.encode(block.index, bytes);
    statistics.refCounts.blocksWritten++;
    try {
      await io.writeMeta(IO_META, this.countsOrigin + block.index, bytes, { preflush: true });
      block.isWriting = false;
      this.#countsWriting--;
      if (lock > 0) this.journal.releaseLock(lock);
      if (this.counts.dirtyCount === 0 && this.#countsWriting === 0) void this.#updateSummary();
      this.journal.reap();
    } catch (error) {
      block.isWriting = false;
      this.#countsWriting--;
      notifier.enter(error);
    }
    this.#context.idle();
  }

  /** All counts are on the storage: the summary says so. */
  async #updateSummary(): Promise<void> {
    if (this.#summaryWriting) return;
    this.#summaryWriting = true;
    this.#context.busy();
    try {
      await this.markClean();
    } catch (error) {
      this.#context.notifier.enter(error);
    }
    this.#summaryWriting = false;
    this.#context.idle();
  }

  /** Writes the summary entry "counts exact, journal empty". */
  markClean(): Promise<void> {
    const { summary } = this.#context;
    return summary.update(this.number, {
      tailOffset: summary.get(this.number).tailOffset,
      fullnessHint: this.hint,
      loadCounts: true,
      isDirty: false,
    });
  }

  // --- loading

  /**
   * Finds the end of the journal from the summary (`vdo-format`, reading the tail at load). Throws `VDO_IO`; damage is kept
   * for {@link load} to throw, by when the volume can come up readable.
   *
   * A clean slab's tail block need not be one: a rebuild of the kernel's erases it. A dirty slab's must be, or changes
   * would be forgotten (the original takes the journal for empty then).
   */
  async loadJournalTail(): Promise<void> {
    const entry = this.#context.summary.get(this.number);
    if (entry.tailOffset === 0 && !entry.loadCounts) return;
    const size = this.journal.size;
    const offset = entry.tailOffset === 0 ? size - 1 : entry.tailOffset - 1;
    if (offset >= size) {
      this.#tailDamage = this.#corrupt("slab summary", "tail offset", `below ${size}`, entry.tailOffset);
      return;
    }
    const bytes = new Uint8Array(BLOCK_SIZE);
    await this.#context.io.readMeta(IO_META, this.journalOrigin + offset, bytes);
    const field = slabJournalFault(bytes, this.#context.config.nonce, offset, size);
    if (field !== null) {
      if (entry.isDirty) this.#tailDamage = this.#corrupt("journal tail block", field, "that of its place", "another");
      return;
    }
    const header = slabJournalHeader.decode(bytes);
    const tail = header.sequence + 1;
    this.journal.restore({
      head: entry.isDirty ? header.head : tail,
      tail,
      recoverySequence: header.recoveryPoint.sequence,
      recoveryEntry: header.recoveryPoint.entry,
    });
  }

  /**
   * Makes the counts exact: reads them if the summary says that they mean something, and replays the journal if it holds
   * changes that they do not; these are saved if `save` is set. Throws `VDO_IO` or `VDO_CORRUPT`.
   */
  async load(save: boolean): Promise<void> {
    this.isRebuilding = true;
    await this.#load(save);
    this.journal.forget();
    this.isRebuilding = false;
    this.isRecovered = true;
  }

  /** Recovers a slab of a running volume: new entries wait, the tail block goes to the storage, then as {@link load}. */
  async scrub(): Promise<void> {
    this.isRebuilding = true;
    this.journal.commitTail();
    while (!this.journal.isIdle) await this.#context.settle();
    if (this.#context.notifier.isReadOnly) throw this.#context.notifier.refusal();
    await this.load(true);
  }

  #corrupt(structure: string, field: string, expected: unknown, actual: unknown): VdoError {
    return new VdoError(
      "VDO_CORRUPT",
      `slab ${this.number}, ${structure}: ${field} is ${String(actual)}, expected ${String(expected)}; rebuild the volume (vdo forceRebuild)`,
      { structure: `slab ${this.number} ${structure}`, field, expected, actual },
    );
  }

  async #load(save: boolean): Promise<void> {
    if (this.#tailDamage !== null) throw this.#tailDamage;
    const { summary, config, io } = this.#context;
    const entry = summary.get(this.number);
    const points = {
      sequences: new Float64Array(this.counts.blocks.length * 8),
      entries: new Uint16Array(this.counts.blocks.length * 8),
    };
    if (entry.loadCounts) {
      const blocks = this.counts.blocks.length;
      const bytes = new Uint8Array(blocks * BLOCK_SIZE);
      await io.readMeta(IO_META, this.countsOrigin, bytes, blocks);
      for (let i = 0; i < blocks; i++) {
        this.counts.decode(i, bytes.subarray(i * BLOCK_SIZE, (i + 1) * BLOCK_SIZE), points);
      }
      this.counts.settle();
    }
    if (entry.isDirty) {
      await replaySlabJournal({ slab: this, io, config, points });
      if (!entry.loadCounts) this.dirtyForFirstUse();
      if (save) await this.#saveReplayed();
    }
  }

  async #saveReplayed(): Promise<void> {
    const { io, statistics } = this.#context;
    const bytes = new Uint8Array(BLOCK_SIZE);
    for (let block = this.counts.takeDirty(); block !== null; block = this.counts.takeDirty()) {
      this.counts.encode(block.index, bytes);
      statistics.refCounts.blocksWritten++;
      block.slabJournalLock = 0;
      await io.writeMeta(IO_META, this.countsOrigin + block.index, bytes, { preflush: true });
    }
    // Also when nothing changed: the original leaves the entry dirty then, and its hint wrong (vdo-engine §13.6 step 5).
    await this.markClean();
  }
}

/** The field in which `bytes` is not a slab journal block of this volume for place `offset`; null when it is one. */
function slabJournalFault(bytes: Uint8Array, nonce: bigint, offset: number, size: number): string | null {
  const { at } = slabJournalHeader;
  const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_SIZE);
  if (at.metadataType.get(view, 0) !== METADATA_TYPE.slabJournal) return "metadata type";
  if (at.nonce.get(view, 0) !== nonce) return "nonce";
  // Sequence numbers stay below 2^48; a larger one is damage that the number type may not hold.
  if (view.getUint16(at.sequence.offset + 6, true) !== 0) return "sequence number";
  return at.sequence.get(view, 0) % size === offset ? null : "sequence number";
}
