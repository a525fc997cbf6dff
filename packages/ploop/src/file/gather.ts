/**
 * Reads (or writes) that were asked for in one turn of the event loop and lie side by side in a file, put together: they go to
 * the system as one call with several buffers. Sequential clients have many requests in flight, and each call costs two
 * changes of thread.
 */

export interface Transfer {
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Longer runs are cut, so that several threads have work. */
const RUN_BYTES_MAX = 256 << 10;
/** Linux takes at most this many buffers in one call. */
const IOV_MAX = 1024;

export class Gather {
  readonly #submit: (run: Transfer[], length: number) => void;
  #waiting: Transfer[] = [];

  /** `submit` is given runs of at least one transfer, each ending where the next begins, and their length in bytes. */
  constructor(submit: (run: Transfer[], length: number) => void) {
    this.#submit = submit;
  }

  add(transfer: Transfer): void {
    if (this.#waiting.length === 0) queueMicrotask(this.#turn);
    this.#waiting.push(transfer);
  }

  readonly #turn = (): void => {
    const waiting = this.#waiting;
    this.#waiting = [];
    let run: Transfer[] = [];
    let length = 0;
    for (const transfer of waiting) {
      const first = run[0];
      const joins =
        first !== undefined &&
        first.offset + length === transfer.offset &&
        length + transfer.bytes.length <= RUN_BYTES_MAX &&
        run.length < IOV_MAX;
      if (!joins && first !== undefined) {
        this.#submit(run, length);
        run = [];
        length = 0;
      }
      run.push(transfer);
      length += transfer.bytes.length;
    }
    this.#submit(run, length);
  };
}
