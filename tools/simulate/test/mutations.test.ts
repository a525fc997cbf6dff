import { expect, test } from "vitest";
import { MUTATIONS, mutatedText, slugOf } from "../src/mutations.ts";

test("there are enough mutations, each with a name of its own", () => {
  expect(MUTATIONS.length).toBeGreaterThanOrEqual(12);
  expect(new Set(MUTATIONS.map(slugOf)).size).toBe(MUTATIONS.length);
});

test.each(MUTATIONS)("the text that is changed occurs once in the engine: $name", (mutation) => {
  expect(mutatedText(mutation)).not.toBe("");
});
