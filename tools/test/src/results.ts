/** What the test runs left behind: vitest's JSON reports, and the list of what could not be run here. */
import { existsSync, readFileSync } from "node:fs";
import type { MissingProgram } from "@vdo/block-device/testing";

export interface TestCounts {
  passed: number;
  failed: number;
  /** Tests that exist but were not run. */
  skipped: number;
  /** `file: name` of each that failed. */
  failures: string[];
}

interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { status: string; fullName: string }[];
  }[];
}

/** Counts of one report. A file that failed without a failed test (it did not load) counts as one failure. */
export function readReport(path: string): TestCounts {
  const counts: TestCounts = { passed: 0, failed: 0, skipped: 0, failures: [] };
  if (!existsSync(path)) return { ...counts, failed: 1, failures: [`no report at ${path}: the run did not end`] };
  const report = JSON.parse(readFileSync(path, "utf8")) as VitestReport;
  counts.passed = report.numPassedTests;
  counts.failed = report.numFailedTests;
  counts.skipped = report.numPendingTests;
  for (const file of report.testResults) {
    const failed = file.assertionResults.filter((one) => one.status === "failed");
    counts.failures.push(...failed.map((one) => `${file.name}: ${one.fullName}`));
    if (file.status === "failed" && failed.length === 0) {
      counts.failed += 1;
      counts.failures.push(`${file.name}: ${file.message.split("\n")[0]}`);
    }
  }
  return counts;
}

/** What was not run, one line each, from the gap file that `recordGap` of @vdo/block-device/testing appends to. */
export function readGaps(path: string): string[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  return [...new Set(lines.filter((line) => line.trim() !== "").map(describeGap))].sort();
}

function describeGap(line: string): string {
  const gap = JSON.parse(line) as { name: string; missing: MissingProgram[] };
  return `${gap.name}: missing ${gap.missing.map((one) => `${one.program} (${one.debianPackage})`).join(", ")}`;
}
