/** Counts requests that use the map as it is, so that whoever changed it can wait until nobody uses the old one. */
export class Epochs {
  #current = { count: 0, ended: undefined as (() => void) | undefined };

  /** Enters the current epoch; pass what it returns to {@link leave}. */
  enter(): Epoch {
    const epoch = this.#current;
    epoch.count++;
    return epoch;
  }

  leave(epoch: Epoch): void {
    epoch.count--;
    if (epoch.count === 0) epoch.ended?.();
  }

  /** Resolves when everything that entered before this call has left. */
  async drain(): Promise<void> {
    const epoch = this.#current;
    if (epoch.count === 0) return;
    this.#current = { count: 0, ended: undefined };
    const previous = this.#draining;
    const mine = new Promise<void>((resolve) => {
      epoch.ended = resolve;
    });
    this.#draining = Promise.all([previous, mine]);
    await this.#draining;
  }

  #draining: Promise<unknown> = Promise.resolve();
}

export interface Epoch {
  count: number;
  ended: (() => void) | undefined;
}
