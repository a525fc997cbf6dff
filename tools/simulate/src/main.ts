/**
 * `npm run simulate`: histories of volumes on a simulated disk.
 *
 * ```
 * --seeds A..B    these seeds              --count N   so many, from a random one on    --hours N   for so long
 * --seed N        one: replayed, and made short when it fails                           --failures N  stop after so many
 * --mutations     the engine with one line changed: each change must be found   --only TEXT   those whose name has it (with --seed: replay that one)
 * --thin          histories of thin pools instead of volumes
 * --ploop         histories of stacks of ploop images instead of volumes
 * --jobs N        mutants at a time                   --budget SECONDS   for each of them
 * ```
 */
import { parseArgs } from "node:util";
import { type Engine, loadEngine, realEngine } from "./engine.ts";
import { describeItem, type History } from "./history.ts";
import { hunt, runMutations } from "./mutation-run.ts";
import { MUTATIONS, makeMutant } from "./mutations.ts";
import { replayStack, runManyStacks } from "./ploop/stack-main.ts";
import { type RunReport, runSeeds, seedRange } from "./run-seeds.ts";
import { failureOf, shrink } from "./shrink.ts";
import { drawHistory } from "./swarm.ts";
import { replayPool, runManyPools } from "./thin/pool-main.ts";

const PROGRESS_MS = 5_000;
const SHRINK_MS = 90_000;
const HOUR_MS = 3_600_000;

const now = (): number => performance.now();

function countsOf({ histories, tally, failures }: RunReport, since: number): string {
  const seconds = (now() - since) / 1000;
  const rate = (histories / seconds).toFixed(1);
  return [
    `${histories} histories (${rate}/s)`,
    `${tally.operations} operations`,
    `${tally.crashes + tally.innerCrashes} crashes, ${tally.innerCrashes} of them in starts, stops and rebuilds`,
    `${tally.starts} starts`,
    `${tally.audits} audits`,
    `${tally.rebuilds} rebuilds`,
    `${failures.length} failed`,
  ].join(", ");
}

export function printHistory(history: History): void {
  const { seed, tiny, options, disk, isUsedDisk, turnMs, depth, forks } = history;
  console.log(`volume ${JSON.stringify(tiny)}`);
  console.log(`options ${JSON.stringify(options)}`);
  console.log(
    `seed ${seed}, disk ${JSON.stringify(disk)}${isUsedDisk ? ", used before" : ""}, turns of ${turnMs} ms, depth ${depth}, forks ${forks}`,
  );
  for (const [index, item] of history.items.entries())
    console.log(`${String(index + 1).padStart(4)}  ${describeItem(item)}`);
}

/** Plays one seed; when it fails, prints the shortest history that does. Returns the exit status. */
async function replay(seed: number, print: boolean, engine: Engine): Promise<number> {
  const history = drawHistory(seed);
  const message = await failureOf(history, engine);
  if (message === undefined) {
    if (print) printHistory(history);
    console.log(`seed ${seed}: nothing is wrong (${history.items.length} items)`);
    return 0;
  }
  console.log(`seed ${seed} fails: ${message}`);
  const shrunk = await shrink(history, message, engine, { milliseconds: SHRINK_MS, now });
  console.log(
    `\nshortest history that fails (${history.items.length} items before, ${shrunk.played} histories tried):`,
  );
  printHistory(shrunk.history);
  console.log(`fails: ${shrunk.message}`);
  if (print) console.log(JSON.stringify(shrunk.history));
  return 1;
}

/** Plays many seeds until they, the time or the patience with failures are at an end. */
async function runMany(seeds: Iterable<number>, hours: number | undefined, failuresMax: number): Promise<number> {
  const since = now();
  let told = since;
  let failed = 0;
  const onHistory = (report: RunReport): boolean => {
    for (const { seed, message } of report.failures.slice(failed)) {
      console.log(`seed ${seed} fails: ${message}\n  replay it: npm run simulate -- --seed ${seed}`);
    }
    failed = report.failures.length;
    if (now() - told >= PROGRESS_MS) {
      told = now();
      console.log(`... ${countsOf(report, since)}`);
    }
    return failed < failuresMax && (hours === undefined || now() - since < hours * HOUR_MS);
  };
  const report = await runSeeds({ engine: realEngine, seeds, onHistory });
  console.log(countsOf(report, since));
  if (report.tally.audits > 0) console.log(JSON.stringify(report.tally));
  return report.failures.length === 0 ? 0 : 1;
}

/** The real engine, or with `only` the one with the first mutation whose name has that text. */
async function engineFor(only: string): Promise<Engine> {
  if (only === "") return realEngine;
  const mutation = MUTATIONS.find(({ name }) => name.includes(only));
  if (mutation === undefined) throw new Error(`--only ${only}: there is no such mutation`);
  return loadEngine(makeMutant(mutation));
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw new Error(`--${name} ${text}: not a number`);
  return value;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      seed: { type: "string" },
      count: { type: "string" },
      hours: { type: "string" },
      failures: { type: "string", default: "10" },
      print: { type: "boolean", default: false },
      mutations: { type: "boolean", default: false },
      thin: { type: "boolean", default: false },
      ploop: { type: "boolean", default: false },
      only: { type: "string", default: "" },
      jobs: { type: "string", default: "1" },
      budget: { type: "string", default: "300" },
      hunt: { type: "string" },
    },
  });
  const budgetMs = numberOf("budget", values.budget) * 1000;
  if (values.hunt !== undefined) return hunt(numberOf("hunt", values.hunt), budgetMs);
  if (values.mutations) {
    return runMutations({ filter: values.only, jobs: numberOf("jobs", values.jobs), budgetMs });
  }
  const { thin, ploop } = values;
  if (values.seed !== undefined && ploop) return replayStack(numberOf("seed", values.seed));
  if (values.seed !== undefined && thin) return replayPool(numberOf("seed", values.seed), values.print);
  if (values.seed !== undefined) {
    return replay(numberOf("seed", values.seed), values.print, await engineFor(values.only));
  }
  const failuresMax = numberOf("failures", values.failures);
  const run = (seeds: Iterable<number>, hours: number | undefined): Promise<number> => {
    if (!thin && !ploop) return runMany(seeds, hours, failuresMax);
    const limits = { until: now() + (hours ?? Number.POSITIVE_INFINITY) * HOUR_MS, failuresMax };
    return ploop ? runManyStacks(seeds, limits) : runManyPools(seeds, limits);
  };
  if (values.seeds !== undefined) {
    const [first = "", last = first] = values.seeds.split("..");
    return run(seedRange(numberOf("seeds", first), numberOf("seeds", last)), undefined);
  }
  const first = Math.floor(Math.random() * 0x4000_0000);
  console.log(`seeds from ${first} on`);
  const hours = values.hours === undefined ? undefined : numberOf("hours", values.hours);
  const count = values.count === undefined ? undefined : numberOf("count", values.count);
  const last = count === undefined ? (hours === undefined ? first + 199 : undefined) : first + count - 1;
  return run(seedRange(first, last), hours);
}

process.exitCode = await main();
