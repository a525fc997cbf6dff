import { readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";

test("snapshots.ts prints what its comments say", async () => {
  const source = readFileSync(new URL("snapshots.ts", import.meta.url), "utf8");
  const promised = /console\.log\(await pool\.status\(\)\);\n((?:\/\/ .*\n)+)/.exec(source)?.[1] ?? "";
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((line: string) => void printed.push(line.trimEnd()));
  await import("./snapshots.ts");
  log.mockRestore();
  expect(printed).toEqual(
    promised
      .trim()
      .split("\n")
      .map((line) => line.slice(3)),
  );
});
