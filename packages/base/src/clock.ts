/** Time as an argument: packages read no clock and set no timer of their own, so that one seed is one history in tests. */
export interface Clock {
  /** Monotonic milliseconds, from an arbitrary start. */
  now(): number;
  /** Microseconds since 1970-01-01 UTC. */
  wallMicroseconds(): number;
  /** Calls `run` once after `milliseconds`; the returned function cancels it. Does not keep a process alive. */
  after(milliseconds: number, run: () => void): () => void;
}

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wallMicroseconds: () => Math.floor((performance.timeOrigin + performance.now()) * 1000),
  after(milliseconds, run) {
    const timer = setTimeout(run, milliseconds);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
