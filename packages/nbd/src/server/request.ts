/** One request in flight. The objects are pooled and keep one shape; the callbacks are bound once. */
import type { LockHolder, RangeLocks } from "./range-locks.ts";
import type { FlushWaiter } from "./served-export.ts";

/** Who started a request and takes its outcome. */
export interface RequestOwner {
  /** The lock that had to be waited for is held. */
  lockHeld(request: Request): void;
  succeeded(request: Request): void;
  failed(request: Request, error: unknown): void;
}

export class Request implements LockHolder, FlushWaiter {
  owner: RequestOwner = NOBODY;
  command = 0;
  flags = 0;
  /** The cookie, as two signed 32-bit halves. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Byte range asked for. An offset above 2^53 is inexact, but then it lies outside every export. */
  offset = 0;
  length = 0;
  /** Device blocks the range touches, and where in the first of them it begins. */
  firstBlock = 0;
  blockCount = 0;
  head = 0;
  /** A pooled buffer, and the part of it that holds the blocks touched. */
  pooled: Buffer = NO_BUFFER;
  blocks: Buffer = NO_BUFFER;
  /** Payload bytes received so far. */
  received = 0;
  /** NBD error found before the payload was consumed; 0 for none. */
  earlyError = 0;
  lockStart = 0;
  lockEnd = 0;
  lockShared = false;
  lockIndex = -1;
  #granted: (() => void) | undefined;

  readonly onDone = (): void => this.owner.succeeded(this);
  readonly onFail = (error: unknown): void => this.owner.failed(this, error);

  granted(): void {
    const granted = this.#granted;
    if (granted === undefined) {
      this.owner.lockHeld(this);
      return;
    }
    this.#granted = undefined;
    granted();
  }

  /** For operations that work in slices: resolves when blocks `start` to `end - 1` are locked. */
  lock(locks: RangeLocks, start: number, end: number, shared: boolean): Promise<void> {
    this.lockStart = start;
    this.lockEnd = end;
    this.lockShared = shared;
    if (locks.acquire(this)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#granted = resolve;
    });
  }
}

export const NO_BUFFER = Buffer.alloc(0);

const NOBODY: RequestOwner = {
  lockHeld() {},
  succeeded() {},
  failed() {},
};
