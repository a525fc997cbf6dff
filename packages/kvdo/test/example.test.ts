/** The example runs, does what it says, and is the one that the README shows. */
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileDevice } from "@vdo/block-device";
import { afterEach, expect, test, vi } from "vitest";
import { readVolumeInfo } from "../src/index.ts";

const argv = process.argv;
afterEach(() => {
  process.argv = argv;
  vi.restoreAllMocks();
});

test("the example makes a volume of a hundred and one blocks, two of them stored", async () => {
  const folder = await mkdtemp(join(tmpdir(), "vdo-example-"));
  try {
    const path = join(folder, "volume.vdo");
    const lines: string[] = [];
    vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
    process.argv = [...argv.slice(0, 2), path];
    await import("../examples/volume-on-a-file.ts");
    expect(lines).toEqual(["101 blocks written, 2 stored, read back: true"]);
    expect((await stat(path)).blocks * 512).toBeLessThan(200e6);
    const device = await FileDevice.open({ path, readOnly: true });
    expect((await readVolumeInfo(device)).state).toBe("CLEAN");
    await device.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the README shows the example as it is, and it is short", async () => {
  const example = await readFile(new URL("../examples/volume-on-a-file.ts", import.meta.url), "utf8");
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const shown = /```ts file=examples\/volume-on-a-file\.ts\n([\s\S]*?)```/.exec(readme)?.[1];
  expect(shown).toBe(example);
  expect(example.split("\n").length).toBeLessThanOrEqual(31);
});
