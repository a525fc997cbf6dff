import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { BLOCK, packFiles } from "./files.ts";

const folder = mkdtempSync(join(tmpdir(), "vdo-pack-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("files are packed in the order of their names, each on a block of its own, links and the rest left out", () => {
  const source = join(folder, "source");
  mkdirSync(join(source, "b"), { recursive: true });
  mkdirSync(join(source, ".git"));
  writeFileSync(join(source, "a"), "first");
  writeFileSync(join(source, "b", "c"), "x".repeat(BLOCK + 1));
  writeFileSync(join(source, "empty"), "");
  writeFileSync(join(source, "too-large"), "y".repeat(100_000));
  writeFileSync(join(source, ".git", "HEAD"), "nothing of this");
  symlinkSync(join(source, "a"), join(source, "link"));
  const image = join(folder, "image");
  const packed = packFiles({ folders: [source], image, bytesMax: 50_000 });
  const data = readFileSync(image);
  expect(packed).toMatchObject({ files: 2, bytes: 5 + BLOCK + 1, imageBytes: 3 * BLOCK });
  expect(data.subarray(0, 5).toString()).toBe("first");
  expect(data.subarray(BLOCK, 2 * BLOCK + 1).toString()).toBe("x".repeat(BLOCK + 1));
  expect(packed.sha256).toBe(createHash("sha256").update(data).digest("hex"));
});
