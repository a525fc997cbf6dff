/** Seeds in groups, one test each: every file of tests is a process of its own, so two of them use two processors. */
import { realEngine } from "../src/engine.ts";
import { type RunReport, runSeeds, seedRange } from "../src/run-seeds.ts";

const GROUP = 50;

export interface Group {
  from: number;
  to: number;
}

export function groupsOf(first: number, last: number): Group[] {
  const groups: Group[] = [];
  for (let from = first; from <= last; from += GROUP) groups.push({ from, to: Math.min(from + GROUP - 1, last) });
  return groups;
}

export function playGroup({ from, to }: Group): Promise<RunReport> {
  return runSeeds({ engine: realEngine, seeds: seedRange(from, to) });
}
