import { describe, expect, test } from "vitest";
import { runStep } from "./step.ts";

function step(script: string, limitSeconds = 20) {
  return runStep({ name: "a step of a test", command: [process.execPath, "-e", script], limitSeconds }, process.cwd());
}

describe("runStep", () => {
  test("succeeds with the program, and fails with its status", async () => {
    expect(await step("")).toMatchObject({ ok: true, reason: "" });
    expect(await step("process.exit(3)")).toMatchObject({ ok: false, reason: "status 3" });
  });

  test("kills what takes longer than its limit, and says so", async () => {
    expect(await step("setInterval(() => {}, 1000)", 0.3)).toMatchObject({
      ok: false,
      reason: "took longer than 0.3 s",
    });
  });

  test("fails when there is no such program", async () => {
    const result = await runStep({ name: "none", command: ["no-such-program-here"], limitSeconds: 5 }, process.cwd());
    expect(result.ok).toBe(false);
  });
});
