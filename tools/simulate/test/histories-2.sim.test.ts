import { expect, test } from "vitest";
import { groupsOf, playGroup } from "./support.ts";

test.each(groupsOf(1051, 2100))("volumes keep what they promised, seeds $from to $to", async (group) => {
  const report = await playGroup(group);
  expect(report.failures).toEqual([]);
  expect(report.tally.crashes).toBeGreaterThan(0);
});
