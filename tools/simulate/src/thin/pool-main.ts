/** `npm run simulate -- --thin`: histories of pools. */
import { describePoolItem, drawPoolHistory, type PoolHistory } from "./pool-history.ts";
import { type PoolReport, poolFailure, runPoolSeeds, shrinkPoolHistory } from "./pool-seeds.ts";

const PROGRESS_MS = 5000;

function countsOf({ histories, tally, failures }: PoolReport, since: number): string {
  const rate = ((1000 * histories) / (performance.now() - since)).toFixed(1);
  const { operations, crashes, whole, refused } = tally;
  return `${histories} histories of pools (${rate}/s), ${operations} operations, ${crashes} crashes, ${whole} of them at rest, ${refused} requests refused, ${failures.length} failed`;
}

export function printPoolHistory({ seed, shape, lives }: PoolHistory): void {
  console.log(`seed ${seed}, pool ${JSON.stringify(shape)}`);
  for (const [index, { items, cutAfter, metadataFirst }] of lives.entries()) {
    console.log(
      `life ${index + 1}: power cut after ${cutAfter} requests of the ${metadataFirst ? "metadata" : "data"} disk`,
    );
    for (const item of items) console.log(`  ${describePoolItem(item)}`);
  }
}

/** Plays one seed; when it fails, prints the shortest history that does. Returns the exit status. */
export async function replayPool(seed: number, print: boolean): Promise<number> {
  const history = drawPoolHistory(seed);
  const message = await poolFailure(history);
  if (print) printPoolHistory(history);
  if (message === undefined) {
    console.log(`seed ${seed}: nothing is wrong`);
    return 0;
  }
  console.log(`seed ${seed} fails: ${message}\n\nshortest history that fails:`);
  const shortest = await shrinkPoolHistory(history);
  printPoolHistory(shortest);
  console.log(`fails: ${await poolFailure(shortest)}`);
  return 1;
}

export interface ManyPools {
  /** Until when to go on, in milliseconds of `performance.now`. */
  until: number;
  failuresMax: number;
}

/** Plays many seeds. Returns the exit status. */
export async function runManyPools(seeds: Iterable<number>, { until, failuresMax }: ManyPools): Promise<number> {
  const since = performance.now();
  let [told, failed] = [since, 0];
  const report = await runPoolSeeds(seeds, (now) => {
    for (const { seed, message } of now.failures.slice(failed)) {
      console.log(`seed ${seed} fails: ${message}\n  replay it: npm run simulate -- --thin --seed ${seed}`);
    }
    failed = now.failures.length;
    if (performance.now() - told >= PROGRESS_MS) {
      told = performance.now();
      console.log(`... ${countsOf(now, since)}`);
    }
    return failed < failuresMax && performance.now() < until;
  });
  console.log(countsOf(report, since));
  return report.failures.length === 0 ? 0 : 1;
}
