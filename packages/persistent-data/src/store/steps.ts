/**
 * Operations that may need blocks from the device.
 *
 * An operation is a generator. It runs to its end in one go while everything it touches is cached: no promise, no turn of
 * the event loop. Where a block is missing it yields the block's number, is driven on when the block is there, and looks
 * again. Operations compose with `yield*`; the outermost is handed to `Store.read` or `Store.write`.
 */

/** An operation with result `T`. It yields the number of the block it waits for, or {@link SAFE_POINT}. */
export type Steps<T> = Generator<number, T, void>;

/** Yielded by long operations now and then: the cache may write back blocks of earlier operations, and evict. */
export const SAFE_POINT = -1;

/** Provides what an operation yielded: at once (undefined), or with a promise. */
export type Provide = (wanted: number) => Promise<void> | undefined;

/** Runs `steps` until it is done; a promise only if it had to wait. */
export function drive<T>(steps: Steps<T>, provide: Provide): T | Promise<T> {
  for (let result = steps.next(); ; result = steps.next()) {
    if (result.done === true) return result.value;
    const wait = provide(result.value);
    if (wait !== undefined) return driveOn(steps, wait, provide);
  }
}

async function driveOn<T>(steps: Steps<T>, first: Promise<void>, provide: Provide): Promise<T> {
  let wait: Promise<void> | undefined = first;
  for (;;) {
    let failure: { error: unknown } | undefined;
    try {
      if (wait !== undefined) await wait;
    } catch (error) {
      failure = { error };
    }
    const result: IteratorResult<number, T> = failure === undefined ? steps.next() : steps.throw(failure.error);
    if (result.done === true) return result.value;
    wait = provide(result.value);
  }
}
