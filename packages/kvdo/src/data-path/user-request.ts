/** A request of a user: one promise, answered when the last of its blocks is. */
import type { VdoError } from "@vdo/base";

export interface UserRequestInit {
  /** `VIO_READ`, `VIO_WRITE` or `VIO_DISCARD`. */
  kind: number;
  /** First byte and number of bytes on the volume. */
  offset: number;
  length: number;
  /** Where a read goes, what a write brings; null for discards and zero writes. */
  buffer: Uint8Array | null;
  fua: boolean;
}

export class UserRequest {
  readonly kind: number;
  readonly offset: number;
  readonly length: number;
  /** The same bytes as given, as a `Buffer`: its `copy` makes no view for each block. */
  readonly buffer: Buffer | null;
  readonly fua: boolean;
  readonly done: Promise<void>;
  /** Bytes for which a data vio was taken. */
  admitted = 0;
  /** Discards: blocks that are unmapped already are passed over, without a journal entry. */
  skipsUnmapped = false;
  /** Discards: a first block has gone ahead into a leaf that is not in memory. */
  isProbing = false;
  /** Bytes not answered yet. */
  #remaining: number;
  #error: VdoError | null = null;
  #resolve!: () => void;
  #reject!: (error: VdoError) => void;

  constructor({ kind, offset, length, buffer, fua }: UserRequestInit) {
    this.kind = kind;
    this.offset = offset;
    this.length = length;
    this.buffer = buffer === null ? null : Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    this.fua = fua;
    this.#remaining = length;
    this.done = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (length === 0) this.#resolve();
  }

  /** `bytes` of the request are done; the first error is the request's. */
  answer(bytes: number, error: VdoError | null): void {
    this.#error ??= error;
    this.#remaining -= bytes;
    if (this.#remaining > 0) return;
    if (this.#error === null) this.#resolve();
    else this.#reject(this.#error);
  }
}
