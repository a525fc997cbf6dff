/** Power cuts on devices in memory: copies of a device as it is at a moment, and devices that stop taking writes. */
import { VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";

const BLOCK = 4096;

/** What the device holds now. Taken while a volume runs on it, this is a power cut that keeps every finished write. */
export async function copyDevice(device: MemoryDevice): Promise<MemoryDevice> {
  const copy = new MemoryDevice({ blockCount: device.blockCount });
  let start = 0;
  for (const { count, hole } of await device.extents(0, device.blockCount)) {
    if (hole !== true) {
      const bytes = new Uint8Array(count * BLOCK);
      await device.read(start, bytes);
      await copy.write(start, bytes);
    }
    start += count;
  }
  return copy;
}

/** Changes block `block` of `device`. */
export async function editBlock(device: BlockDevice, block: number, edit: (bytes: Uint8Array) => void): Promise<void> {
  const bytes = new Uint8Array(BLOCK);
  await device.read(block, bytes);
  edit(bytes);
  await device.write(block, bytes);
}

/** Takes `writes` writes, then none: they and everything after fail. */
export class CuttingDevice implements BlockDevice {
  readonly blockSize = BLOCK;
  readonly blockCount: number;
  readonly #base: MemoryDevice;
  readonly #limit: number;
  /** Block and number of blocks of each write that was taken. */
  readonly taken: { start: number; count: number }[] = [];

  constructor(base: MemoryDevice, writes = Number.POSITIVE_INFINITY) {
    this.#base = base;
    this.blockCount = base.blockCount;
    this.#limit = writes;
  }

  get isCut(): boolean {
    return this.taken.length >= this.#limit;
  }

  #check(operation: "write" | "flush", block: number): void {
    if (this.isCut) throw new VdoError("VDO_IO", "the power is off", { operation, block });
  }

  read(start: number, target: Uint8Array): Promise<void> {
    return this.#base.read(start, target);
  }

  async write(start: number, source: Uint8Array): Promise<void> {
    this.#check("write", start);
    this.taken.push({ start, count: source.length / BLOCK });
    await this.#base.write(start, source);
  }

  async writeZeroes(start: number, count: number): Promise<void> {
    this.#check("write", start);
    this.taken.push({ start, count });
    await this.#base.writeZeroes(start, count);
  }

  async flush(): Promise<void> {
    this.#check("flush", 0);
  }

  async close(): Promise<void> {}
}
