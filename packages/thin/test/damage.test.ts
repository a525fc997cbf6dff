import { describe, expect, test } from "vitest";
import { DAMAGE_CASES } from "./support/damage.ts";
import { documentedVerdicts, ourVerdict } from "./support/damage-table.ts";

describe("the checker", () => {
  const documented = documentedVerdicts();

  test("has at least 50 damages in its table", () => {
    expect(Object.keys(DAMAGE_CASES).length).toBeGreaterThanOrEqual(50);
  });

  test.each(Object.keys(DAMAGE_CASES))("says of damage what the document says: %s", async (name) => {
    expect(await ourVerdict(name)).toBe(documented.get(name)?.[0]);
  });
});
