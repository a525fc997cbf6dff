/**
 * A volume that may be damaged, as a device that never fails: what cannot be read is zeros, and is noted. Nothing is written.
 */
import { errorMessage } from "@vdo/base";
import type { BlockDevice, Extent } from "@vdo/block-device";

/** Ranges that are noted one by one; a volume with more damage than that is told of in numbers. */
const RANGES_MAX = 65_536;

/** Logical blocks of one page of the block map: what one damaged page takes away. */
const BLOCKS_PER_PAGE = 812;

/** Logical blocks that could not be read, and why. */
export interface DamagedRange {
  start: number;
  count: number;
  reason: string;
}

export class SalvageDevice implements BlockDevice {
  readonly blockSize = 4096;
  readonly readOnly = true;
  readonly #volume: BlockDevice;
  readonly #damage: DamagedRange[] = [];
  #unlisted = 0;

  constructor(volume: BlockDevice) {
    this.#volume = volume;
  }

  get blockCount(): number {
    return this.#volume.blockCount;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    try {
      await this.#volume.read(start, target);
    } catch {
      for (let at = 0; at < target.length; at += this.blockSize) {
        await this.#readBlock(start + at / this.blockSize, target.subarray(at, at + this.blockSize));
      }
    }
  }

  async #readBlock(number: number, target: Uint8Array): Promise<void> {
    try {
      await this.#volume.read(number, target);
    } catch (error) {
      target.fill(0);
      this.#note(number, errorMessage(error));
    }
  }

  #note(block: number, reason: string): void {
    const last = this.#damage.at(-1);
    if (last !== undefined && last.start + last.count === block) last.count++;
    else if (this.#damage.length < RANGES_MAX) this.#damage.push({ start: block, count: 1, reason });
    else this.#unlisted++;
  }

  /** Never fails: where the block map cannot be read, everything counts as data, so that somebody tries to read it. */
  async extents(start: number, count: number): Promise<Extent[]> {
    try {
      return (await this.#volume.extents?.(start, count)) ?? [{ count, hole: false, zero: false }];
    } catch {
      const rest = BLOCKS_PER_PAGE - (start % BLOCKS_PER_PAGE);
      if (count <= rest) return [{ count, hole: false, zero: false }];
      return this.extents(start, Math.max(rest, Math.floor(count / 2)));
    }
  }

  /** What could not be read so far: ranges in ascending order that do not touch. */
  damage(): { blocks: number; ranges: DamagedRange[] } {
    const ranges: DamagedRange[] = [];
    for (const range of [...this.#damage].sort((a, b) => a.start - b.start)) {
      const last = ranges.at(-1);
      if (last !== undefined && range.start <= last.start + last.count) {
        last.count = Math.max(last.count, range.start + range.count - last.start);
      } else ranges.push({ ...range });
    }
    return { blocks: ranges.reduce((sum, { count }) => sum + count, this.#unlisted), ranges };
  }

  /** A salvaged volume has nothing to save. */
  async flush(): Promise<void> {}

  async write(): Promise<void> {
    throw new TypeError("a salvaged volume is only read");
  }

  /** The volume stays its owner's to close. */
  async close(): Promise<void> {}
}
