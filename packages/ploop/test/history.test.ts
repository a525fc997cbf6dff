import { expect, test } from "vitest";
import { type HistoryCounts, runHistory } from "../src/testing/index.ts";

/** `PLOOP_SEED=n` replays one history. */
const only = process.env["PLOOP_SEED"];
const count = only !== undefined ? 1 : process.env["CI"] === "true" ? 2000 : 300;

test(`${count} random lives with writes, snapshots, merges, growth and power cuts agree with a model`, async () => {
  const total: HistoryCounts = { crashes: 0, snapshots: 0, merges: 0, resizes: 0, bitmaps: 0 };
  const first = only === undefined ? 1 : Number(only);
  for (let seed = first; seed < first + count; seed++) {
    const counts = await runHistory(seed);
    for (const name of Object.keys(total) as (keyof HistoryCounts)[]) total[name] += counts[name];
  }
  if (only === undefined) for (const value of Object.values(total)) expect(value).toBeGreaterThan(count / 20);
  expect(total.crashes).toBeGreaterThanOrEqual(0);
});
