import { expect, test } from "vitest";
import { runCrashHistory } from "./support/crash-history.ts";

const HISTORIES = 2000;
/** The first ones run with the unit tests. */
const FIRST = 300;

test(`${HISTORIES} histories that end in a power cut leave a consistent pool and lose nothing that was flushed`, async () => {
  let whole = 0;
  for (let seed = FIRST; seed < HISTORIES; seed++) {
    try {
      if ((await runCrashHistory(seed)) === 30) whole++;
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  // Most are cut midway; some reach their end and crash there.
  expect(whole).toBeGreaterThan(0);
  expect(whole).toBeLessThan(HISTORIES / 2);
}, 180_000);
