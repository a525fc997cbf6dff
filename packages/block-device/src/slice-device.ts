/** A run of blocks of another device, seen as a device of its own. Closing it leaves the other device open. */
import { VdoError } from "@vdo/base";
import {
  type BlockDevice,
  checkRange,
  type Extent,
  type WriteOptions,
  writeVector,
  type ZeroOptions,
} from "./block-device.ts";

export class SliceDevice implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly readOnly: boolean;
  readonly discard?: (start: number, count: number, options?: WriteOptions) => Promise<void>;
  readonly writeZeroes?: (start: number, count: number, options?: ZeroOptions) => Promise<void>;
  readonly extents?: (start: number, count: number) => Promise<Extent[]>;
  readonly #base: BlockDevice;
  readonly #start: number;
  #inFlight = 0;
  #closed: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  /** Throws `VDO_OUT_OF_RANGE` when `blockCount` blocks from `start` do not lie inside `base`. */
  constructor(base: BlockDevice, { start, blockCount }: { start: number; blockCount: number }) {
    const isCount = Number.isSafeInteger(start) && Number.isSafeInteger(blockCount);
    if (!isCount || start < 0 || blockCount < 0 || start + blockCount > base.blockCount) {
      throw new VdoError(
        "VDO_OUT_OF_RANGE",
        `a slice of ${blockCount} blocks at ${start} does not fit in ${base.blockCount}`,
        { start, count: blockCount, blockCount: base.blockCount },
      );
    }
    this.#base = base;
    this.#start = start;
    this.blockCount = blockCount;
    this.blockSize = base.blockSize;
    this.readOnly = base.readOnly ?? false;
    // The slice can what the other device can, and no more: who asks for cheap zeroing gets a true answer.
    if (base.discard !== undefined) this.discard = (at, count, options) => this.#discard(at, count, options);
    if (base.writeZeroes !== undefined) this.writeZeroes = (at, count, options) => this.#zero(at, count, options);
    if (base.extents !== undefined) this.extents = (at, count) => this.#extents(at, count);
  }

  #enter(start: number, byteLength: number, changes: boolean): void {
    if (this.#closed !== undefined) throw new VdoError("VDO_CLOSED", "the slice was closed", { object: "slice" });
    if (changes && this.readOnly) throw new VdoError("VDO_READ_ONLY", "the slice is read-only", { object: "slice" });
    checkRange(this, start, byteLength);
    this.#inFlight++;
  }

  #leave(): void {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#onIdle?.();
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    this.#enter(start, target.length, false);
    try {
      await this.#base.read(this.#start + start, target);
    } finally {
      this.#leave();
    }
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    this.#enter(start, source.length, true);
    try {
      await this.#base.write(this.#start + start, source, options);
    } finally {
      this.#leave();
    }
  }

  async writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    let length = 0;
    for (const source of sources) length += source.length;
    this.#enter(start, length, true);
    try {
      await writeVector(this.#base, this.#start + start, sources, options);
    } finally {
      this.#leave();
    }
  }

  async flush(): Promise<void> {
    this.#enter(0, 0, false);
    try {
      await this.#base.flush();
    } finally {
      this.#leave();
    }
  }

  async #discard(start: number, count: number, options: WriteOptions | undefined): Promise<void> {
    this.#enter(start, count * this.blockSize, true);
    try {
      await this.#base.discard?.(this.#start + start, count, options);
    } finally {
      this.#leave();
    }
  }

  async #zero(start: number, count: number, options: ZeroOptions | undefined): Promise<void> {
    this.#enter(start, count * this.blockSize, true);
    try {
      await zeroBlocks(this.#base, this.#start + start, count, options);
    } finally {
      this.#leave();
    }
  }

  async #extents(start: number, count: number): Promise<Extent[]> {
    this.#enter(start, count * this.blockSize, false);
    try {
      return (await this.#base.extents?.(this.#start + start, count)) ?? [];
    } finally {
      this.#leave();
    }
  }

  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      if (this.#inFlight === 0) resolve();
      else this.#onIdle = resolve;
    });
    return this.#closed;
  }
}

const ZEROES = new Uint8Array(1 << 20);

/** Makes blocks read as zeros: by `writeZeroes` where the device has it, else by writing zeros, 1 MiB at a time. */
export async function zeroBlocks(
  device: BlockDevice,
  start: number,
  count: number,
  options?: ZeroOptions,
): Promise<void> {
  if (device.writeZeroes !== undefined) return device.writeZeroes(start, count, options);
  const step = ZEROES.length / device.blockSize;
  for (let done = 0; done < count; done += step) {
    const blocks = Math.min(step, count - done);
    await device.write(start + done, ZEROES.subarray(0, blocks * device.blockSize), options);
  }
}
