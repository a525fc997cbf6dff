/** Runs the mutants one after another, each in a process of its own, and prints which seed found it. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { loadEngine } from "./engine.ts";
import { MUTATIONS, type Mutation, makeMutant, removeMutant } from "./mutations.ts";
import { runSeeds, seedRange } from "./run-seeds.ts";

interface Found {
  seed: number | undefined;
  histories: number;
  message: string;
}

const entry = fileURLToPath(new URL("./main.ts", import.meta.url));

/** In the process of one mutant: plays seeds until one fails, and tells the parent. */
export async function hunt(index: number, budgetMs: number): Promise<number> {
  const mutation = MUTATIONS[index] as Mutation;
  const engine = await loadEngine(makeMutant(mutation));
  const report = await runSeeds({
    engine,
    seeds: seedRange(1),
    onHistory: ({ failures }) => failures.length === 0 && performance.now() < budgetMs,
  });
  const failure = report.failures[0];
  const found: Found = { seed: failure?.seed, histories: report.histories, message: failure?.message ?? "" };
  process.send?.(found);
  process.disconnect?.();
  return 0;
}

/** The child's findings; a child that hangs is ended, and one that dies has found the mutation too. */
function runChild(index: number, budgetMs: number): Promise<Found> {
  return new Promise((resolve) => {
    const child = fork(entry, ["--hunt", String(index), "--budget", String(budgetMs / 1000)], {
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    let found: Found | undefined;
    let hung = false;
    const limit = setTimeout(() => {
      hung = true;
      child.kill("SIGKILL");
    }, budgetMs * 1.2);
    child.on("message", (message) => {
      found = message as Found;
    });
    child.on("exit", (code) => {
      clearTimeout(limit);
      const text = hung ? "hangs" : `ends with status ${String(code)}`;
      resolve(found ?? { seed: undefined, histories: 0, message: `the process ${text}` });
    });
  });
}

export interface MutationRun {
  filter: string;
  /** Mutants at a time. */
  jobs: number;
  /** Time for one mutant: what is not found then counts as not found. */
  budgetMs: number;
}

/** Runs all mutants (or those whose name contains `filter`); returns the exit status: 0 when every one was found. */
export async function runMutations({ filter, jobs, budgetMs }: MutationRun): Promise<number> {
  const indices = MUTATIONS.flatMap(({ name }, index) => (name.includes(filter) ? [index] : []));
  const queue = [...indices];
  let missed = 0;
  const worker = async (): Promise<void> => {
    for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
      const mutation = MUTATIONS[index] as Mutation;
      const since = performance.now();
      const { seed, histories, message } = await runChild(index, budgetMs);
      removeMutant(mutation);
      const seconds = ((performance.now() - since) / 1000).toFixed(0);
      if (seed === undefined) missed++;
      const result = seed === undefined ? "NOT FOUND" : `seed ${seed}`;
      console.log(
        `${result.padEnd(10)} ${String(histories).padStart(6)} histories ${seconds.padStart(4)} s  ${mutation.name}`,
      );
      console.log(`           ${message.slice(0, 220)}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  console.log(`${indices.length - missed} of ${indices.length} mutations found`);
  return missed === 0 ? 0 : 1;
}
