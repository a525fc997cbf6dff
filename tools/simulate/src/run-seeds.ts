/** Plays the histories of many seeds, one after another, and keeps count. */
import type { Engine } from "./engine.ts";
import { Player } from "./player.ts";
import { drawHistory } from "./swarm.ts";
import { emptyTally, type Tally } from "./tally.ts";

export interface SeedFailure {
  seed: number;
  message: string;
}

export interface RunReport {
  histories: number;
  tally: Tally;
  failures: SeedFailure[];
}

export interface RunOptions {
  engine: Engine;
  seeds: Iterable<number>;
  /** Called after each history; false stops the run. */
  onHistory?: (report: RunReport) => boolean;
}

export async function runSeeds({ engine, seeds, onHistory }: RunOptions): Promise<RunReport> {
  const report: RunReport = { histories: 0, tally: emptyTally(), failures: [] };
  for (const seed of seeds) {
    const player = new Player(drawHistory(seed), engine);
    try {
      await player.play();
    } catch (error) {
      report.failures.push({ seed, message: (error as Error).message });
    }
    report.histories++;
    for (const key of Object.keys(report.tally) as (keyof Tally)[]) report.tally[key] += player.tally[key];
    if (onHistory?.(report) === false) break;
  }
  return report;
}

/** `first`, `first` + 1, … up to `last`. */
export function* seedRange(first: number, last = Number.POSITIVE_INFINITY): Iterable<number> {
  for (let seed = first; seed <= last; seed++) yield seed;
}
