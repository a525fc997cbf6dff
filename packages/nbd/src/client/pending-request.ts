/** A request of the client, from the call to its reply. */
import { COMMAND } from "../protocol/constants.ts";

/** A run of bytes in one state. */
export interface ByteExtent {
  length: number;
  hole: boolean;
  zero: boolean;
}

export class PendingRequest {
  readonly command: number;
  readonly flags: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** What a WRITE sends. */
  readonly source: Uint8Array | undefined;
  /** What a READ fills. */
  readonly target: Uint8Array | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  /** First block, in the device's blocks: for errors. */
  readonly block: number;
  /** What a BLOCK_STATUS found. */
  readonly extents: ByteExtent[] = [];
  /** NBD error value of the reply; 0 is success. */
  error = 0;
  errorText = "";
  /** Place in the connection's table while in flight. */
  slot = -1;
  /** Bytes covered from the start without a gap, and pieces that came out of order. */
  #covered = 0;
  #pieces: { from: number; to: number }[] | undefined;

  constructor(options: {
    command: number;
    flags: number;
    offset: number;
    length: number;
    source?: Uint8Array;
    target?: Uint8Array;
    resolve: () => void;
    reject: (error: unknown) => void;
    blockSize: number;
  }) {
    this.command = options.command;
    this.flags = options.flags;
    this.offset = options.offset;
    this.length = options.length;
    this.source = options.source;
    this.target = options.target;
    this.resolve = options.resolve;
    this.reject = options.reject;
    this.block = Math.floor(options.offset / options.blockSize);
  }

  /** The kind of operation, as errors name it. */
  get operation(): "read" | "write" | "flush" | "discard" {
    switch (this.command) {
      case COMMAND.write:
      case COMMAND.writeZeroes:
        return "write";
      case COMMAND.flush:
        return "flush";
      case COMMAND.trim:
        return "discard";
      default:
        return "read";
    }
  }

  get isRead(): boolean {
    return this.command === COMMAND.read;
  }

  get isStatus(): boolean {
    return this.command === COMMAND.blockStatus;
  }

  /** Data for `length` bytes from `target` on arrive. */
  cover(target: number, length: number): void {
    if (target === this.#covered) this.#covered += length;
    else {
      this.#pieces ??= [];
      this.#pieces.push({ from: target, to: target + length });
    }
  }

  /** Every byte came exactly once. */
  isCovered(): boolean {
    if (this.#pieces !== undefined) {
      for (const { from, to } of this.#pieces.sort((a, b) => a.from - b.from)) {
        if (from !== this.#covered) return false;
        this.#covered = to;
      }
    }
    return this.#covered === this.length;
  }
}
