/**
 * Short transfers of a file, made by the thread that asks for them as long as that is quick.
 *
 * A trip through the thread pool of the runtime costs two changes of thread, ten times what the page cache needs for 4 KiB. But
 * a call that has to wait for a disk holds up everything else in the process, and no call tells beforehand which of the two it
 * will be. So:
 *
 *   - A slow call sends all others to the thread pool for many times as long as it took, longer each time that it happens again:
 *     cold, busy or failing storage costs a small, bounded share of the time.
 *   - One turn of the event loop spends a fraction of a millisecond on them. Whoever reads a long list one block after the
 *     other would keep timers and sockets waiting to its end otherwise.
 *   - What fails, or comes short, counts as not made: the caller makes it in the ordinary way, which tells what is wrong.
 *
 * Not for a file that the same process serves (by FUSE or a loop device): it would wait for itself.
 */
import { readSync, readvSync, writeSync, writevSync } from "node:fs";
import { systemClock } from "@vdo/base";

/** Longer transfers gain from a second thread. */
const BYTES_MAX = 64 << 10;

/** What a quick call takes at most, in milliseconds: more than the page cache needs, less than most disks. */
const QUICK_MILLISECONDS = 0.025;
const QUICK_MILLISECONDS_PER_BYTE = 0.0005 / 1024;

/** So many quick calls in a row make good for the slow ones before. */
const QUICK_RUN = 64;

/** A slow call is paid for with so many times its time in the thread pool: at first, and at most. */
const PAUSE_MIN = 16;
const PAUSE_MAX = 1024;
/** Milliseconds of pause that are let off at a time: a quick call is slow when another thread gets the processor meanwhile. */
const PAUSE_IGNORED = 100;

/** Milliseconds in one turn of the event loop, with what happens between the calls. */
const TURN_MILLISECONDS = 0.25;

/** The system's calls; bytes moved, or an exception. */
const SYSTEM = { readSync, readvSync, writeSync, writevSync };

export interface InlineOptions {
  /** Bytes; longer writes are left to the caller. At most, and by default, 64 KiB. */
  writeBytesMax?: number;
  /** Monotonic milliseconds. */
  now?: () => number;
  system?: typeof SYSTEM;
}

/** Transfers of one file. Each method is true when all bytes were moved, and false when the caller is to move them. */
export class InlineTransfers {
  readonly #now: () => number;
  readonly #system: typeof SYSTEM;
  /** Never before `now` - {@link PAUSE_IGNORED} where it counts. */
  readonly #writeBytesMax: number;
  #notBefore = Number.NEGATIVE_INFINITY;
  #pause = PAUSE_MIN;
  #quickCalls = 0;
  #turnBegan: number | undefined;
  #callBegan = 0;
  readonly #turnEnded = (): void => {
    this.#turnBegan = undefined;
  };

  constructor({ writeBytesMax = BYTES_MAX, now = systemClock.now, system = SYSTEM }: InlineOptions = {}) {
    this.#writeBytesMax = writeBytesMax;
    this.#now = now;
    this.#system = system;
  }

  read(descriptor: number, target: Uint8Array, position: number): boolean {
    const { length } = target;
    if (!this.#begin(length)) return false;
    try {
      return this.#system.readSync(descriptor, target, 0, length, position) === length;
    } catch {
      return false;
    } finally {
      this.#end(length);
    }
  }

  /** `length` is the sum of the targets' lengths; at most 1024 of them. */
  readVector(descriptor: number, targets: readonly Uint8Array[], length: number, position: number): boolean {
    if (!this.#begin(length)) return false;
    try {
      return this.#system.readvSync(descriptor, targets, position) === length;
    } catch {
      return false;
    } finally {
      this.#end(length);
    }
  }

  write(descriptor: number, source: Uint8Array, position: number): boolean {
    const { length } = source;
    if (length > this.#writeBytesMax || !this.#begin(length)) return false;
    try {
      return this.#system.writeSync(descriptor, source, 0, length, position) === length;
    } catch {
      return false;
    } finally {
      this.#end(length);
    }
  }

  /** `length` is the sum of the sources' lengths; at most 1024 of them. */
  writeVector(descriptor: number, sources: readonly Uint8Array[], length: number, position: number): boolean {
    if (length > this.#writeBytesMax || !this.#begin(length)) return false;
    try {
      return this.#system.writevSync(descriptor, sources, position) === length;
    } catch {
      return false;
    } finally {
      this.#end(length);
    }
  }

  /** Whether a slow call has sent all others to the thread pool for now. */
  get isPaused(): boolean {
    return this.#now() < this.#notBefore;
  }

  #begin(length: number): boolean {
    if (length === 0 || length > BYTES_MAX) return false;
    const now = this.#now();
    if (now < this.#notBefore) return false;
    if (this.#turnBegan === undefined) {
      this.#turnBegan = now;
      setImmediate(this.#turnEnded);
    } else if (now - this.#turnBegan > TURN_MILLISECONDS) return false;
    this.#callBegan = now;
    return true;
  }

  #end(length: number): void {
    const now = this.#now();
    const took = now - this.#callBegan;
    if (took <= QUICK_MILLISECONDS + length * QUICK_MILLISECONDS_PER_BYTE) {
      this.#quickCalls++;
      if (this.#quickCalls === QUICK_RUN) this.#pause = PAUSE_MIN;
      return;
    }
    this.#quickCalls = 0;
    this.#notBefore = Math.max(this.#notBefore, now - PAUSE_IGNORED) + took * this.#pause;
    this.#pause = Math.min(2 * this.#pause, PAUSE_MAX);
  }
}
