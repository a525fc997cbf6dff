/**
 * Orders commits against changes: changes pass in any number, a commit passes alone.
 *
 * A write holds the gate from its look-up until its mapping is inserted, so that a commit never falls between the allocation of
 * a block and the mapping that needs it, nor a snapshot between a look-up and the write that relies on it. Who wants to pass
 * alone goes before those who come later.
 */
export class Gate {
  #inside = 0;
  #closed = false;
  #waitingAlone: (() => void)[] = [];
  #waiting: (() => void)[] = [];

  /** Enters at once, or not at all. */
  tryEnter(): boolean {
    if (this.#closed || this.#waitingAlone.length > 0) return false;
    this.#inside++;
    return true;
  }

  async enter(): Promise<void> {
    while (!this.tryEnter()) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }

  leave(): void {
    this.#inside--;
    this.#next();
  }

  /** Runs `act` while nobody else is inside. */
  async alone<T>(act: () => Promise<T>): Promise<T> {
    while (this.#closed || this.#inside > 0) {
      await new Promise<void>((resolve) => {
        this.#waitingAlone.push(resolve);
      });
    }
    this.#closed = true;
    try {
      return await act();
    } finally {
      this.#closed = false;
      this.#next();
    }
  }

  #next(): void {
    if (this.#closed || this.#inside > 0) return;
    const alone = this.#waitingAlone.shift();
    if (alone !== undefined) alone();
    else for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
