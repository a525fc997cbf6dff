/**
 * An export: a block device under a name, shared by all connections that use it.
 *
 * Because the device, the locks and the flushes are shared, a read on any connection sees every answered write, and a
 * flush on any connection covers every answered write: what CAN_MULTI_CONN promises.
 */
import type { BlockDevice } from "@vdo/block-device";
import { TRANSMISSION_FLAG } from "../protocol/constants.ts";
import { RangeLocks } from "./range-locks.ts";

export interface ExportOptions {
  /** Name clients ask for; "" is the default export. At most 4096 bytes of UTF-8. */
  name: string;
  /** The device; it stays the caller's: the server never closes it. */
  device: BlockDevice;
  /** Text for people, shown by clients that list exports. */
  description?: string;
  /** Refuse changes, even if the device would take them. */
  readOnly?: boolean;
}

/** Something waiting for a flush. */
export interface FlushWaiter {
  readonly onDone: () => void;
  readonly onFail: (error: unknown) => void;
}

export class ServedExport {
  readonly name: string;
  readonly description: string;
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly locks = new RangeLocks();
  #flushing: FlushWaiter[] | undefined;
  #flushNext: FlushWaiter[] = [];
  #flushFailure: { error: unknown } | undefined;

  constructor(options: ExportOptions) {
    this.name = options.name;
    this.description = options.description ?? "";
    this.device = options.device;
    this.readOnly = (options.readOnly ?? false) || (options.device.readOnly ?? false);
    this.blockSize = options.device.blockSize;
  }

  /** Grows with the device; clients that are connected keep the size that they were told. */
  get sizeBytes(): number {
    return this.device.blockSize * this.device.blockCount;
  }

  /** Transmission flags as sent in the handshake. */
  flags(structured: boolean): number {
    const f = TRANSMISSION_FLAG;
    let flags = f.hasFlags | f.sendFlush | f.sendFua | f.canMultiConn | f.sendCache;
    flags |= this.readOnly ? f.readOnly : f.sendTrim | f.sendWriteZeroes | f.sendFastZero;
    return structured ? flags | f.sendDf : flags;
  }

  /**
   * Makes every write answered so far durable. Waiters that arrive while a flush runs share the next one.
   * After a failed flush all later ones fail too: the pages that could not be written may be gone from the cache, and a
   * success would be a lie. Opening the device anew is the way out.
   */
  flush(waiter: FlushWaiter): void {
    if (this.#flushing !== undefined) this.#flushNext.push(waiter);
    else this.#startFlush([waiter]);
  }

  /** The error of an earlier flush, if one failed. */
  get flushFailure(): { error: unknown } | undefined {
    return this.#flushFailure;
  }

  #startFlush(waiters: FlushWaiter[]): void {
    this.#flushing = waiters;
    if (this.#flushFailure !== undefined) {
      queueMicrotask(this.#flushEnded);
      return;
    }
    let flushed: Promise<void>;
    try {
      flushed = this.device.flush();
    } catch (error) {
      flushed = Promise.reject(error);
    }
    flushed.then(this.#flushEnded, this.#flushFailed);
  }

  readonly #flushFailed = (error: unknown): void => {
    this.#flushFailure = { error };
    this.#flushEnded();
  };

  readonly #flushEnded = (): void => {
    const waiters = this.#flushing as FlushWaiter[];
    this.#flushing = undefined;
    const next = this.#flushNext;
    this.#flushNext = [];
    if (next.length > 0) this.#startFlush(next);
    for (const waiter of waiters) {
      if (this.#flushFailure === undefined) waiter.onDone();
      else waiter.onFail(this.#flushFailure.error);
    }
  };
}
