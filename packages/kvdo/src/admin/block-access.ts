/** Blocks of 4096 bytes on a device whose own blocks may be smaller. */
import { VdoError } from "@vdo/base";
import { type BlockDevice, type WriteOptions, zeroBlocks } from "@vdo/block-device";
import { BLOCK_SIZE } from "../constants.ts";

export class BlockAccess {
  readonly device: BlockDevice;
  /** Whole blocks of 4096 bytes; a rest is not counted. */
  readonly blockCount: number;
  readonly #unit: number;

  /** Throws `VDO_BAD_ARGUMENT` when a block of 4096 bytes is no whole number of the device's blocks. */
  constructor(device: BlockDevice) {
    this.device = device;
    this.#unit = BLOCK_SIZE / device.blockSize;
    if (!Number.isInteger(this.#unit)) {
      throw new VdoError(
        "VDO_BAD_ARGUMENT",
        `a VDO volume cannot be on a device with blocks of ${device.blockSize} bytes: 512 to 4096 are needed`,
        { argument: "device", value: device.blockSize },
      );
    }
    this.blockCount = Math.floor(device.blockCount / this.#unit);
  }

  /** One block, read into a new buffer. */
  readBlock(block: number): Promise<Uint8Array> {
    return this.readBlocks(block, 1);
  }

  /** `count` blocks, read into a new buffer. */
  async readBlocks(block: number, count: number): Promise<Uint8Array> {
    const target = new Uint8Array(count * BLOCK_SIZE);
    await this.device.read(block * this.#unit, target);
    return target;
  }

  write(block: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.device.write(block * this.#unit, source, options);
  }

  zero(block: number, count: number): Promise<void> {
    return zeroBlocks(this.device, block * this.#unit, count * this.#unit, { mayUnmap: true });
  }
}
