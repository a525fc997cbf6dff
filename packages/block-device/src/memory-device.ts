/** A block device in memory. Storage is taken chunk by chunk as blocks are first written, so large devices are cheap. */
import { VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type Extent } from "./block-device.ts";

const CHUNK_BYTES = 1 << 20;

export class MemoryDevice implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly #chunks = new Map<number, Uint8Array>();
  #closed = false;

  constructor({ blockCount, blockSize = 4096 }: { blockCount: number; blockSize?: number }) {
    this.blockCount = blockCount;
    this.blockSize = blockSize;
  }

  /** A device holding a copy of `image`, whose length is a multiple of `blockSize`. */
  static from(image: Uint8Array, blockSize = 4096): MemoryDevice {
    const device = new MemoryDevice({ blockCount: image.length / blockSize, blockSize });
    checkRange(device, 0, image.length);
    device.#copyIn(0, image);
    return device;
  }

  #check(start: number, length: number): void {
    if (this.#closed) throw new VdoError("VDO_CLOSED", "the memory device was closed", { object: "memory device" });
    checkRange(this, start, length);
  }

  #copyIn(start: number, source: Uint8Array): void {
    let position = start * this.blockSize;
    let done = 0;
    while (done < source.length) {
      const number = Math.floor(position / CHUNK_BYTES);
      const within = position % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, source.length - done);
      let chunk = this.#chunks.get(number);
      if (chunk === undefined) {
        chunk = new Uint8Array(CHUNK_BYTES);
        this.#chunks.set(number, chunk);
      }
      chunk.set(source.subarray(done, done + length), within);
      position += length;
      done += length;
    }
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    this.#check(start, target.length);
    let position = start * this.blockSize;
    let done = 0;
    while (done < target.length) {
      const within = position % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, target.length - done);
      const chunk = this.#chunks.get(Math.floor(position / CHUNK_BYTES));
      if (chunk === undefined) target.fill(0, done, done + length);
      else target.set(chunk.subarray(within, within + length), done);
      position += length;
      done += length;
    }
  }

  async write(start: number, source: Uint8Array): Promise<void> {
    this.#check(start, source.length);
    this.#copyIn(start, source);
  }

  async flush(): Promise<void> {
    this.#check(0, 0);
  }

  async writeZeroes(start: number, count: number): Promise<void> {
    this.#check(start, count * this.blockSize);
    let position = start * this.blockSize;
    const end = position + count * this.blockSize;
    while (position < end) {
      const number = Math.floor(position / CHUNK_BYTES);
      const within = position % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, end - position);
      if (length === CHUNK_BYTES) this.#chunks.delete(number);
      else this.#chunks.get(number)?.fill(0, within, within + length);
      position += length;
    }
  }

  discard(start: number, count: number): Promise<void> {
    return this.writeZeroes(start, count);
  }

  async extents(start: number, count: number): Promise<Extent[]> {
    this.#check(start, count * this.blockSize);
    const extents: Extent[] = [];
    const perChunk = CHUNK_BYTES / this.blockSize;
    for (let block = start; block < start + count; ) {
      const chunk = Math.floor(block / perChunk);
      const next = Math.min((chunk + 1) * perChunk, start + count);
      const hole = !this.#chunks.has(chunk);
      const last = extents.at(-1);
      if (last !== undefined && last.hole === hole) last.count += next - block;
      else extents.push({ count: next - block, hole, zero: hole });
      block = next;
    }
    return extents;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}
