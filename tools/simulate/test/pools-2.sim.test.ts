import { expect, test } from "vitest";
import { seedRange } from "../src/run-seeds.ts";
import { runPoolSeeds } from "../src/thin/pool-seeds.ts";
import { groupsOf } from "./support.ts";

test.each(groupsOf(1001, 2000))("pools keep what they promised, seeds $from to $to", async ({ from, to }) => {
  const report = await runPoolSeeds(seedRange(from, to));
  expect(report.failures).toEqual([]);
  expect(report.tally.crashes).toBeGreaterThanOrEqual(report.histories);
});
