/** The steps of `npm test`, in order. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Step } from "./step.ts";

/** Test kinds run by vitest: project name → time limit. Their reports decide, not the step's status alone. */
export const TEST_PROJECTS = { unit: 1200, sim: 1200, interop: 900, kernel: 1500 } as const;
export type TestProject = keyof typeof TEST_PROJECTS;

export const STATIC_STEPS: readonly Step[] = [
  { name: "build", command: ["turbo", "run", "build", "--output-logs=errors-only"], limitSeconds: 300 },
  { name: "lint", command: ["biome", "ci", "."], limitSeconds: 120 },
  { name: "types", command: ["tsc", "-p", "tsconfig.json"], limitSeconds: 300 },
];

/** One step for each published package: the shape of what would be published. */
export function publishSteps(root: string): Step[] {
  const steps: Step[] = [];
  for (const group of ["packages", "apps"]) {
    for (const name of readdirSync(join(root, group)).sort()) {
      const folder = join(group, name);
      if (!existsSync(join(root, folder, "package.json"))) continue;
      steps.push({ name: `publint ${folder}`, command: ["publint", "run", "--strict", folder], limitSeconds: 120 });
    }
  }
  return steps;
}

/** The tests of one kind. Files that match none are fine: a kind may have no tests yet. */
export function testStep(project: TestProject, files: { report: string; gaps: string }): Step {
  return {
    name: `${project} tests`,
    command: [
      "vitest",
      "run",
      ...["--project", project, "--passWithNoTests"],
      ...["--reporter=default", "--reporter=json", `--outputFile.json=${files.report}`],
    ],
    limitSeconds: TEST_PROJECTS[project],
    env: { VDO_TEST_GAPS: files.gaps },
  };
}
