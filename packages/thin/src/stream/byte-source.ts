/** Exact numbers of bytes from pieces of any size, with a running SHA-256. */
import { createHash } from "node:crypto";

export class ByteSource {
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #hash = createHash("sha256");
  #rest: Uint8Array = new Uint8Array(0);
  #position = 0;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** Bytes taken so far. */
  get position(): number {
    return this.#position;
  }

  /** The next `count` bytes, or as many as there are. They are the caller's. */
  async take(count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      if (this.#rest.length === 0) {
        const { done, value } = await this.#pieces.next();
        if (done === true) break;
        this.#rest = value;
      }
      const part = this.#rest.subarray(0, count - filled);
      bytes.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    this.#position += filled;
    return bytes.subarray(0, filled);
  }

  /** Counts `bytes` in the digest. */
  digest(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** SHA-256 of what was counted. */
  end(): Uint8Array {
    return this.#hash.digest();
  }

  /** Lets the producer of the pieces go. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}
