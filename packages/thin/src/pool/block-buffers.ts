/** Buffers of one data block each that are used again: new ones are zeroed by the system, page by page, each time. */

/** Bytes of buffers that are kept. */
const KEPT_BYTES_MAX = 4 << 20;

export class BlockBuffers {
  readonly #bytes: number;
  readonly #free: Uint8Array[] = [];

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** A buffer with any content. */
  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(this.#bytes);
  }

  /** Nobody uses it any more. */
  give(buffer: Uint8Array): void {
    if ((this.#free.length + 1) * this.#bytes <= KEPT_BYTES_MAX) this.#free.push(buffer);
  }
}
