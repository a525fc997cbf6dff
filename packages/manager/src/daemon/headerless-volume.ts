/**
 * A volume without its first and last blocks. LVM puts its volume at 512 KiB into the logical space of the VDO, which is larger
 * by twice that (lvm2, lib/metadata/vdo_manip.c): users of a volume that LVM made want what is between.
 */
import { type BlockDevice, type Extent, SliceDevice, type WriteOptions, type ZeroOptions } from "@vdo/block-device";
import { commandError } from "../errors.ts";

const BLOCK = 4096;

/** `volume` without `bytes` at either end; the volume itself for none. Throws `VDO_USER` when nothing would be left. */
export function withoutHeader(volume: BlockDevice, bytes: number): BlockDevice {
  if (bytes === 0) return volume;
  const skip = Math.floor(bytes / BLOCK) * (BLOCK / volume.blockSize);
  if (volume.blockCount > 2 * skip) return new HeaderlessVolume(volume, skip);
  throw commandError("VDO_USER", `a header of ${bytes} bytes leaves nothing of the volume: it is too large`);
}

/** Its size follows that of the volume, which may grow. */
class HeaderlessVolume implements BlockDevice {
  readonly blockSize: number;
  readonly #volume: BlockDevice;
  readonly #skip: number;
  #slice: SliceDevice;

  constructor(volume: BlockDevice, skip: number) {
    this.#volume = volume;
    this.#skip = skip;
    this.blockSize = volume.blockSize;
    this.#slice = this.#cut();
  }

  #cut(): SliceDevice {
    return new SliceDevice(this.#volume, { start: this.#skip, blockCount: this.blockCount });
  }

  get #device(): SliceDevice {
    if (this.#slice.blockCount !== this.blockCount) this.#slice = this.#cut();
    return this.#slice;
  }

  get blockCount(): number {
    return this.#volume.blockCount - 2 * this.#skip;
  }

  get readOnly(): boolean {
    return this.#volume.readOnly === true;
  }

  read(start: number, target: Uint8Array): Promise<void> {
    return this.#device.read(start, target);
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#device.write(start, source, options);
  }

  async discard(start: number, count: number, options?: WriteOptions): Promise<void> {
    await this.#device.discard?.(start, count, options);
  }

  async writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    await this.#device.writeZeroes?.(start, count, options);
  }

  async extents(start: number, count: number): Promise<Extent[]> {
    return (await this.#device.extents?.(start, count)) ?? [{ count, hole: false, zero: false }];
  }

  flush(): Promise<void> {
    return this.#volume.flush();
  }

  /** The volume stays its owner's to close. */
  async close(): Promise<void> {}
}
