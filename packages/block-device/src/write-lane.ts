/**
 * The order in which writes of a regular file go to the thread pool.
 *
 * A file system takes one buffered write of a file at a time: a second one waits for the lock of the inode, and Linux lets it
 * wait on a processor that turns (optimistic spinning). So while storage is quick, a write that would meet another of ours waits
 * here, in the order of arrival, and short ones are made inline as soon as the lock is free. When storage is slow, all go to the
 * pool at once, as they come: then waiting costs nothing, and the file system knows best.
 */
export interface LaneOptions<W> {
  /** Makes a short write at once; false when it is to go to the pool. */
  tryInline(write: W): boolean;
  /** Hands a write to the pool; {@link WriteLane.ended} is called when it is over. */
  start(write: W): void;
  /** Whether storage is slow. */
  isSlow(): boolean;
}

export class WriteLane<W> {
  readonly #options: LaneOptions<W>;
  #inPool = 0;
  readonly #waiting: W[] = [];

  constructor(options: LaneOptions<W>) {
    this.#options = options;
  }

  /** A write is in the pool: another one would wait for it. */
  get isBusy(): boolean {
    return this.#inPool > 0;
  }

  /** Takes a write that was not made inline. */
  submit(write: W): void {
    if (this.#inPool > 0 && !this.#options.isSlow()) this.#waiting.push(write);
    else this.#start(write);
  }

  /** A write that was started is over. */
  ended(): void {
    this.#inPool--;
    if (this.#waiting.length === 0) return;
    const { tryInline, isSlow } = this.#options;
    while (this.#inPool === 0 && this.#waiting.length > 0) {
      const write = this.#waiting.shift() as W;
      if (!tryInline(write)) this.#start(write);
    }
    if (this.#waiting.length > 0 && isSlow()) for (const write of this.#waiting.splice(0)) this.#start(write);
  }

  #start(write: W): void {
    this.#inPool++;
    this.#options.start(write);
  }
}
