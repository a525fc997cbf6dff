/**
 * Operations that may need blocks from the device.
 *
 * An operation is a generator. It runs to its end in one go while everything it touches is cached: no promise, no turn of
 * the event loop. Where a block is missing it yields the block's number, is driven on when the block is there, and looks
 * again. Operations compose with `yield*`; the outermost is handed to `Store.read` or `Store.write`.
 */

/** An operation with result `T`. It yields the number of the block it waits for, or {@link SAFE_POINT}. */
export type Steps<T> = Generator<number, T, void>;

/** Yielded by long operations where they hold no block for writing: the cache may write back and evict. */
export const SAFE_POINT = -1;

/** Runs `steps` until it is done; a promise only if it had to wait. `satisfy` fetches what was yielded. */
export function drive<T>(steps: Steps<T>, satisfy: (wanted: number) => Promise<void>): T | Promise<T> {
  const first = steps.next();
  return first.done === true ? first.value : driveOn(steps, first.value, satisfy);
}

async function driveOn<T>(steps: Steps<T>, wanted: number, satisfy: (wanted: number) => Promise<void>): Promise<T> {
  let waitingFor = wanted;
  for (;;) {
    let failure: { error: unknown } | undefined;
    try {
      await satisfy(waitingFor);
    } catch (error) {
      failure = { error };
    }
    const result = failure === undefined ? steps.next() : steps.throw(failure.error);
    if (result.done === true) return result.value;
    waitingFor = result.value;
  }
}
