/**
 * A data vio: one 4 KiB block of user work on its way through the engine (Linux 6.12, `data_vio`).
 *
 * A fixed pool of 2048 exists; a request of n blocks needs n of them, and waits when none is free: this is the engine's
 * back-pressure. All data vios have one shape and are never created on the data path. Whatever a vio waits for, it waits
 * in exactly one intrusive {@link VioQueue}, and is resumed by a call of the function the waiting component was given.
 */
import type { VdoError } from "@vdo/base";
import type { BlockMapPage } from "../block-map/block-map-page.ts";
import { BLOCK_SIZE } from "../constants.ts";
import type { HashLock } from "../dedupe/hash-lock.ts";
import type { PackerBin } from "../packer/packer.ts";
import type { PbnLock } from "../slab/pbn-locks.ts";
import type { UserRequest } from "./user-request.ts";

/** What a vio does. */
export const VIO_READ = 0;
export const VIO_WRITE = 1;
export const VIO_DISCARD = 2;

/** Stages of compression (Linux 6.12, data vio compression stage). */
export const STAGE_PRE_COMPRESSOR = 0;
export const STAGE_COMPRESSING = 1;
export const STAGE_PACKING = 2;
export const STAGE_POST_PACKER = 3;

/** A step of the engine that a vio is handed to. Bound once per engine, never per vio. */
export type VioStep = (vio: DataVio) => void;

/** A step that needs a block map page; `page` is null when `vio.error` says why there is none. */
export type VioPageStep = (vio: DataVio, page: BlockMapPage | null) => void;

/**
 * A step that needs a block read from the storage: the 4096 bytes of `bytes` from `at` on, valid during the call only;
 * null when `vio.ioError` is set.
 */
export type VioReadStep = (vio: DataVio, bytes: Buffer | null, at: number) => void;

function nowhere(): void {}

export class DataVio {
  readonly number: number;
  /** The 4096 bytes written or read. */
  readonly data: Buffer;
  /** Compressed form of `data` while it is in the packer. */
  readonly scratch: Buffer;
  /** Record name, 16 bytes. */
  readonly name = new Uint8Array(16);

  /** Link of the queue this vio waits in, and of the pool's free list. */
  next: DataVio | null = null;

  // --- the user's request
  user: UserRequest | null = null;
  /** Offset of this block's part in the user's buffer, bytes. */
  userOffset = 0;
  /** First byte and number of bytes of the block that the user asked for; 0 and 4096 for a whole block. */
  blockOffset = 0;
  blockLength: number = BLOCK_SIZE;
  kind: number = VIO_READ;
  fua = false;
  isZero = false;
  isPartial = false;
  acknowledged = false;
  /** Goes ahead for a long discard: see `UserRequest.isProbing`. */
  isProbe = false;
  error: VdoError | null = null;

  // --- logical lock
  lbn = 0;
  readonly lockWaiters = new VioQueue();
  /** Flush generation joined, or -1. */
  generation = -1;

  // --- block map slot
  leafPbn = 0;
  leafSlot = 0;
  walkHeight = 0;
  walkPage: BlockMapPage | null = null;
  walkLock: PbnLock | null = null;

  // --- mappings
  oldPbn = 0;
  oldState = 0;
  newPbn = 0;
  newState = 0;
  /** Its old block loses a reference soon: see `SpaceWaiters`. */
  isFreeing = false;

  // --- allocation
  /** Had an allocation at some time: its data is sure to be stored, so readers may be answered from memory. */
  wasAllocated = false;
  allocationLock: PbnLock | null = null;
  /** The allocation is to be downgraded to a read lock before its reference is made. */
  downgrade = false;
  /** The lock under which this vio makes its reference: its own allocation's, or the hash lock's. */
  referenceLock: PbnLock | null = null;

  // --- deduplication
  hashLock: HashLock | null = null;
  hashPrevious: DataVio | null = null;
  hashNext: DataVio | null = null;
  /** The index knows a place where the content may be: `advicePbn`, `adviceState`. */
  isDuplicate = false;
  advicePbn = 0;
  adviceState = 0;
  onAdvised: VioStep = nowhere;

  // --- compression
  stage: number = STAGE_PRE_COMPRESSOR;
  mayNotCompress = false;
  compressedSize = 0;
  bin: PackerBin | null = null;
  /** For the writer of a compressed block: all vios whose fragments are in it, the writer first. */
  packed: DataVio[] | null = null;

  // --- recovery journal entry
  operation = 0;
  entryPbn = 0;
  entrySlot = 0;
  journalSequence = 0;
  journalIndex = 0;
  entryOldPbn = 0;
  entryOldState = 0;
  entryNewPbn = 0;
  entryNewState = 0;
  onCommitted: VioStep = nowhere;

  // --- reference updates in progress: 0 to 2
  referencesPending = 0;
  onReferenced: VioStep = nowhere;
  readonly increment: ReferenceUpdate;
  readonly decrement: ReferenceUpdate;

  // --- waits
  onSlot: VioStep = nowhere;
  onPage: VioPageStep = nowhere;
  pagePbn = 0;
  pageForWrite = false;
  onRead: VioReadStep = nowhere;
  ioPbn = 0;
  ioBytes: Buffer;
  ioError: unknown = null;
  onWritten: VioStep = nowhere;
  onReady: VioStep = nowhere;

  constructor(number: number, data: Buffer, scratch: Buffer) {
    this.number = number;
    this.data = data;
    this.scratch = scratch;
    this.ioBytes = data;
    this.increment = new ReferenceUpdate(this);
    this.decrement = new ReferenceUpdate(this);
  }

  /** Forgets everything about the last use. Buffers keep their bytes. */
  reset(): void {
    this.next = null;
    this.user = null;
    this.fua = false;
    this.isZero = false;
    this.isPartial = false;
    this.acknowledged = false;
    this.isProbe = false;
    this.error = null;
    this.generation = -1;
    this.leafPbn = 0;
    this.leafSlot = 0;
    this.oldPbn = 0;
    this.oldState = 0;
    this.newPbn = 0;
    this.newState = 0;
    this.isFreeing = false;
    this.wasAllocated = false;
    this.allocationLock = null;
    this.walkPage = null;
    this.walkLock = null;
    this.ioError = null;
    this.packed = null;
    this.downgrade = false;
    this.referenceLock = null;
    this.hashLock = null;
    this.hashPrevious = null;
    this.hashNext = null;
    this.isDuplicate = false;
    this.stage = STAGE_PRE_COMPRESSOR;
    this.mayNotCompress = false;
    this.compressedSize = 0;
    this.bin = null;
    this.referencesPending = 0;
  }
}

/** One change of a reference count, with the slab journal entry that records it. */
export class ReferenceUpdate {
  readonly vio: DataVio;
  next: ReferenceUpdate | null = null;
  pbn = 0;
  isIncrement = false;
  isBlockMap = false;
  /** The lock on the block, whose provisional reference an increment consumes. */
  lock: PbnLock | null = null;

  constructor(vio: DataVio) {
    this.vio = vio;
  }
}

/** First in, first out queue of data vios, linked through the vios themselves. */
export class VioQueue {
  head: DataVio | null = null;
  #tail: DataVio | null = null;
  length = 0;

  push(vio: DataVio): void {
    vio.next = null;
    if (this.#tail === null) this.head = vio;
    else this.#tail.next = vio;
    this.#tail = vio;
    this.length++;
  }

  pushFront(vio: DataVio): void {
    vio.next = this.head;
    this.head = vio;
    if (this.#tail === null) this.#tail = vio;
    this.length++;
  }

  shift(): DataVio | null {
    const vio = this.head;
    if (vio === null) return null;
    this.head = vio.next;
    if (this.head === null) this.#tail = null;
    vio.next = null;
    this.length--;
    return vio;
  }

  /** Moves all of `other` behind what is here. */
  append(other: VioQueue): void {
    if (other.head === null) return;
    if (this.#tail === null) this.head = other.head;
    else this.#tail.next = other.head;
    this.#tail = other.#tail;
    this.length += other.length;
    other.head = null;
    other.#tail = null;
    other.length = 0;
  }

  /** Takes out the first vio for which `test` holds; null when there is none. */
  removeFirst(test: (vio: DataVio) => boolean): DataVio | null {
    let previous: DataVio | null = null;
    for (let vio = this.head; vio !== null; vio = vio.next) {
      if (test(vio)) {
        if (previous === null) this.head = vio.next;
        else previous.next = vio.next;
        if (this.#tail === vio) this.#tail = previous;
        vio.next = null;
        this.length--;
        return vio;
      }
      previous = vio;
    }
    return null;
  }
}
