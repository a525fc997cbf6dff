/** Lets the event loop run its other work, then goes on. Used between the slices of long computations. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
