/**
 * User flushes (Linux 6.12, flusher). Every write belongs to the generation that was current when its block map slot was
 * found; a flush ends its generation, and is answered when no write of that generation or an older one is under way,
 * after a flush of the device.
 */
import type { StorageIo } from "../io/storage-io.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import type { DataVio } from "./data-vio.ts";

interface PendingFlush {
  generation: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class Flusher {
  readonly #io: StorageIo;
  readonly #statistics: VdoStatistics;
  readonly #onNewGeneration: (generation: number) => void;
  #generation = 0;
  /** The oldest generation that may have active writes, and the active writes of it and those after it. */
  #oldest = 0;
  readonly #active: number[] = [0];
  readonly #pending: PendingFlush[] = [];

  /** `onNewGeneration` empties the packer and hurries the journal. */
  constructor(io: StorageIo, statistics: VdoStatistics, onNewGeneration: (generation: number) => void) {
    this.#io = io;
    this.#statistics = statistics;
    this.#onNewGeneration = onNewGeneration;
  }

  /** Generation that writes join now. */
  get generation(): number {
    return this.#generation;
  }

  /** A flush waits for writes. */
  get isPending(): boolean {
    return this.#pending.length > 0;
  }

  join(vio: DataVio): void {
    vio.generation = this.#generation;
    const place = this.#generation - this.#oldest;
    this.#active[place] = (this.#active[place] ?? 0) + 1;
  }

  leave(vio: DataVio): void {
    if (vio.generation < 0) return;
    const place = vio.generation - this.#oldest;
    this.#active[place] = (this.#active[place] as number) - 1;
    vio.generation = -1;
    if (place === 0 && this.#pending.length > 0) this.#complete();
  }

  /** Resolves when every write acknowledged before the call is durable. */
  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      const generation = this.#generation;
      this.#generation++;
      this.#active.push(0);
      this.#pending.push({ generation, resolve, reject });
      this.#onNewGeneration(this.#generation);
      this.#complete();
    });
  }

  #complete(): void {
    while (this.#oldest < this.#generation && this.#active[0] === 0) {
      this.#active.shift();
      this.#oldest++;
    }
    for (
      let first = this.#pending[0];
      first !== undefined && first.generation < this.#oldest;
      first = this.#pending[0]
    ) {
      this.#pending.shift();
      this.#statistics.flushOut++;
      // The journal commit that it waited for was forced, and often nothing was written since.
      if (this.#io.isDurable) first.resolve();
      else this.#io.deviceFlush().then(first.resolve, first.reject);
    }
  }
}
