import { readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";

test("the example prints what its comments say", async () => {
  const print = vi.spyOn(console, "log").mockImplementation(() => undefined);
  await import("./share-a-disk.ts");
  const printed = print.mock.calls.map(([line]) => String(line)).join("\n");
  print.mockRestore();
  const source = readFileSync(new URL("./share-a-disk.ts", import.meta.url), "utf8");
  // Comments that follow a console.log, until other code comes, are its output.
  const expected: string[] = [];
  let follows = false;
  for (const line of source.split("\n")) {
    if (follows && line.startsWith("// ")) expected.push(line.slice(3));
    else follows = line.startsWith("console.log(");
  }
  expect(expected.length).toBeGreaterThan(0);
  expect(printed).toBe(expected.join("\n"));
});
