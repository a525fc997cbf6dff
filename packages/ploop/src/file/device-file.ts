/**
 * A growing file on a block device: block 0 holds the length, the content follows. For images on something that is no file
 * system; with the simulated disk, also the way to lose power while a file grows.
 */
import { getU64, setU64, VdoError, viewOf } from "@vdo/base";
import { type BlockDevice, zeroBlocks } from "@vdo/block-device";
import type { ImageFile } from "./image-file.ts";

export class DeviceFile implements ImageFile {
  readonly name: string;
  readonly readOnly: boolean;
  readonly #device: BlockDevice;
  #length: number;
  /** Length writes follow each other, so that the last one wins. */
  #lengthWrites: Promise<void> = Promise.resolve();

  private constructor(name: string, device: BlockDevice, readOnly: boolean, length: number) {
    this.name = name;
    this.#device = device;
    this.readOnly = readOnly;
    this.#length = length;
  }

  /** A device of zeros is an empty file. Reads and writes must be whole blocks of the device. */
  static async open(name: string, device: BlockDevice, { readOnly = false } = {}): Promise<DeviceFile> {
    const block = new Uint8Array(device.blockSize);
    await device.read(0, block);
    return new DeviceFile(name, device, readOnly, getU64(viewOf(block), 0, true));
  }

  get length(): number {
    return this.#length;
  }

  #block(offset: number): number {
    return 1 + offset / this.#device.blockSize;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    if (offset + target.length > this.#length) {
      const block = this.#block(offset);
      throw new VdoError("VDO_IO", `${this.name}: the file ends early`, { operation: "read", block });
    }
    await this.#device.read(this.#block(offset), target);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.#checkWritable();
    if (offset + source.length > this.#length) await this.setLength(offset + source.length);
    await this.#device.write(this.#block(offset), source);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    const end = Math.min(offset + length, this.#length);
    if (end > offset) await zeroBlocks(this.#device, this.#block(offset), (end - offset) / this.#device.blockSize);
  }

  async setLength(length: number): Promise<void> {
    this.#checkWritable();
    if (length > (this.#device.blockCount - 1) * this.#device.blockSize) {
      throw new VdoError("VDO_NO_SPACE", `${this.name}: no space for ${length} bytes`, { blocksFree: 0 });
    }
    const { blockSize } = this.#device;
    if (length > this.#length) {
      // Beyond the end may lie what a crash took out of the file, but not off the device.
      await zeroBlocks(this.#device, this.#block(this.#length), (length - this.#length) / blockSize);
      await this.#device.flush();
    }
    this.#length = length;
    const write = this.#lengthWrites.then(() => {
      const block = new Uint8Array(blockSize);
      setU64(viewOf(block), 0, length, true);
      return this.#device.write(0, block);
    });
    this.#lengthWrites = write.catch(() => undefined);
    await write;
  }

  flush(): Promise<void> {
    return this.#device.flush();
  }

  async refresh(): Promise<void> {
    const block = new Uint8Array(this.#device.blockSize);
    await this.#device.read(0, block);
    this.#length = getU64(viewOf(block), 0, true);
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  #checkWritable(): void {
    if (this.readOnly) throw new VdoError("VDO_READ_ONLY", `${this.name} was opened read-only`, { object: this.name });
  }
}
