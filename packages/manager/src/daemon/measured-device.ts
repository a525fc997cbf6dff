/** A device as its clients use it, with counts of their requests: how many, how much, and how long they waited. */
import type { BlockDevice, WriteOptions, ZeroOptions } from "@vdo/block-device";

/** Kinds of requests that are counted apart. Discards and writes of zeros count as `discard`. */
export const CLIENT_OPERATIONS = ["read", "write", "flush", "discard"] as const;
export type ClientOperation = (typeof CLIENT_OPERATIONS)[number];

/** Requests of one kind that were answered since the volume was started. */
export interface OperationCount {
  requests: number;
  bytes: number;
  /** Sum of the times from each request to its answer. */
  seconds: number;
}

export type ClientActivity = Record<ClientOperation, OperationCount>;

export function emptyActivity(): ClientActivity {
  const count = (): OperationCount => ({ requests: 0, bytes: 0, seconds: 0 });
  return { read: count(), write: count(), flush: count(), discard: count() };
}

type Optional<K extends "discard" | "writeZeroes" | "extents"> = NonNullable<BlockDevice[K]>;

/** Passes everything on to `device` and measures it with `now`, in milliseconds. Failed requests count too. */
export class MeasuredDevice implements BlockDevice {
  readonly #device: BlockDevice;
  readonly #now: () => number;
  /** Counts since the device was made; changes with each request. */
  readonly activity: ClientActivity = emptyActivity();
  readonly discard?: Optional<"discard">;
  readonly writeZeroes?: Optional<"writeZeroes">;
  readonly extents?: Optional<"extents">;

  constructor(device: BlockDevice, now: () => number) {
    this.#device = device;
    this.#now = now;
    const { discard, writeZeroes, extents } = device;
    if (discard !== undefined) {
      this.discard = (start, count, options?: WriteOptions) => {
        const begin = now();
        return this.#count("discard", count, begin, discard.call(device, start, count, options));
      };
    }
    if (writeZeroes !== undefined) {
      this.writeZeroes = (start, count, options?: ZeroOptions) => {
        const begin = now();
        return this.#count("discard", count, begin, writeZeroes.call(device, start, count, options));
      };
    }
    if (extents !== undefined) this.extents = (start, count) => extents.call(device, start, count);
  }

  get blockSize(): number {
    return this.#device.blockSize;
  }

  get blockCount(): number {
    return this.#device.blockCount;
  }

  get readOnly(): boolean {
    return this.#device.readOnly === true;
  }

  async #count(operation: ClientOperation, blocks: number, begin: number, answer: Promise<void>): Promise<void> {
    try {
      await answer;
    } finally {
      const count = this.activity[operation];
      count.requests++;
      count.bytes += blocks * this.#device.blockSize;
      count.seconds += (this.#now() - begin) / 1000;
    }
  }

  read(start: number, target: Uint8Array): Promise<void> {
    const begin = this.#now();
    return this.#count("read", target.length / this.#device.blockSize, begin, this.#device.read(start, target));
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    const begin = this.#now();
    const answer = this.#device.write(start, source, options);
    return this.#count("write", source.length / this.#device.blockSize, begin, answer);
  }

  flush(): Promise<void> {
    const begin = this.#now();
    return this.#count("flush", 0, begin, this.#device.flush());
  }

  /** The device stays its owner's to close. */
  async close(): Promise<void> {}
}
