/** Writes, discards, flushes and durable writes in rounds, and what must be there after a crash in the middle of them. */
import { Random } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { BLOCK, content } from "./content.ts";
import { Versions } from "./versions.ts";

/** Blocks of known content that writes are taken from. */
const POOL_BLOCKS = 2048;

export class CrashLoad {
  readonly versions = new Versions();
  readonly #device: BlockDevice;
  readonly #random: Random;
  readonly #pool: Uint8Array;
  /** Acknowledged and not durable yet. */
  readonly #volatile = new Map<number, Uint8Array>();
  rounds = 0;
  flushes = 0;

  constructor(device: BlockDevice, seed: number) {
    this.#device = device;
    this.#random = new Random(seed);
    this.#pool = content(seed, POOL_BLOCKS);
  }

  /** Rounds until one fails, which the end of the device's power does. */
  async run(pick: (random: Random) => number): Promise<void> {
    try {
      for (;;) {
        await this.#round(pick);
        this.rounds++;
      }
    } catch {
      // The power went.
    }
  }

  async #round(pick: (random: Random) => number): Promise<void> {
    const lbns = new Set(Array.from({ length: 1 + this.#random.below(48) }, () => pick(this.#random)));
    await Promise.all([...lbns].map((lbn) => this.#change(lbn)));
    if (!this.#random.chance(0.3)) return;
    await this.#device.flush();
    for (const [lbn, data] of this.#volatile) this.versions.durable(lbn, data);
    this.#volatile.clear();
    this.flushes++;
  }

  async #change(lbn: number): Promise<void> {
    if (this.#random.chance(0.15)) {
      this.versions.maybeZeros({ start: lbn, count: 1 });
      await this.#device.discard?.(lbn, 1);
      this.#volatile.set(lbn, new Uint8Array(BLOCK));
      return;
    }
    const at = this.#random.below(POOL_BLOCKS) * BLOCK;
    const data = this.#pool.subarray(at, at + BLOCK);
    const fua = this.#random.chance(0.1);
    this.versions.maybe(lbn, data);
    await this.#device.write(lbn, data, { fua });
    this.#volatile.set(lbn, data);
    if (!fua) return;
    this.#volatile.delete(lbn);
    this.versions.durable(lbn, data);
  }
}
