/**
 * What `npm test` runs once the packages are installed: build, lint, types, package shapes, and all kinds of tests.
 *
 * Tests that need Debian packages run where these are installed. Elsewhere the run passes all the same and says at its end,
 * by name, what it could not run and what is missing; with CI=true a missing package is a failure and nothing is skipped.
 * Every step runs, also after one failed. The last line is `N passed, N failed`: tests, and failed steps that are not tests.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { missingPackages } from "@vdo/oracle";
import { readGaps, readReport, type TestCounts } from "./results.ts";
import { runStep, type StepResult } from "./step.ts";
import { publishSteps, STATIC_STEPS, TEST_PROJECTS, type TestProject, testStep } from "./steps.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const ci = process.env["CI"] === "true";

/** Builds the reference machine where its packages are; without network that is a gap, in CI a failure. */
async function prepareOracle(): Promise<StepResult | undefined> {
  const missing = missingPackages();
  if (missing.length > 0 && !ci) return undefined;
  const command = ["tsx", "--conditions=@vdo/source", "tools/oracle/src/cli.ts", "setup"];
  const result = await runStep({ name: "reference machine", command, limitSeconds: 420 }, root);
  // Without network the kernel tests record the gap themselves.
  return ci ? result : { ...result, ok: true };
}

async function runTests(folder: string, gaps: string): Promise<{ steps: StepResult[]; counts: TestCounts[] }> {
  const steps: StepResult[] = [];
  const counts: TestCounts[] = [];
  for (const project of Object.keys(TEST_PROJECTS) as TestProject[]) {
    const report = join(folder, `${project}.json`);
    const result = await runStep(testStep(project, { report, gaps }), root);
    const count = readReport(report);
    if (ci && count.skipped > 0) {
      count.failed += count.skipped;
      count.failures.push(`${project}: ${count.skipped} tests were skipped, which CI does not allow`);
    }
    // A failed run whose report shows no failure: unhandled errors, or the time limit.
    if (!result.ok && count.failed === 0) {
      count.failed = 1;
      count.failures.push(`${project}: ${result.reason}`);
    }
    steps.push({ ...result, ok: count.failed === 0 });
    counts.push(count);
  }
  return { steps, counts };
}

async function main(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "vdo-test-"));
  const gapFile = join(folder, "gaps");
  try {
    const steps: StepResult[] = [];
    for (const step of [...STATIC_STEPS, ...publishSteps(root)]) steps.push(await runStep(step, root));
    const oracle = await prepareOracle();
    if (oracle !== undefined) steps.push(oracle);
    const tests = await runTests(folder, gapFile);
    const failedSteps = steps.filter((step) => !step.ok);
    report([...steps, ...tests.steps], tests.counts, readGaps(gapFile));
    const passed = tests.counts.reduce((sum, count) => sum + count.passed, 0);
    const failed = tests.counts.reduce((sum, count) => sum + count.failed, 0) + failedSteps.length;
    console.log(`${passed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(steps: readonly StepResult[], counts: readonly TestCounts[], gaps: readonly string[]): void {
  console.log("\n=== summary");
  for (const step of steps) {
    console.log(`${step.ok ? "ok  " : "FAIL"} ${step.name} ${step.seconds} s${step.ok ? "" : ` (${step.reason})`}`);
  }
  for (const failure of counts.flatMap((count) => count.failures)) console.log(`failed: ${failure}`);
  if (gaps.length > 0) {
    console.log("\nNot run here, for want of system packages (.ci/run installs them):");
    for (const gap of gaps) console.log(`- ${gap}`);
  }
  console.log("");
}

// Steps lead process groups of their own, which a control-C does not reach: leaving through exit ends them.
process.once("SIGINT", () => process.exit(130));
process.once("SIGTERM", () => process.exit(143));
process.exitCode = await main();
