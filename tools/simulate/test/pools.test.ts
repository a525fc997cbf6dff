import { expect, test } from "vitest";
import { seedRange } from "../src/run-seeds.ts";
import { drawPoolHistory } from "../src/thin/pool-history.ts";
import { runPoolSeeds } from "../src/thin/pool-seeds.ts";

test("a seed is one history of a pool", () => {
  expect(drawPoolHistory(7)).toEqual(drawPoolHistory(7));
  expect(drawPoolHistory(7)).not.toEqual(drawPoolHistory(8));
});

test("pools keep what they promised, some seeds", async () => {
  const report = await runPoolSeeds(seedRange(2001, 2040));
  expect(report.failures).toEqual([]);
  expect(report.tally.crashes).toBeGreaterThan(40);
});
