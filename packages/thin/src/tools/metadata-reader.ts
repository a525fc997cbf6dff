/** Reads blocks of a pool's metadata as they are, for the tools: no transaction, no repair, a bounded cache. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { METADATA_BLOCK_BYTES } from "../constants.ts";

/** Blocks read together by {@link MetadataReader.prefetch}. */
const PREFETCH_MAX = 64;
/** 32 MiB. */
const CACHE_BLOCKS = 8192;

/** What the tools read from. Content is not judged here. */
export class MetadataReader {
  /** Metadata blocks of the device. */
  readonly blockCount: number;
  readonly #device: BlockDevice;
  readonly #ratio: number;
  readonly #cache = new Map<number, Uint8Array>();

  constructor(device: BlockDevice) {
    this.#device = device;
    this.#ratio = METADATA_BLOCK_BYTES / device.blockSize;
    if (!Number.isInteger(this.#ratio)) {
      throw new VdoError(
        "VDO_BAD_ARGUMENT",
        `metadata needs a device with blocks of 512 to ${METADATA_BLOCK_BYTES} bytes, not ${device.blockSize}`,
        { argument: "device", value: device.blockSize },
      );
    }
    this.blockCount = Math.floor(device.blockCount / this.#ratio);
  }

  /** Content of block `block`; not to be changed. Throws `VDO_OUT_OF_RANGE` and what the device throws. */
  async read(block: number): Promise<Uint8Array> {
    const cached = this.#cache.get(block);
    if (cached !== undefined) return cached;
    const bytes = new Uint8Array(METADATA_BLOCK_BYTES);
    await this.#device.read(block * this.#ratio, bytes);
    if (this.#cache.size >= CACHE_BLOCKS) this.#cache.delete(this.#cache.keys().next().value as number);
    this.#cache.set(block, bytes);
    return bytes;
  }

  /** Forgets what was read of block `block`. */
  forget(block: number): void {
    this.#cache.delete(block);
  }

  /** Reads blocks ahead, {@link PREFETCH_MAX} at most; what cannot be read is left to {@link read}. */
  async prefetch(blocks: readonly number[]): Promise<void> {
    const wanted = blocks.filter((block) => block < this.blockCount && !this.#cache.has(block)).slice(0, PREFETCH_MAX);
    await Promise.allSettled(wanted.map((block) => this.read(block)));
  }
}

export { PREFETCH_MAX };
