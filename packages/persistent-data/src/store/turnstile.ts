/**
 * Who may run: many readers or one writer, in the order of arrival.
 *
 * A writer that only waits for the device and changes nothing more (a commit writing out) opens the turnstile for readers
 * while it stays closed for writers.
 */
export class Turnstile {
  #readers = 0;
  #writing = false;
  /** The writer lets readers pass. */
  #opened = false;
  #queue: { write: boolean; enter: () => void }[] = [];

  /** True when a read that does not wait may run now. */
  get readable(): boolean {
    return !this.#writing || this.#opened;
  }

  /** Enters if that is possible at once. */
  tryEnter(write: boolean): boolean {
    if (this.#queue.length > 0 || !this.#admits(write)) return false;
    this.#take(write);
    return true;
  }

  /** Resolves when the caller is in. */
  enter(write: boolean): Promise<void> {
    if (this.tryEnter(write)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#queue.push({ write, enter: resolve });
    });
  }

  leave(write: boolean): void {
    if (write) {
      this.#writing = false;
      this.#opened = false;
    } else this.#readers--;
    this.#admitNext();
  }

  /** The writer inside changes nothing more that readers look at. */
  open(): void {
    this.#opened = true;
    this.#admitNext();
  }

  #admits(write: boolean): boolean {
    return write ? !this.#writing && this.#readers === 0 : this.readable;
  }

  #take(write: boolean): void {
    if (write) this.#writing = true;
    else this.#readers++;
  }

  #admitNext(): void {
    let next = this.#queue[0];
    while (next !== undefined && this.#admits(next.write)) {
      this.#queue.shift();
      this.#take(next.write);
      next.enter();
      next = this.#queue[0];
    }
  }
}
