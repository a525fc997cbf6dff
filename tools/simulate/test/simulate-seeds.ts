/** Tests of many seeds, in groups: each file of tests is a process of its own, so two of them use two processors. */
import { expect, test } from "vitest";
import { realEngine } from "../src/engine.ts";
import { runSeeds, seedRange } from "../src/run-seeds.ts";

const GROUP = 50;

/** Tests of the histories of seeds `first` to `last`. */
export function simulateSeeds(first: number, last: number): void {
  for (let from = first; from <= last; from += GROUP) {
    const to = Math.min(from + GROUP - 1, last);
    test(`volumes keep what they promised, seeds ${from} to ${to}`, async () => {
      const report = await runSeeds({ engine: realEngine, seeds: seedRange(from, to) });
      expect(report.histories).toBe(to - from + 1);
      expect(report.failures).toEqual([]);
      expect(report.tally.crashes).toBeGreaterThan(0);
    });
  }
}
