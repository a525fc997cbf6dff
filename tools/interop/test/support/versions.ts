/** What a device may hold after a crash: for each block one of several versions, the newest durable one or a later one. */
import type { VdoVolume } from "@vdo/kvdo";
import type { Area } from "./area.ts";
import { BLOCK } from "./content.ts";

const ZEROS = new Uint8Array(BLOCK);

export class Versions {
  readonly #blocks = new Map<number, Uint8Array[]>();

  /** `data` was written and is durable: nothing else may be there. */
  durable(start: number, data: Uint8Array): void {
    for (let i = 0; i * BLOCK < data.length; i++) this.#blocks.set(start + i, [block(data, i)]);
  }

  /** `data` may have been written. */
  maybe(start: number, data: Uint8Array): void {
    for (let i = 0; i * BLOCK < data.length; i++) this.#add(start + i, block(data, i));
  }

  /** Blocks may have been discarded. */
  maybeZeros({ start, count }: Area): void {
    for (let i = 0; i < count; i++) this.#add(start + i, ZEROS);
  }

  /** Blocks were discarded for good. */
  zeros({ start, count }: Area): void {
    for (let i = 0; i < count; i++) this.#blocks.set(start + i, [ZEROS]);
  }

  #add(at: number, version: Uint8Array): void {
    const versions = this.#blocks.get(at) ?? [ZEROS];
    versions.push(version);
    this.#blocks.set(at, versions);
  }

  get blocks(): number[] {
    return [...this.#blocks.keys()].sort((a, b) => a - b);
  }

  /** Number of the version that `data` is; -1 for none. */
  versionOf(at: number, data: Uint8Array): number {
    return (this.#blocks.get(at) ?? [ZEROS]).findIndex((version) => Buffer.compare(version, data) === 0);
  }

  /** Blocks that hold what was never written there, and how many hold something other than the first version. */
  async check(volume: Pick<VdoVolume, "read">): Promise<{ wrong: number[]; newer: number }> {
    const wrong: number[] = [];
    let newer = 0;
    const bytes = new Uint8Array(BLOCK);
    for (const at of this.#blocks.keys()) {
      await volume.read(at, bytes);
      const version = this.versionOf(at, bytes);
      if (version < 0) wrong.push(at);
      if (version > 0) newer++;
    }
    return { wrong, newer };
  }
}

function block(data: Uint8Array, i: number): Uint8Array {
  return data.subarray(i * BLOCK, (i + 1) * BLOCK);
}
