/**
 * Buffers for payloads and replies, reused by size class (powers of two from 4 KiB).
 *
 * Each buffer has memory of its own, so it starts on a machine word and its life is not tied to a neighbour's.
 */

const CLASS_SHIFT_MIN = 12;
/** Buffers above this size are left to the garbage collector. */
const KEPT_BYTES_MAX = 4 << 20;
/** Free bytes kept per size class. */
const FREE_BYTES_PER_CLASS = 8 << 20;

export class BufferPool {
  readonly #free: Buffer[][] = [];

  constructor() {
    for (let size = 1 << CLASS_SHIFT_MIN; size <= KEPT_BYTES_MAX; size *= 2) this.#free.push([]);
  }

  /** A buffer of at least `length` bytes; its content is arbitrary. */
  take(length: number): Buffer {
    const index = classOf(length);
    return this.#free[index]?.pop() ?? Buffer.allocUnsafeSlow(2 ** (index + CLASS_SHIFT_MIN));
  }

  /** Takes back a buffer that {@link take} gave and nobody uses any more. */
  give(buffer: Buffer): void {
    const free = this.#free[classOf(buffer.length)];
    if (free !== undefined && (free.length + 1) * buffer.length <= FREE_BYTES_PER_CLASS) free.push(buffer);
  }
}

/** Size of the buffer that {@link BufferPool.take} gives for `length` bytes. */
export function pooledSize(length: number): number {
  return 2 ** (classOf(length) + CLASS_SHIFT_MIN);
}

function classOf(length: number): number {
  return length <= 1 << CLASS_SHIFT_MIN ? 0 : 32 - Math.clz32(length - 1) - CLASS_SHIFT_MIN;
}
