/** `npm run simulate -- --ploop`: histories of stacks of ploop images. They are played as they are drawn, so none is made shorter. */
import { type HistoryCounts, runHistory } from "@vdo/ploop/testing";

const PROGRESS_MS = 5000;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Plays one seed. Returns the exit status. */
export async function replayStack(seed: number): Promise<number> {
  try {
    const counts = await runHistory(seed);
    console.log(`seed ${seed}: nothing is wrong (${JSON.stringify(counts)})`);
    return 0;
  } catch (error) {
    console.log(`seed ${seed} fails: ${messageOf(error)}`);
    return 1;
  }
}

export interface ManyStacks {
  /** Until when to go on, in milliseconds of `performance.now`. */
  until: number;
  failuresMax: number;
}

/** Plays many seeds. Returns the exit status. */
export async function runManyStacks(seeds: Iterable<number>, { until, failuresMax }: ManyStacks): Promise<number> {
  const since = performance.now();
  const total: HistoryCounts = { crashes: 0, snapshots: 0, merges: 0, resizes: 0, bitmaps: 0 };
  let [told, histories, failed] = [since, 0, 0];
  const report = (): string => {
    const rate = ((1000 * histories) / (performance.now() - since)).toFixed(1);
    const { crashes, snapshots, merges, resizes, bitmaps } = total;
    return `${histories} histories of stacks (${rate}/s), ${crashes} crashes, ${snapshots} snapshots, ${merges} merges, ${resizes} growths, ${bitmaps} bitmaps kept, ${failed} failed`;
  };
  for (const seed of seeds) {
    if (failed >= failuresMax || performance.now() >= until) break;
    try {
      const counts = await runHistory(seed);
      for (const name of Object.keys(total) as (keyof HistoryCounts)[]) total[name] += counts[name];
    } catch (error) {
      failed++;
      console.log(`${messageOf(error)}\n  replay it: npm run simulate -- --ploop --seed ${seed}`);
    }
    histories++;
    if (performance.now() - told < PROGRESS_MS) continue;
    told = performance.now();
    console.log(`... ${report()}`);
  }
  console.log(report());
  return failed === 0 ? 0 : 1;
}
