/** Time that passes only when it is told to, so that one seed is one history. */
import type { Clock } from "@vdo/base";

interface Timer {
  due: number;
  run: () => void;
}

export class SimulatedClock implements Clock {
  #now = 1000;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#now;
  }

  wallMicroseconds(): number {
    return 1_700_000_000_000_000 + Math.floor(this.#now * 1000);
  }

  after(milliseconds: number, run: () => void): () => void {
    const timer = { due: this.#now + milliseconds, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Lets `milliseconds` pass; timers that come due run in the order in which they do. */
  advance(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (let timer = this.#next(); timer !== undefined && timer.due <= end; timer = this.#next()) {
      this.#now = Math.max(this.#now, timer.due);
      this.#timers.delete(timer);
      timer.run();
    }
    this.#now = end;
  }

  /** Lets time pass until the next timer runs; false when there is none. */
  skip(): boolean {
    const timer = this.#next();
    if (timer === undefined) return false;
    this.advance(Math.max(0, timer.due - this.#now));
    return true;
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.due < first.due) first = timer;
    return first;
  }
}
