/** Plays the histories of pools of many seeds, and makes one that fails shorter. */
import { drawPoolHistory, type PoolHistory, type PoolLife } from "./pool-history.ts";
import { PoolPlayer, type PoolTally } from "./pool-player.ts";

export interface PoolReport {
  histories: number;
  tally: PoolTally;
  failures: { seed: number; message: string }[];
}

/** Why the history fails; undefined when it does not. */
export async function poolFailure(history: PoolHistory): Promise<string | undefined> {
  try {
    await new PoolPlayer(history).play();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** `onHistory` is called after each one; false ends the run. */
export async function runPoolSeeds(
  seeds: Iterable<number>,
  onHistory?: (report: PoolReport) => boolean,
): Promise<PoolReport> {
  const tally: PoolTally = { operations: 0, crashes: 0, whole: 0, refused: 0 };
  const report: PoolReport = { histories: 0, tally, failures: [] };
  for (const seed of seeds) {
    const player = new PoolPlayer(drawPoolHistory(seed));
    try {
      await player.play();
    } catch (error) {
      report.failures.push({ seed, message: (error as Error).message });
    }
    report.histories++;
    for (const key of Object.keys(tally) as (keyof PoolTally)[]) tally[key] += player.tally[key];
    if (onHistory?.(report) === false) break;
  }
  return report;
}

/** Leaves out lives and items as long as the history still fails, however it does. */
export async function shrinkPoolHistory(history: PoolHistory): Promise<PoolHistory> {
  let best = history;
  for (let isShorter = true; isShorter; ) {
    isShorter = false;
    for (const shorter of shorterHistories(best)) {
      if ((await poolFailure(shorter)) === undefined) continue;
      best = shorter;
      isShorter = true;
      break;
    }
  }
  return best;
}

function* shorterHistories(history: PoolHistory): Generator<PoolHistory> {
  const { lives } = history;
  for (let at = lives.length - 1; at >= 0 && lives.length > 1; at--) {
    yield { ...history, lives: lives.filter((_, i) => i !== at) };
  }
  for (const [at, life] of lives.entries()) {
    for (let size = Math.max(1, life.items.length >> 1); size >= 1; size >>= 1) {
      for (let from = 0; from + size <= life.items.length; from += size) {
        const items = life.items.filter((_, i) => i < from || i >= from + size);
        const shorter: PoolLife = { ...life, items };
        yield { ...history, lives: lives.map((one, i) => (i === at ? shorter : one)) };
      }
    }
  }
}
