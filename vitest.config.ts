import { defineConfig } from "vitest/config";

const conditions = ["@vdo/source", "module", "node", "import", "default"];
const exclude = ["**/node_modules/**", "**/dist/**"];

/** Test kinds: `unit` is fast and needs nothing; `sim` takes minutes; `interop` and `kernel` need system packages (see tools/oracle). */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["{packages,apps,tools}/*/{src,test,examples}/**/*.test.ts"],
          exclude: [...exclude, "**/*.interop.test.ts", "**/*.kernel.test.ts", "**/*.sim.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: {
          name: "sim",
          include: ["{packages,apps,tools}/*/{src,test}/**/*.sim.test.ts"],
          exclude,
          testTimeout: 300_000,
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: {
          name: "interop",
          include: ["{packages,apps,tools}/*/{src,test}/**/*.interop.test.ts"],
          exclude,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          maxWorkers: 1,
        },
      },
      {
        extends: true,
        test: {
          name: "kernel",
          include: ["{packages,apps,tools}/*/{src,test}/**/*.kernel.test.ts"],
          exclude,
          testTimeout: 900_000,
          hookTimeout: 900_000,
          maxWorkers: 1,
        },
      },
    ],
  },
});
