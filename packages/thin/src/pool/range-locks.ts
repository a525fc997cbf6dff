/** Locks on ranges of virtual blocks: one holder per block while it is provisioned, copied or discarded; others wait in order. */

interface Held {
  begin: number;
  end: number;
}

export class RangeLocks {
  readonly #held = new Set<Held>();
  #waiting: (() => void)[] = [];

  /** Resolves when [begin, end) is free, and holds it. Call the result once to let go. */
  async lock(begin: number, end: number): Promise<() => void> {
    for (;;) {
      const unlock = this.tryLock(begin, end);
      if (unlock !== undefined) return unlock;
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }

  /** As {@link lock}, at once or not at all. */
  tryLock(begin: number, end: number): (() => void) | undefined {
    if (this.#isHeld(begin, end)) return undefined;
    const mine = { begin, end };
    this.#held.add(mine);
    return () => {
      this.#held.delete(mine);
      for (const resolve of this.#waiting.splice(0)) resolve();
    };
  }

  #isHeld(begin: number, end: number): boolean {
    for (const held of this.#held) if (held.begin < end && begin < held.end) return true;
    return false;
  }
}
