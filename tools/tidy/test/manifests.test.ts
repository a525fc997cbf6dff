import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packages, root } from "../src/workspace.ts";

const all = packages();
const published = all.filter((one) => one.manifest.private !== true);

describe("package.json", () => {
  test.each(all)("of $folder has the common fields", ({ manifest }) => {
    expect(manifest.type).toBe("module");
    expect(manifest.license).toBe("GPL-2.0-or-later");
    expect(manifest.engines?.["node"]).toBe(">=20.19");
    expect(manifest.main).toBeUndefined();
  });

  test("is private in tools, and only there", () => {
    expect(all.filter((one) => one.folder.startsWith("tools/") !== (one.manifest.private === true))).toEqual([]);
  });

  test.each(published)("of $folder is ready to be published", ({ folder, manifest }) => {
    expect(manifest.publishConfig).toEqual({ access: "public", provenance: true });
    expect(manifest.repository?.directory).toBe(folder);
    expect(manifest.files?.slice(0, 2)).toEqual(["dist", "src"]);
    expect(manifest.exports?.["./package.json"]).toBe("./package.json");
    for (const [entry, conditions] of Object.entries(manifest.exports ?? {})) {
      if (entry === "./package.json") continue;
      expect(Object.keys(conditions as object), `conditions of ${entry}`).toEqual(["@vdo/source", "types", "default"]);
      const source = (conditions as Record<string, string>)["@vdo/source"] as string;
      expect(existsSync(join(root, folder, source)), source).toBe(true);
    }
  });

  test("is accompanied by a README in everything that is published", () => {
    expect(
      published.filter((one) => !existsSync(join(root, one.folder, "README.md"))).map((one) => one.folder),
    ).toEqual([]);
  });
});
