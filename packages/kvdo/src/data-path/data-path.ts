/**
 * The way of user requests through the engine: admission, logical locks, the read and write paths, and cleaning up.
 *
 * Requests are cut into blocks; each block takes a data vio from the pool. When none is free, requests wait here in order.
 */
import { invariant, VdoError } from "@vdo/base";
import { isZeroBlock } from "../compute/index.ts";
import {
  BLOCK_MAP_ENTRIES_PER_PAGE,
  BLOCK_SIZE,
  COMPRESSED_BLOCK_SLOTS,
  DISCARD_PERMITS,
  PACKER_BINS,
} from "../constants.ts";
import type { BioCounters } from "../statistics/index.ts";
import { type DataVio, VIO_DISCARD, VIO_READ, VIO_WRITE, VioQueue, type VioStep } from "./data-vio.ts";
import { Flusher } from "./flusher.ts";
import { LogicalLocks } from "./logical-locks.ts";
import { copyOut, ReadPath } from "./read-path.ts";
import type { UserRequest } from "./user-request.ts";
import type { VioPool } from "./vio-pool.ts";
import { WritePath, type WritePathOptions } from "./write-path.ts";

/** Blocks started, or leaves passed over by a discard, before the event loop gets its turn. */
const STEPS_PER_TURN = 8192;
/** Vios that the packer can hold. */
const PARKED_MAX = PACKER_BINS * COMPRESSED_BLOCK_SLOTS;

export type DataPathOptions = Omit<
  WritePathOptions,
  "flusher" | "isShortOfVios" | "acknowledge" | "finish" | "probed"
> & {
  pool: VioPool;
  logicalBlocks: number;
  onNoSpace: () => void;
};

export class DataPath {
  readonly locks = new LogicalLocks();
  readonly flusher: Flusher;
  readonly write: WritePath;
  readonly #read: ReadPath;
  readonly #o: DataPathOptions;
  readonly #pool: VioPool;
  #logicalBlocks: number;
  readonly #waiting: UserRequest[] = [];
  readonly #waitingDiscards: UserRequest[] = [];
  #discardsInUse = 0;
  #fuaInUse = 0;
  #admitting = false;
  /** New holders of logical locks, to be run outside of the step that made them so. */
  readonly #ready = new VioQueue();
  #readyScheduled = false;
  #draining = false;
  #idleWaiters: (() => void)[] = [];

  constructor(options: DataPathOptions) {
    this.#o = options;
    this.#pool = options.pool;
    this.#logicalBlocks = options.logicalBlocks;
    this.flusher = new Flusher(options.journal.io, options.statistics, (generation) => {
      this.write.packer.flush(generation);
      options.journal.hurry();
    });
    this.write = new WritePath({
      ...options,
      flusher: this.flusher,
      isShortOfVios: () => this.#isShortOfVios,
      acknowledge: this.#acknowledge,
      probed: this.#probed,
      finish: this.#finish,
    });
    this.#read = new ReadPath({
      blockMap: options.blockMap,
      reader: options.reader,
      compressor: options.compressor,
      isDataBlock: (pbn) => options.depot.isDataBlock(pbn),
      finish: this.#finish,
    });
  }

  /** Somebody waits for journal entries to be committed. */
  get isUrgent(): boolean {
    return (
      this.flusher.isPending ||
      this.#o.space.isWaiting ||
      this.#draining ||
      this.#fuaInUse > 0 ||
      this.locks.waiting > 0 ||
      this.#waiting.length > 0 ||
      this.#waitingDiscards.length > 0
    );
  }

  /** A pool so small that all of it may be parked in the packer would wait for ever. */
  get #isShortOfVios(): boolean {
    return this.#pool.size <= PARKED_MAX && this.#waiting.length + this.#waitingDiscards.length > 0;
  }

  // --- admission

  /** Starts `user`; its promise is settled when every block of it is answered. */
  submit(user: UserRequest): void {
    const queue = user.kind === VIO_DISCARD ? this.#waitingDiscards : this.#waiting;
    queue.push(user);
    this.#admit();
  }

  #admit(): void {
    // Starting a vio may finish others, which comes back here: one loop does it all.
    if (this.#admitting) return;
    this.#admitting = true;
    let steps = 0;
    while (this.#admitNext(this.#waiting) || this.#admitNext(this.#waitingDiscards)) {
      if (++steps < STEPS_PER_TURN) continue;
      // A discard may pass over very many leaves: others get their turn.
      setImmediate(() => this.#admit());
      break;
    }
    this.#admitting = false;
    if (this.#waiting.length + this.#waitingDiscards.length === 0) return;
    if (this.#isShortOfVios) this.write.packer.flush(this.flusher.generation);
    this.#o.journal.hurry();
  }

  /** Starts the next block of the first request of `queue`; false when it has to wait. */
  #admitNext(queue: UserRequest[]): boolean {
    const user = queue[0];
    if (user === undefined) return false;
    if (user.kind === VIO_DISCARD) {
      if (user.isProbing || this.#discardsInUse >= DISCARD_PERMITS) return false;
      if (user.skipsUnmapped && this.#skipUnmapped(user)) {
        if (user.admitted === user.length) queue.shift();
        return true;
      }
    }
    const vio = this.#pool.take();
    if (vio === null) return false;
    const offset = user.offset + user.admitted;
    vio.user = user;
    vio.kind = user.kind;
    vio.fua = user.fua;
    vio.lbn = Math.floor(offset / BLOCK_SIZE);
    vio.userOffset = user.admitted;
    vio.blockOffset = offset - vio.lbn * BLOCK_SIZE;
    vio.blockLength = Math.min(BLOCK_SIZE - vio.blockOffset, user.length - user.admitted);
    vio.isPartial = vio.blockLength < BLOCK_SIZE;
    user.admitted += vio.blockLength;
    if (user.admitted === user.length) queue.shift();
    if (vio.kind === VIO_DISCARD) {
      this.#discardsInUse++;
      this.#considerProbe(user, vio);
    }
    this.#start(vio);
    return true;
  }

  /** Passes over blocks of a long discard that are known to be unmapped; true when it passed over any. */
  #skipUnmapped(user: UserRequest): boolean {
    const offset = user.offset + user.admitted;
    if (offset % BLOCK_SIZE !== 0) return false;
    const first = offset / BLOCK_SIZE;
    const leaf = Math.floor(first / BLOCK_MAP_ENTRIES_PER_PAGE);
    const limit = Math.min(
      (leaf + 1) * BLOCK_MAP_ENTRIES_PER_PAGE,
      Math.floor((user.offset + user.length) / BLOCK_SIZE),
    );
    const missing = this.#o.blockMap.missingLeaves(leaf);
    if (missing > 0) {
      // No write to these blocks was acknowledged: its pages would exist.
      const end = Math.floor((user.offset + user.length) / BLOCK_SIZE);
      const skipped = (Math.min((leaf + missing) * BLOCK_MAP_ENTRIES_PER_PAGE, end) - first) * BLOCK_SIZE;
      user.admitted += skipped;
      user.answer(skipped, null);
      return skipped > 0;
    }
    const pbn = this.#o.blockMap.knownLeaf(leaf);
    const page = pbn === 0 ? null : this.#o.blockMap.leaves.peek(pbn);
    if (page === null) return false;
    let lbn = first;
    while (lbn < limit && !this.locks.isChanging(lbn)) {
      if (page.mappedState(lbn - leaf * BLOCK_MAP_ENTRIES_PER_PAGE) !== 0) break;
      lbn++;
    }
    const bytes = (lbn - first) * BLOCK_SIZE;
    if (bytes === 0) return false;
    user.admitted += bytes;
    user.answer(bytes, null);
    return true;
  }

  /** The first block of a long discard in a leaf that is not in memory goes ahead alone, to learn whether there is a leaf. */
  #considerProbe(user: UserRequest, vio: DataVio): void {
    if (!user.skipsUnmapped || vio.isPartial) return;
    const leaf = Math.floor(vio.lbn / BLOCK_MAP_ENTRIES_PER_PAGE);
    const pbn = this.#o.blockMap.knownLeaf(leaf);
    if (pbn !== 0 && this.#o.blockMap.leaves.peek(pbn) !== null) return;
    user.isProbing = true;
    vio.isProbe = true;
  }

  #start(vio: DataVio): void {
    const { statistics } = this.#o;
    if (vio.kind !== VIO_DISCARD) {
      count(statistics.biosIn, vio);
      if (vio.isPartial) count(statistics.biosInPartial, vio);
    }
    if (vio.fua) this.#fuaInUse++;
    if (vio.lbn >= this.#logicalBlocks) {
      vio.error = new VdoError(
        "VDO_OUT_OF_RANGE",
        `logical block ${vio.lbn} is outside the volume of ${this.#logicalBlocks}`,
        {
          start: vio.lbn,
          count: 1,
          blockCount: this.#logicalBlocks,
        },
      );
      return this.#release(vio);
    }
    if (vio.kind === VIO_WRITE && !vio.isPartial) {
      const source = vio.user?.buffer ?? null;
      if (source === null) vio.isZero = true;
      else {
        source.copy(vio.data, 0, vio.userOffset, vio.userOffset + BLOCK_SIZE);
        vio.isZero = isZeroBlock(vio.data);
      }
    }
    this.#lock(vio);
  }

  // --- logical locks

  #lock(vio: DataVio): void {
    const holder = this.locks.take(vio);
    if (holder === undefined) return this.#begin(vio);
    if (vio.kind === VIO_READ && holder.kind !== VIO_READ && holder.wasAllocated) {
      // Its data is sure to be stored: answered from memory.
      copyOut(vio, holder.data, 0);
      return this.#release(vio);
    }
    this.locks.wait(vio, holder);
    if (holder.kind !== VIO_READ) this.write.cancelCompression(holder);
    this.#o.journal.hurry();
  }

  readonly #begin: VioStep = (vio) => {
    if (vio.kind === VIO_READ) vio.onSlot = this.#read.begin;
    else {
      if (this.#o.notifier.isReadOnly) {
        vio.error = this.#o.notifier.refusal();
        return this.#finish(vio);
      }
      vio.onSlot = this.write.begin;
    }
    this.#o.blockMap.findSlot(vio);
  };

  /** A long discard may go on: whether the leaf exists is known, and if it does it is in memory. */
  readonly #probed: VioStep = (vio) => {
    vio.isProbe = false;
    if (vio.user === null) return;
    vio.user.isProbing = false;
    queueMicrotask(() => this.#admit());
  };

  // --- the end of a vio

  readonly #acknowledge: VioStep = (vio) => {
    if (vio.acknowledged) return;
    vio.acknowledged = true;
    const { statistics } = this.#o;
    if (vio.kind !== VIO_DISCARD) {
      count(statistics.biosAcknowledged, vio);
      if (vio.isPartial) count(statistics.biosAcknowledgedPartial, vio);
    }
    vio.user?.answer(vio.blockLength, vio.error);
  };

  /** Cleans up: hash lock, allocation, logical lock, generation; then the answer, and the vio is free. */
  readonly #finish: VioStep = (vio) => {
    if (vio.error !== null) this.#countError(vio);
    this.write.hashLocks.release(vio);
    if (vio.allocationLock !== null) {
      const lock = vio.allocationLock;
      vio.allocationLock = null;
      this.#o.depot.releaseLock(lock);
    }
    const next = this.locks.release(vio);
    if (next !== null) {
      if (next.lockWaiters.head !== null && next.kind !== VIO_READ) this.write.cancelCompression(next);
      this.#ready.push(next);
      this.#scheduleReady();
    }
    this.flusher.leave(vio);
    this.#release(vio);
  };

  #countError(vio: DataVio): void {
    const error = vio.error as VdoError;
    const { errors } = this.#o.statistics;
    if (error.code === "VDO_NO_SPACE") {
      errors.noSpaceErrorCount++;
      // One with a cause is the storage's: the file system under a sparse file is full, not the volume.
      if (error.cause === undefined) this.#o.onNoSpace();
    } else if (error.code === "VDO_READ_ONLY") errors.readOnlyErrorCount++;
    // What was acknowledged may not be lost silently: the volume stops changing.
    if (vio.acknowledged && vio.kind !== VIO_READ) this.#o.notifier.enter(error);
  }

  #release(vio: DataVio): void {
    this.#acknowledge(vio);
    const { user } = vio;
    if (vio.kind === VIO_DISCARD) {
      this.#discardsInUse--;
      if (vio.isProbe && user !== null) {
        this.#probed(vio);
      }
    }
    if (vio.fua) this.#fuaInUse--;
    invariant(vio.lockWaiters.head === null, "nobody waits for a vio that is done");
    this.#pool.give(vio);
    if (this.#waiting.length + this.#waitingDiscards.length > 0) this.#admit();
    if (this.#pool.inUse === 0) this.#wakeIdle();
  }

  #scheduleReady(): void {
    if (this.#readyScheduled) return;
    this.#readyScheduled = true;
    queueMicrotask(() => {
      this.#readyScheduled = false;
      for (let vio = this.#ready.shift(); vio !== null; vio = this.#ready.shift()) this.#begin(vio);
    });
  }

  // --- drain

  #wakeIdle(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  get isIdle(): boolean {
    return this.#pool.inUse === 0 && this.#waiting.length === 0 && this.#waitingDiscards.length === 0;
  }

  /** Resolves when no vio is in use. The packer is closed, so that nothing is parked. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.write.packer.setOpen(false);
    while (!this.isIdle) {
      this.#o.journal.hurry();
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
    await this.#o.index.drain();
    this.#draining = false;
  }

  /** The volume grew. */
  setLogicalBlocks(logicalBlocks: number): void {
    this.#logicalBlocks = logicalBlocks;
  }

  /** Goes on after a drain. */
  reopen(): void {
    this.write.packer.setOpen(true);
  }
}

function count(bios: BioCounters, vio: DataVio): void {
  if (vio.kind === VIO_READ) bios.read++;
  else bios.write++;
  if (vio.fua) bios.fua++;
}
