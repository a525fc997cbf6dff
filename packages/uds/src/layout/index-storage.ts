/**
 * The index region as the index knows it: blocks of 4096 bytes, numbered as in the structures on it.
 *
 * On a VDO device the region's first block has number 1 (its distance from the start of the device); a device that holds
 * nothing but an index usually numbers from 0.
 */

import { VdoError } from "@vdo/base";
import { type BlockDevice, zeroBlocks } from "@vdo/block-device";
import { BLOCK_BYTES, STREAM_BYTES } from "../constants.ts";
import { nextTurn } from "../turn.ts";
import type { Region } from "./region-table.ts";

export class IndexStorage {
  readonly device: BlockDevice;
  readonly firstBlock: number;
  readonly #scale: number;

  constructor(device: BlockDevice, firstBlock: number) {
    this.device = device;
    this.firstBlock = firstBlock;
    this.#scale = BLOCK_BYTES / device.blockSize;
    if (!Number.isInteger(this.#scale)) {
      throw new VdoError(
        "VDO_BAD_ARGUMENT",
        `an index needs a device with blocks of 512 to 4096 bytes, not ${device.blockSize}`,
        {
          argument: "device.blockSize",
          value: device.blockSize,
        },
      );
    }
  }

  /** Blocks of 4096 bytes that the device has. */
  get blockCount(): number {
    return Math.floor(this.device.blockCount / this.#scale);
  }

  read(block: number, target: Uint8Array): Promise<void> {
    return this.device.read((block - this.firstBlock) * this.#scale, target);
  }

  write(block: number, source: Uint8Array): Promise<void> {
    return this.device.write((block - this.firstBlock) * this.#scale, source);
  }

  zero(block: number, count: number): Promise<void> {
    return zeroBlocks(this.device, (block - this.firstBlock) * this.#scale, count * this.#scale);
  }

  flush(): Promise<void> {
    return this.device.flush();
  }

  /** Reads a whole region. */
  async readRegion(region: Region): Promise<Uint8Array> {
    const bytes = new Uint8Array(region.blockCount * BLOCK_BYTES);
    for (let at = 0; at < bytes.length; at += STREAM_BYTES) {
      await this.read(
        region.startBlock + at / BLOCK_BYTES,
        bytes.subarray(at, Math.min(at + STREAM_BYTES, bytes.length)),
      );
    }
    return bytes;
  }
}

/** Writes a region from its start through one buffer. */
export class RegionWriter {
  /** Where the next bytes go: after {@link reserve}, write to `bytes` from `at` and advance `at`. */
  at = 0;
  readonly bytes = new Uint8Array(STREAM_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  readonly #storage: IndexStorage;
  readonly #region: Region;
  #block: number;

  constructor(storage: IndexStorage, region: Region) {
    this.#storage = storage;
    this.#region = region;
    this.#block = region.startBlock;
  }

  /** True when `count` more bytes fit in the buffer; else call {@link drain} first. */
  hasRoom(count: number): boolean {
    return this.at + count <= this.bytes.length;
  }

  /** Writes out the whole blocks in the buffer. */
  async drain(): Promise<void> {
    const whole = this.at - (this.at % BLOCK_BYTES);
    if (whole > 0) await this.#write(whole);
    this.bytes.copyWithin(0, whole, this.at);
    this.at -= whole;
    await nextTurn();
  }

  async #write(length: number): Promise<void> {
    const blocks = length / BLOCK_BYTES;
    const end = this.#region.startBlock + this.#region.blockCount;
    if (this.#block + blocks > end) {
      throw new VdoError("VDO_INVARIANT", "bug: it does not hold that a saved part fits in its region", {});
    }
    await this.#storage.write(this.#block, this.bytes.subarray(0, length));
    this.#block += blocks;
  }

  /** Copies bytes of any length to the region. */
  async put(source: Uint8Array): Promise<void> {
    for (let done = 0; done < source.length; ) {
      if (!this.hasRoom(1)) await this.drain();
      const part = Math.min(source.length - done, this.bytes.length - this.at);
      this.bytes.set(source.subarray(done, done + part), this.at);
      this.at += part;
      done += part;
    }
  }

  /** Writes the rest, padded with zeros to a whole block. */
  async finish(): Promise<void> {
    await this.drain();
    if (this.at === 0) return;
    this.bytes.fill(0, this.at, BLOCK_BYTES);
    await this.#write(BLOCK_BYTES);
    this.at = 0;
  }
}

/** Reads a region from its start through one buffer. */
export class RegionReader {
  /** First byte not yet taken. */
  at = 0;
  /** Bytes in the buffer. */
  length = 0;
  /** The buffer; 16 more bytes can be read behind `length`. */
  readonly bytes = new Uint8Array(STREAM_BYTES + 16);
  readonly view = new DataView(this.bytes.buffer);
  readonly #storage: IndexStorage;
  #block: number;
  readonly #end: number;

  constructor(storage: IndexStorage, region: Region) {
    this.#storage = storage;
    this.#block = region.startBlock;
    this.#end = region.startBlock + region.blockCount;
  }

  /** True when `count` bytes from `at` are in the buffer; else call {@link fill} first. */
  has(count: number): boolean {
    return this.at + count <= this.length;
  }

  /** Reads on. False when `count` bytes (at most 64 KiB) are not left in the region. */
  async fill(count: number): Promise<boolean> {
    this.bytes.copyWithin(0, this.at, this.length);
    this.length -= this.at;
    this.at = 0;
    const room = STREAM_BYTES - this.length;
    const blocks = Math.min(Math.floor(room / BLOCK_BYTES), this.#end - this.#block);
    if (blocks > 0) {
      await this.#storage.read(this.#block, this.bytes.subarray(this.length, this.length + blocks * BLOCK_BYTES));
      this.#block += blocks;
      this.length += blocks * BLOCK_BYTES;
      await nextTurn();
    }
    return this.has(count);
  }
}
