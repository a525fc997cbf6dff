/** The package as its users get it: packed, installed into an empty project, its example run there. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Random } from "@vdo/base";
import { afterAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const project = mkdtempSync(join(tmpdir(), "uds-packed-"));
afterAll(() => rmSync(project, { recursive: true, force: true }));

function run(folder: string, program: string, ...words: string[]): string {
  return execFileSync(program, words, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Builds (where sources are newer) and packs a package; returns the path of the tarball. */
function pack(name: string): string {
  const folder = join(root, "packages", name);
  run(folder, join(root, "node_modules/.bin/tsc"), "-p", "tsconfig.build.json");
  const target = join(project, name);
  run(folder, join(root, "node_modules/.bin/pnpm"), "pack", "--pack-destination", target);
  return join(target, readdirSync(target)[0] as string);
}

test("the example finds duplicates in an empty project, from the packed tarballs", () => {
  const tarballs = ["base", "block-device", "uds"].map(pack);
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  run(project, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", ...tarballs);
  expect(existsSync(join(project, "node_modules/xxhash-wasm/package.json"))).toBe(true);
  // The example has no types in it, so it is JavaScript as it stands.
  copyFileSync(join(root, "packages/uds/examples/find-duplicates.ts"), join(project, "find-duplicates.mjs"));
  // 300 blocks, of which 100 and the last 50 are copies.
  const unique = new Random(1).fill(new Uint8Array(150 * 4096));
  const data = Buffer.concat([unique, unique.subarray(0, 100 * 4096), unique.subarray(50 * 4096, 100 * 4096)]);
  writeFileSync(join(project, "data"), data);
  expect(run(project, process.execPath, "find-duplicates.mjs", "data")).toBe("300 blocks, 150 duplicates\n");
});
