/** The example runs, prints what its comments say, and is the one that the README shows. */
import { readFile } from "node:fs/promises";
import { afterEach, expect, test, vi } from "vitest";

afterEach(() => {
  vi.restoreAllMocks();
});

test("the example prints what its comments say", async () => {
  const source = await readFile(new URL("../examples/versioned-store.ts", import.meta.url), "utf8");
  const promised = [...source.matchAll(/^console\.log.*; \/\/ (.*)$/gm)].map((match) => match[1]);
  const lines: string[] = [];
  vi.spyOn(console, "log").mockImplementation((line: unknown) => void lines.push(String(line)));
  await import("../examples/versioned-store.ts");
  expect(lines).toEqual(promised);
  expect(lines.length).toBe(3);
});

test("the example is short, and the README shows it", async () => {
  const source = await readFile(new URL("../examples/versioned-store.ts", import.meta.url), "utf8");
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  expect(/```ts file=examples\/versioned-store\.ts\n([\s\S]*?)```/.exec(readme)?.[1]).toBe(source);
  const code = source.split("\n").filter((line) => line.trim() !== "" && !/^\s*(?:\/\/|\/\*\*)/.test(line));
  expect(code.length).toBeLessThanOrEqual(31);
});
