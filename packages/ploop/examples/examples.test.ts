import { readFile } from "node:fs/promises";
import { expect, test, vi } from "vitest";

test("the example prints what its comments say", async () => {
  const printed: string[] = [];
  const spy = vi.spyOn(console, "log").mockImplementation((value: unknown) => void printed.push(String(value)));
  await import("./first-image.ts");
  spy.mockRestore();
  const text = await readFile(new URL("./first-image.ts", import.meta.url), "utf8");
  const expected = [...text.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map((match) => match[1]);
  expect(printed).toEqual(expected);
});
