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
  readonly #base: BlockDevice;
  readonly #start: number;

  constructor(base: BlockDevice, { start, blockCount }: { start: number; blockCount: number }) {
    if (!Number.isSafeInteger(start) || start < 0 || start + blockCount > base.blockCount) {
      throw new VdoError(
        "VDO_OUT_OF_RANGE",
        `a slice of ${blockCount} blocks at ${start} does not fit in ${base.blockCount}`,
        {
          start,
          count: blockCount,
          blockCount: base.blockCount,
        },
      );
    }
    this.#base = base;
    this.#start = start;
    this.blockCount = blockCount;
    this.blockSize = base.blockSize;
    this.readOnly = base.readOnly ?? false;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    checkRange(this, start, target.length);
    return this.#base.read(this.#start + start, target);
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    checkRange(this, start, source.length);
    return this.#base.write(this.#start + start, source, options);
  }

  async writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    let length = 0;
    for (const source of sources) length += source.length;
    checkRange(this, start, length);
    return writeVector(this.#base, this.#start + start, sources, options);
  }

  flush(): Promise<void> {
    return this.#base.flush();
  }

  async discard(start: number, count: number, options?: WriteOptions): Promise<void> {
    checkRange(this, start, count * this.blockSize);
    await this.#base.discard?.(this.#start + start, count, options);
  }

  async extents(start: number, count: number): Promise<Extent[]> {
    checkRange(this, start, count * this.blockSize);
    if (this.#base.extents === undefined) return [{ count, hole: false, zero: false }];
    return this.#base.extents(this.#start + start, count);
  }

  async writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    checkRange(this, start, count * this.blockSize);
    return zeroBlocks(this.#base, this.#start + start, count, options);
  }

  async close(): Promise<void> {}
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
