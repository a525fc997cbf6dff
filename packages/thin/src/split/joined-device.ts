/** Ranges of one device, one behind the other, as a device that can become longer. Closing it leaves the other open. */
import { invariant } from "@vdo/base";
import {
  type BlockDevice,
  checkRange,
  type Extent,
  SliceDevice,
  type WriteOptions,
  writeVector,
  type ZeroOptions,
} from "@vdo/block-device";

/** A part of a request that lies in one slice. */
interface Part {
  slice: SliceDevice;
  start: number;
  /** Blocks from the start of the request. */
  at: number;
  count: number;
}

export class JoinedDevice implements BlockDevice {
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly discard?: (start: number, count: number, options?: WriteOptions) => Promise<void>;
  readonly writeZeroes?: (start: number, count: number, options?: ZeroOptions) => Promise<void>;
  readonly extents?: (start: number, count: number) => Promise<Extent[]>;
  readonly #base: BlockDevice;
  #slices: { from: number; slice: SliceDevice }[] = [];
  /** Slices that were replaced; requests may be under way on them. */
  readonly #former: SliceDevice[] = [];
  #blockCount = 0;

  /** `ranges` in blocks of `base`. Throws `VDO_OUT_OF_RANGE`. */
  constructor(base: BlockDevice, ranges: readonly { start: number; blockCount: number }[]) {
    this.#base = base;
    this.blockSize = base.blockSize;
    this.readOnly = base.readOnly ?? false;
    if (base.discard !== undefined) {
      this.discard = (start, count, options) =>
        this.#each(start, count, (part) => part.slice.discard?.(part.start, part.count, options));
    }
    if (base.writeZeroes !== undefined) {
      this.writeZeroes = (start, count, options) =>
        this.#each(start, count, (part) => part.slice.writeZeroes?.(part.start, part.count, options));
    }
    if (base.extents !== undefined) this.extents = (start, count) => this.#extents(start, count);
    this.setRanges(ranges);
  }

  get blockCount(): number {
    return this.#blockCount;
  }

  /** Takes other ranges, which begin as the present ones do: requests in flight go on. */
  setRanges(ranges: readonly { start: number; blockCount: number }[]): void {
    const slices: { from: number; slice: SliceDevice }[] = [];
    let from = 0;
    for (const range of ranges) {
      slices.push({ from, slice: new SliceDevice(this.#base, range) });
      from += range.blockCount;
    }
    invariant(from >= this.#blockCount, "a joined device does not become shorter");
    for (const { slice } of this.#slices) this.#former.push(slice);
    this.#slices = slices;
    this.#blockCount = from;
  }

  #parts(start: number, count: number): Part[] {
    checkRange(this, start, count * this.blockSize);
    const parts: Part[] = [];
    for (let i = this.#slices.length - 1; i >= 0; i--) {
      const { from, slice } = this.#slices[i] as { from: number; slice: SliceDevice };
      const begin = Math.max(start, from);
      const end = Math.min(start + count, from + slice.blockCount);
      if (begin < end || (count === 0 && start >= from)) {
        parts.unshift({ slice, start: begin - from, at: begin - start, count: Math.max(0, end - begin) });
        if (begin === start) break;
      }
    }
    return parts;
  }

  async #each(start: number, count: number, act: (part: Part) => Promise<void> | undefined): Promise<void> {
    const parts = this.#parts(start, count);
    const outcomes = await Promise.allSettled(parts.map(act));
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    checkRange(this, start, target.length);
    await this.#each(start, target.length / this.blockSize, (part) =>
      part.slice.read(part.start, this.#sub(target, part)),
    );
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    checkRange(this, start, source.length);
    await this.#each(start, source.length / this.blockSize, (part) =>
      part.slice.write(part.start, this.#sub(source, part), options),
    );
  }

  async writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    let length = 0;
    for (const source of sources) length += source.length;
    checkRange(this, start, length);
    const [first, ...others] = this.#parts(start, length / this.blockSize);
    if (first === undefined) return;
    if (others.length === 0) return writeVector(first.slice, first.start, sources, options);
    const whole = new Uint8Array(Buffer.concat(sources));
    await this.write(start, whole, options);
  }

  #sub(bytes: Uint8Array, { at, count }: Part): Uint8Array {
    return bytes.subarray(at * this.blockSize, (at + count) * this.blockSize);
  }

  async #extents(start: number, count: number): Promise<Extent[]> {
    const [first] = this.#parts(start, count);
    return (await first?.slice.extents?.(first.start, first.count)) ?? [];
  }

  flush(): Promise<void> {
    return this.#each(0, 0, ({ slice }) => slice.flush());
  }

  async close(): Promise<void> {
    for (const slice of [...this.#former, ...this.#slices.map((one) => one.slice)]) await slice.close();
  }
}
