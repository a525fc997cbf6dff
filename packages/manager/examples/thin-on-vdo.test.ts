import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";

test("the example of thin on VDO prints what its comments say", async () => {
  const folder = mkdtempSync(join(tmpdir(), "thin-on-vdo-"));
  const words = process.argv;
  process.argv = [words[0] as string, words[1] as string, join(folder, "volume.vdo")];
  const print = vi.spyOn(console, "log").mockImplementation(() => undefined);
  try {
    await import("./thin-on-vdo.ts");
    const printed = print.mock.calls.map(([line]) => String(line));
    const source = readFileSync(new URL("./thin-on-vdo.ts", import.meta.url), "utf8");
    const expected = [...source.matchAll(/console\.log\(.*\n\/\/ (.*)\n/g)].map(([, line]) => line);
    expect(expected).toHaveLength(2);
    expect(printed).toEqual(expected);
  } finally {
    print.mockRestore();
    process.argv = words;
    rmSync(folder, { recursive: true, force: true });
  }
});
