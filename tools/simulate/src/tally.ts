/** What happened in a history, in numbers. */
export interface Tally {
  operations: number;
  crashes: number;
  /** Crashes while the volume started, stopped, was suspended or rebuilt. */
  innerCrashes: number;
  starts: number;
  audits: number;
  rebuilds: number;
  refused: number;
  readOnly: number;
  growths: number;
}

export const emptyTally = (): Tally => ({
  operations: 0,
  crashes: 0,
  innerCrashes: 0,
  starts: 0,
  audits: 0,
  rebuilds: 0,
  refused: 0,
  readOnly: 0,
  growths: 0,
});
