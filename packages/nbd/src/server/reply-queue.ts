/**
 * Replies on their way to the socket.
 *
 * Small replies are copied into slabs, large payloads are queued as they are; everything queued in one turn of the event
 * loop leaves in one write. Memory goes back to the pool when the socket has taken it.
 */
import type { Socket } from "node:net";
import type { BufferPool } from "./buffer-pool.ts";
import type { ByteAccount } from "./byte-budget.ts";

const SLAB_BYTES = 64 << 10;
/** Payloads up to this size are copied into the slab: cheaper than one more element of a vectored write. */
export const COPIED_PAYLOAD_MAX = 32 << 10;
/** With this much queued the turn's end is not waited for. */
const FLUSH_BYTES = 512 << 10;

export class ReplyQueue {
  /** Where {@link reserve} gave room. */
  slab: Buffer;
  readonly #socket: Socket;
  readonly #pool: BufferPool;
  readonly #account: ByteAccount;
  readonly #onIdle: () => void;
  #slabFrom = 0;
  #slabEnd = SLAB_BYTES;
  /** Parts to write, and the pooled buffers that are free after them. */
  #parts: Buffer[] = [];
  #owned: Buffer[] = [];
  #resolvers: (() => void)[] = [];
  #queuedBytes = 0;
  #flushScheduled = false;
  #writing = 0;
  #closed = false;
  readonly #flush = (): void => this.flush();

  constructor(socket: Socket, pool: BufferPool, account: ByteAccount, onIdle: () => void) {
    this.#socket = socket;
    this.#pool = pool;
    this.#account = account;
    this.#onIdle = onIdle;
    this.slab = EMPTY;
  }

  /** True when nothing is queued and the socket has taken everything. */
  get idle(): boolean {
    return this.#writing === 0 && this.#queuedBytes === 0;
  }

  /** Room for `length` bytes (at most 64 KiB) in {@link slab}; returns the offset. The caller fills it at once. */
  reserve(length: number): number {
    if (this.slab === EMPTY || this.#slabEnd + length > SLAB_BYTES) this.#nextSlab();
    const at = this.#slabEnd;
    this.#slabEnd += length;
    this.#queued(length);
    return at;
  }

  /** Queues a payload without copying. Its memory must be handed over with {@link own} before the turn ends. */
  append(payload: Buffer): void {
    this.#cutSlab();
    this.#parts.push(payload);
    this.#queued(payload.length);
  }

  /** Hands over a pooled buffer, whose size the account counts: it is freed when what is queued now was sent. */
  own(buffer: Buffer): void {
    this.#owned.push(buffer);
  }

  /** Resolves when the socket has taken what is queued now, or is gone. */
  flushed(): Promise<void> {
    if (this.#queuedBytes === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#resolvers.push(resolve);
    });
  }

  /** Drops what is queued: the connection is gone. */
  close(): void {
    this.#closed = true;
    this.flush();
  }

  flush(): void {
    this.#flushScheduled = false;
    if (this.#queuedBytes === 0) return;
    this.#cutSlab();
    if (this.slab !== EMPTY) {
      this.#owned.push(this.slab);
      this.slab = EMPTY;
    }
    const parts = this.#parts;
    const owned = this.#owned;
    const resolvers = this.#resolvers;
    this.#parts = [];
    this.#owned = [];
    if (resolvers.length > 0) this.#resolvers = [];
    this.#queuedBytes = 0;
    if (this.#closed || !this.#socket.writable) {
      this.#release(owned);
      for (const resolve of resolvers) resolve();
      return;
    }
    this.#writing++;
    const done = (): void => {
      this.#writing--;
      this.#release(owned);
      for (const resolve of resolvers) resolve();
      if (this.idle) this.#onIdle();
    };
    const socket = this.#socket;
    if (parts.length === 1) {
      socket.write(parts[0] as Buffer, done);
      return;
    }
    socket.cork();
    for (let i = 0; i < parts.length - 1; i++) socket.write(parts[i] as Buffer);
    socket.write(parts[parts.length - 1] as Buffer, done);
    socket.uncork();
  }

  #queued(length: number): void {
    this.#queuedBytes += length;
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    setImmediate(this.#flush);
  }

  /** Sends early when much is queued. Called between replies, never while one is being filled in. */
  relieve(): void {
    if (this.#queuedBytes >= FLUSH_BYTES) this.flush();
  }

  #nextSlab(): void {
    this.#cutSlab();
    if (this.slab !== EMPTY) this.#owned.push(this.slab);
    this.slab = this.#pool.take(SLAB_BYTES);
    this.#account.force(SLAB_BYTES);
    this.#slabFrom = 0;
    this.#slabEnd = 0;
  }

  /** Makes a part of what was filled into the slab since the last one. */
  #cutSlab(): void {
    if (this.slab === EMPTY || this.#slabEnd === this.#slabFrom) return;
    this.#parts.push(this.slab.subarray(this.#slabFrom, this.#slabEnd));
    this.#slabFrom = this.#slabEnd;
  }

  #release(owned: readonly Buffer[]): void {
    let bytes = 0;
    for (const buffer of owned) {
      bytes += buffer.length;
      this.#pool.give(buffer);
    }
    if (bytes > 0) this.#account.give(bytes);
  }
}

const EMPTY = Buffer.alloc(0);
