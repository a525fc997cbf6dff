/** Bytes of a socket, awaited in exact numbers: for the handshake only, where a promise per message costs nothing. */
export class ByteSource {
  #parts: Buffer[] = [];
  #have = 0;
  #need = 0;
  #resolve: ((bytes: Buffer) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;
  #error: { error: unknown } | undefined;

  /** The next `length` bytes. One caller at a time. */
  take(length: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#need = length;
      this.#resolve = resolve;
      this.#reject = reject;
      this.#serve();
    });
  }

  /** Adds bytes; the memory is copied. */
  push(bytes: Uint8Array): void {
    this.#parts.push(Buffer.from(bytes));
    this.#have += bytes.length;
    this.#serve();
  }

  /** No more bytes will come. */
  fail(error: unknown): void {
    this.#error ??= { error };
    this.#serve();
  }

  /** What was received and not taken. */
  rest(): Buffer {
    return Buffer.concat(this.#parts);
  }

  #serve(): void {
    if (this.#resolve === undefined) return;
    if (this.#have < this.#need) {
      if (this.#error === undefined) return;
      const reject = this.#reject;
      this.#resolve = undefined;
      reject?.(this.#error.error);
      return;
    }
    const all = Buffer.concat(this.#parts);
    const resolve = this.#resolve;
    this.#resolve = undefined;
    this.#parts = [all.subarray(this.#need)];
    this.#have -= this.#need;
    resolve(all.subarray(0, this.#need));
  }
}
