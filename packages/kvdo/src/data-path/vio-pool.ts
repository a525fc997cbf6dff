/** The fixed pool of data vios: 2048 by default (Linux 6.12, maximum user vios); a smaller pool is allowed, a larger is not. */
import { invariant } from "@vdo/base";
import { BLOCK_SIZE, DATA_VIOS_MAX } from "../constants.ts";
import { DataVio } from "./data-vio.ts";

export class VioPool {
  readonly size: number;
  /** Vios in use now, and the most that ever were. */
  inUse = 0;
  maximumInUse = 0;
  #free: DataVio | null = null;

  constructor(size: number) {
    invariant(size >= 1 && size <= DATA_VIOS_MAX, "the pool holds 1 to 2048 data vios");
    this.size = size;
    const data = Buffer.alloc(size * BLOCK_SIZE);
    const scratch = Buffer.alloc(size * BLOCK_SIZE);
    for (let i = size - 1; i >= 0; i--) {
      const start = i * BLOCK_SIZE;
      const vio = new DataVio(i, data.subarray(start, start + BLOCK_SIZE), scratch.subarray(start, start + BLOCK_SIZE));
      vio.next = this.#free;
      this.#free = vio;
    }
  }

  /** A clean vio, or null when all are in use. */
  take(): DataVio | null {
    const vio = this.#free;
    if (vio === null) return null;
    this.#free = vio.next;
    vio.next = null;
    this.inUse++;
    if (this.inUse > this.maximumInUse) this.maximumInUse = this.inUse;
    return vio;
  }

  give(vio: DataVio): void {
    vio.reset();
    vio.next = this.#free;
    this.#free = vio;
    this.inUse--;
  }
}
