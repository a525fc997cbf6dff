/** Tests that need the reference machine: run where it can be, told at the end of `npm test` where it cannot. */
import { describeWith, recordGap, type TestRunner } from "@vdo/block-device/testing";
import { HOST_PROGRAMS } from "./host-programs.ts";
import { isOracleReady, oracleFolder } from "./setup.ts";

/**
 * Registers the tests of `body` when the reference machine is built, or in CI, where a machine that cannot be built is a
 * failure. Elsewhere one test takes their place and records what was not run. `more` are programs needed besides.
 */
export function describeWithKernel(
  name: string,
  body: () => void,
  runner: TestRunner,
  more: readonly string[] = [],
): void {
  const ready = isOracleReady();
  if (ready || process.env["CI"] === "true") {
    describeWith(["qemu-system-x86_64", ...more], name, body, runner);
    return;
  }
  const program = `the reference machine in ${oracleFolder()}`;
  const debianPackage = `${[...new Set(Object.values(HOST_PROGRAMS))].join(" ")}; then npm run oracle setup`;
  runner.describe(name, () => {
    runner.test("NOT RUN, for want of the reference machine", async () => {
      recordGap(name, [{ program, debianPackage }]);
    });
  });
}
