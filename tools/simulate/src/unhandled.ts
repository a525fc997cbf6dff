/** Errors that nobody awaits, such as a broken invariant in a step of the engine, belong to the history that is played. */

/** Runs `work`; errors thrown meanwhile outside of it go to `report`. */
export async function withUnhandled<T>(report: (error: unknown) => void, work: () => Promise<T>): Promise<T> {
  const listener = (error: unknown): void => report(error ?? new Error("unknown"));
  process.on("unhandledRejection", listener);
  process.on("uncaughtException", listener);
  try {
    return await work();
  } finally {
    process.off("unhandledRejection", listener);
    process.off("uncaughtException", listener);
  }
}
