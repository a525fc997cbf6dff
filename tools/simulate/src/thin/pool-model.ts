/** What thin devices may hold, block by block, now and after a power cut. */
import { DEVICE_BLOCKS } from "./pool-history.ts";

/** Tags of blocks of 4096 bytes; a block is filled with its tag, 0 is zeros. */
export class DeviceModel {
  /** What was acknowledged last. */
  readonly present: Uint8Array;
  /** Blocks of which a request failed: they may hold any of what is allowed. */
  readonly #vague = new Set<number>();
  /** All that a power cut may leave. */
  #allowed: Set<number>[];

  constructor(present: Uint8Array, from?: DeviceModel) {
    this.present = present.slice();
    this.#allowed = Array.from(present, (tag, block) => from?.allowedNow(block) ?? new Set([tag]));
    if (from !== undefined) for (const block of from.#vague) this.#vague.add(block);
  }

  /** What a read may give while the pool runs. */
  allowedNow(block: number): Set<number> {
    return new Set(this.#vague.has(block) ? this.#allowed[block] : [this.present[block] as number]);
  }

  allowedAfterCrash(block: number): ReadonlySet<number> {
    return this.#allowed[block] as Set<number>;
  }

  /** A request that sets blocks to `tag` begins. */
  begin(start: number, count: number, tag: number): void {
    for (let block = start; block < start + count; block++) (this.#allowed[block] as Set<number>).add(tag);
  }

  /** It was acknowledged; with `isDurable` nothing older can come back. */
  end(start: number, count: number, { tag, isDurable = false }: { tag: number; isDurable?: boolean }): void {
    for (let block = start; block < start + count; block++) {
      this.present[block] = tag;
      this.#vague.delete(block);
      if (isDurable) this.#allowed[block] = new Set([tag]);
    }
  }

  /** It failed: it may have happened or not. */
  fail(start: number, count: number): void {
    for (let block = start; block < start + count; block++) {
      (this.#allowed[block] as Set<number>).add(this.present[block] as number);
      this.#vague.add(block);
    }
  }

  /** Everything acknowledged is durable. */
  settle(): void {
    for (let block = 0; block < DEVICE_BLOCKS; block++) {
      if (!this.#vague.has(block)) this.#allowed[block] = new Set([this.present[block] as number]);
    }
  }

  /** Takes what was found after a crash for what is there; a block may hold sectors of several writes. */
  adopt(found: readonly ReadonlySet<number>[]): void {
    this.#vague.clear();
    for (const [block, tags] of found.entries()) {
      this.present[block] = [...tags][0] as number;
      this.#allowed[block] = new Set(tags);
      if (tags.size > 1) this.#vague.add(block);
    }
  }
}
