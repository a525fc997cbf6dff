/**
 * A write from its block map slot to its new mapping (Linux 6.12, data vio write path).
 *
 * ```
 * slot ▸ (partial: read and merge) ▸ flush generation ▸ allocate ▸ ACKNOWLEDGE ▸ name ▸ hash lock ▸ data write or share
 *      ▸ old mapping ▸ recovery journal, committed ▸ increment, decrement ▸ block map page ▸ hash lock ▸ clean up
 * ```
 * Zero blocks and discards skip from the acknowledgement to the old mapping. The order is that of the guarantees: the data
 * is stable before the journal entry names it, the entry is stable before any count or page changes, and the page changes
 * last, because the journal block is held until then.
 */
import { VdoError } from "@vdo/base";
import type { BlockMap } from "../block-map/block-map.ts";
import type { BlockMapPage } from "../block-map/block-map-page.ts";
import { type BlockCompressor, type BlockHasher, equalBlocks, HASH_BATCH_MAX, isZeroBlock } from "../compute/index.ts";
import { BLOCK_SIZE } from "../constants.ts";
import { HashLocks } from "../dedupe/hash-locks.ts";
import type { IndexClient } from "../dedupe/index-client.ts";
import { isCompressedState, isValidMapping, JOURNAL_OPERATION_DATA, stateOfSlot } from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import { Packer } from "../packer/packer.ts";
import type { RecoveryJournal } from "../recovery-journal/recovery-journal.ts";
import { LOCK_WRITE, type PbnLock } from "../slab/pbn-locks.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import type { BlockReader } from "./block-reader.ts";
import type { BlockWriter } from "./block-writer.ts";
import { type DataVio, STAGE_COMPRESSING, STAGE_PACKING, VIO_DISCARD, type VioStep } from "./data-vio.ts";
import type { Flusher } from "./flusher.ts";
import { decodeBlock } from "./fragment-reader.ts";
import type { SpaceWaiters } from "./space-waiters.ts";

export interface WritePathOptions {
  statistics: VdoStatistics;
  notifier: ReadOnlyNotifier;
  journal: RecoveryJournal;
  depot: SlabDepot;
  blockMap: BlockMap;
  reader: BlockReader;
  writer: BlockWriter;
  hasher: BlockHasher;
  compressor: BlockCompressor;
  index: IndexClient;
  log: (level: "info" | "warning" | "error", text: string) => void;
  flusher: Flusher;
  space: SpaceWaiters;
  /** Requests wait for a vio, and the pool is so small that all of it may be parked in the packer. */
  isShortOfVios: () => boolean;
  /** Answers the user. */
  acknowledge: VioStep;
  /** The leaf of a probing discard is in memory now. */
  probed: VioStep;
  /** Cleans the vio up; it is done. */
  finish: VioStep;
}

export class WritePath {
  readonly packer: Packer;
  readonly hashLocks: HashLocks;
  compression = true;
  readonly #o: WritePathOptions;
  readonly #toHash: DataVio[] = [];
  #hashScheduled = false;
  #relieveScheduled = false;

  constructor(options: WritePathOptions) {
    this.#o = options;
    this.packer = new Packer(options.statistics, { writePlain: this.#writePlain, writePacked: this.#writePacked });
    this.hashLocks = new HashLocks({
      statistics: options.statistics,
      depot: options.depot,
      index: options.index,
      actions: {
        compressOrWrite: this.#compressOrWrite,
        writePlain: this.#writePlain,
        remap: this.#readOldMapping,
        verify: this.#verify,
        finish: options.finish,
        cancelCompression: this.cancelCompression,
        noSpace: this.#noSpace,
      },
    });
  }

  /** The vio's slot was found (or `vio.error` is set). */
  readonly begin: VioStep = (vio) => {
    if (vio.error !== null) return this.#o.finish(vio);
    if (vio.kind === VIO_DISCARD && vio.leafPbn === 0) return this.#o.finish(vio);
    if (!vio.isPartial) return this.#allocate(vio);
    vio.onPage = this.#partialMapping;
    this.#o.blockMap.leaves.get(vio, vio.leafPbn, false);
  };

  // --- partial blocks: read, merge

  readonly #partialMapping = (vio: DataVio, page: BlockMapPage | null): void => {
    if (page === null) return this.#o.finish(vio);
    const pbn = page.mappedPbn(vio.leafSlot);
    vio.oldState = page.mappedState(vio.leafSlot);
    if (pbn === 0) {
      vio.data.fill(0);
      return this.#merge(vio);
    }
    vio.ioPbn = pbn;
    vio.ioBytes = vio.scratch;
    vio.onRead = this.#partialRead;
    this.#o.reader.add(vio);
  };

  readonly #partialRead = (vio: DataVio, bytes: Buffer | null, at: number): void => {
    try {
      if (bytes === null) throw vio.ioError;
      decodeBlock(this.#o.compressor, bytes, at, vio.ioPbn, vio.oldState, vio.data);
    } catch (error) {
      vio.error = asError(error, "read", vio.ioPbn);
      return this.#o.finish(vio);
    }
    this.#merge(vio);
  };

  #merge(vio: DataVio): void {
    const { user } = vio;
    const source = user?.buffer ?? null;
    if (source === null) vio.data.fill(0, vio.blockOffset, vio.blockOffset + vio.blockLength);
    else source.copy(vio.data, vio.blockOffset, vio.userOffset, vio.userOffset + vio.blockLength);
    vio.isZero = isZeroBlock(vio.data);
    this.#allocate(vio);
  }

  // --- allocation and acknowledgement

  #allocate(vio: DataVio): void {
    const { flusher, acknowledge } = this.#o;
    flusher.join(vio);
    const unmaps = vio.kind === VIO_DISCARD && !vio.isPartial;
    if (unmaps || vio.isZero) {
      vio.newPbn = 0;
      vio.newState = unmaps ? 0 : 1;
      // The original acknowledges a zero write here even if it is FUA; here FUA waits for the journal.
      if (!vio.fua) acknowledge(vio);
      return this.#readOldMapping(vio);
    }
    this.#takeBlock(vio);
  }

  #takeBlock(vio: DataVio): void {
    const { depot, acknowledge } = this.#o;
    const lock = depot.allocate(LOCK_WRITE);
    if (lock !== null) {
      vio.allocationLock = lock;
      vio.wasAllocated = true;
      vio.newPbn = lock.pbn;
      vio.newState = 1;
      if (!vio.fua) acknowledge(vio);
    } else if (depot.scrubber.left > 0) return depot.scrubber.wait(vio, this.#allocateAgain);
    else if (this.#o.space.wait(vio, this.#allocateAgain)) return;
    this.#toHash.push(vio);
    if (this.#hashScheduled) return;
    this.#hashScheduled = true;
    queueMicrotask(this.#hashBatch);
  }

  /** There may be a free block now (or the volume became read-only). */
  readonly #allocateAgain: VioStep = (vio) => {
    if (vio.error !== null) return this.#o.finish(vio);
    this.#takeBlock(vio);
  };

  readonly #hashBatch = (): void => {
    this.#hashScheduled = false;
    const { hasher } = this.#o;
    const vios = this.#toHash.splice(0);
    for (let first = 0; first < vios.length; first += HASH_BATCH_MAX) {
      const count = Math.min(HASH_BATCH_MAX, vios.length - first);
      for (let i = 0; i < count; i++) hasher.slot(i).set((vios[first + i] as DataVio).data);
      hasher.run(count);
      for (let i = 0; i < count; i++) hasher.copyName(i, (vios[first + i] as DataVio).name, 0);
      for (let i = 0; i < count; i++) this.hashLocks.enter(vios[first + i] as DataVio);
    }
  };

  readonly #noSpace = (): VdoError =>
    new VdoError("VDO_NO_SPACE", "the volume is full: discard what is not needed, or grow it", { blocksFree: 0 });

  // --- verification of advice

  readonly #verify: VioStep = (vio) => {
    vio.ioBytes = vio.scratch;
    vio.onRead = this.#verifyRead;
    this.#o.reader.add(vio);
  };

  readonly #verifyRead = (vio: DataVio, bytes: Buffer | null, at: number): void => {
    this.hashLocks.verified(vio, bytes !== null && this.#isEqual(vio, bytes, at));
  };

  #isEqual(vio: DataVio, bytes: Buffer, at: number): boolean {
    const state = vio.hashLock?.duplicateState ?? 0;
    if (!isCompressedState(state)) return bytes.compare(vio.data, 0, BLOCK_SIZE, at, at + BLOCK_SIZE) === 0;
    try {
      decodeBlock(this.#o.compressor, bytes, at, vio.ioPbn, state, vio.scratch);
    } catch {
      // An undecodable candidate is simply not the same (Linux 6.12: counted as stale advice).
      return false;
    }
    return equalBlocks(vio.scratch, vio.data);
  }

  // --- compression

  readonly #compressOrWrite: VioStep = (vio) => {
    if (!this.compression || vio.fua || vio.mayNotCompress) return this.#writePlain(vio);
    vio.stage = STAGE_COMPRESSING;
    const size = this.#o.compressor.compress(vio.data, vio.scratch, 0);
    if (size === 0) return this.#writePlain(vio);
    vio.compressedSize = size;
    this.packer.add(vio);
    if (!this.#relieveScheduled && this.#o.isShortOfVios()) {
      this.#relieveScheduled = true;
      queueMicrotask(this.#relieve);
    }
  };

  /** Nobody else would write out what is parked: whoever could wait for it has no vio. */
  readonly #relieve = (): void => {
    this.#relieveScheduled = false;
    if (this.#o.isShortOfVios()) this.packer.flush(this.#o.flusher.generation);
  };

  /** Somebody waits for `vio`: it is not to be parked in the packer. */
  readonly cancelCompression: VioStep = (vio) => {
    if (vio.mayNotCompress) return;
    vio.mayNotCompress = true;
    if (vio.stage === STAGE_PACKING) this.packer.remove(vio);
  };

  // --- data

  readonly #writePlain: VioStep = (vio) => {
    const lock = vio.allocationLock;
    if (lock === null) {
      vio.error ??= this.#noSpace();
      return this.#fail(vio);
    }
    vio.ioPbn = lock.pbn;
    vio.ioBytes = vio.data;
    vio.onWritten = this.#written;
    this.#o.writer.add(vio);
  };

  readonly #written: VioStep = (vio) => {
    if (vio.ioError !== null) {
      vio.error = asError(vio.ioError, "write", vio.ioPbn);
      return this.#fail(vio);
    }
    const lock = vio.allocationLock as PbnLock;
    vio.newPbn = lock.pbn;
    vio.newState = 1;
    vio.downgrade = true;
    vio.referenceLock = lock;
    this.#readOldMapping(vio);
  };

  readonly #writePacked: VioStep = (writer) => {
    const lock = writer.allocationLock as PbnLock;
    writer.ioPbn = lock.pbn;
    writer.onWritten = this.#packedWritten;
    this.#o.writer.add(writer);
  };

  readonly #packedWritten: VioStep = (writer) => {
    const vios = writer.packed as DataVio[];
    const failed = writer.ioError !== null;
    writer.packed = null;
    this.packer.recycle(writer.ioBytes);
    if (failed) {
      // Not an error yet: each fragment is written by itself, the writer last.
      for (let i = 1; i < vios.length; i++) this.#writePlain(vios[i] as DataVio);
      return this.#writePlain(writer);
    }
    const lock = writer.allocationLock as PbnLock;
    lock.downgrade(true);
    for (let slot = 0; slot < vios.length; slot++) this.#shareCompressed(vios[slot] as DataVio, lock, slot);
    for (let slot = 1; slot < vios.length; slot++) this.#readOldMapping(vios[slot] as DataVio);
    this.#readOldMapping(writer);
  };

  #shareCompressed(vio: DataVio, lock: PbnLock, slot: number): void {
    vio.newPbn = lock.pbn;
    vio.newState = stateOfSlot(slot);
    vio.referenceLock = lock;
    lock.claim();
    if (vio.hashLock !== null) {
      lock.holders++;
      vio.hashLock.duplicateLock = lock;
    }
  }

  // --- metadata

  readonly #readOldMapping: VioStep = (vio) => {
    vio.onPage = this.#oldMapping;
    this.#o.blockMap.leaves.get(vio, vio.leafPbn, false);
  };

  readonly #oldMapping = (vio: DataVio, page: BlockMapPage | null): void => {
    if (page === null) return this.#fail(vio);
    if (vio.isProbe) this.#o.probed(vio);
    let pbn = page.mappedPbn(vio.leafSlot);
    let state = page.mappedState(vio.leafSlot);
    if (!isValidMapping(pbn, state) || (pbn !== 0 && !this.#o.depot.isDataBlock(pbn))) {
      this.#o.log(
        "error",
        `logical block ${vio.lbn} was mapped to block ${pbn} in state ${state}, which cannot be: treated as unmapped`,
      );
      pbn = 0;
      state = 0;
    }
    if (state === 0 && vio.kind === VIO_DISCARD && !vio.isPartial && vio.user?.skipsUnmapped === true) {
      return this.#o.finish(vio);
    }
    vio.operation = JOURNAL_OPERATION_DATA;
    vio.entryPbn = vio.leafPbn;
    vio.entrySlot = vio.leafSlot;
    vio.entryOldPbn = pbn;
    vio.entryOldState = state;
    vio.entryNewPbn = vio.newPbn;
    vio.entryNewState = vio.newState;
    vio.onCommitted = this.#committed;
    if (pbn !== 0) this.#o.space.begin(vio);
    this.#o.journal.add(vio);
  };

  readonly #committed: VioStep = (vio) => {
    if (vio.error !== null) return this.#fail(vio);
    const { depot } = this.#o;
    if (vio.downgrade) {
      vio.allocationLock?.downgrade(false);
      vio.downgrade = false;
    }
    const increments = vio.entryNewPbn !== 0;
    const decrements = vio.entryOldPbn !== 0;
    vio.onReferenced = this.#referenced;
    vio.referencesPending = (increments ? 1 : 0) + (decrements ? 1 : 0);
    if (vio.referencesPending === 0) return this.#referenced(vio);
    if (increments) {
      const { increment } = vio;
      increment.pbn = vio.entryNewPbn;
      increment.isIncrement = true;
      increment.isBlockMap = false;
      increment.lock = vio.referenceLock;
      depot.update(increment);
    }
    if (decrements) {
      const { decrement } = vio;
      decrement.pbn = vio.entryOldPbn;
      decrement.isIncrement = false;
      decrement.isBlockMap = false;
      decrement.lock = null;
      depot.update(decrement);
    }
  };

  readonly #referenced: VioStep = (vio) => {
    this.#o.space.end(vio);
    if (vio.error !== null) return this.#fail(vio);
    vio.onPage = this.#updatePage;
    this.#o.blockMap.leaves.get(vio, vio.leafPbn, true);
  };

  readonly #updatePage = (vio: DataVio, page: BlockMapPage | null): void => {
    if (page === null) return this.#fail(vio);
    page.map(vio.leafSlot, vio.newPbn, vio.newState);
    this.#o.blockMap.store.markDirty(page, vio.journalSequence);
    this.#o.journal.releaseEntry(vio.journalSequence);
    if (vio.hashLock !== null) this.hashLocks.mapped(vio);
    else this.#o.finish(vio);
  };

  #fail(vio: DataVio): void {
    this.#o.space.end(vio);
    if (vio.hashLock !== null) this.hashLocks.fail(vio);
    else this.#o.finish(vio);
  }
}

/** Whatever was thrown, as an error of ours. */
export function asError(failure: unknown, operation: "read" | "write", block: number): VdoError {
  if (failure instanceof VdoError) return failure;
  return new VdoError(
    "VDO_IO",
    `${operation} of block ${block} failed: ${String(failure)}`,
    { operation, block },
    failure,
  );
}
