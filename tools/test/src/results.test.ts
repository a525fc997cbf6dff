import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readGaps, readReport } from "./results.ts";

const folder = mkdtempSync(join(tmpdir(), "vdo-results-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe("readReport", () => {
  test("counts tests, and a file that did not load as one failure", () => {
    const path = file(
      "report.json",
      JSON.stringify({
        numPassedTests: 4,
        numFailedTests: 1,
        numPendingTests: 2,
        testResults: [
          {
            name: "a.test.ts",
            status: "failed",
            message: "",
            assertionResults: [{ status: "failed", fullName: "a fails" }],
          },
          { name: "b.test.ts", status: "failed", message: "no such module\nmore", assertionResults: [] },
          { name: "c.test.ts", status: "passed", message: "", assertionResults: [{ status: "passed", fullName: "c" }] },
        ],
      }),
    );
    expect(readReport(path)).toEqual({
      passed: 4,
      failed: 2,
      skipped: 2,
      failures: ["a.test.ts: a fails", "b.test.ts: no such module"],
    });
  });

  test("takes a missing report for a failed run", () => {
    expect(readReport(join(folder, "none.json")).failed).toBe(1);
  });
});

describe("readGaps", () => {
  test("names each gap once, with the packages", () => {
    const gap = JSON.stringify({ name: "clients", missing: [{ program: "nbdcopy", debianPackage: "libnbd-bin" }] });
    expect(readGaps(file("gaps", `${gap}\n${gap}\n`))).toEqual(["clients: missing nbdcopy (libnbd-bin)"]);
    expect(readGaps(join(folder, "none"))).toEqual([]);
  });
});
