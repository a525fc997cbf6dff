import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesUnder, readText, root } from "../src/workspace.ts";

const documents = filesUnder(root, ".md");
const FENCE = /^```\w+ file=(\S+)\n([\s\S]*?)^```$/gm;

describe("documents", () => {
  test("show example files as they are", () => {
    const wrong: string[] = [];
    for (const document of documents) {
      for (const [, path, shown] of readText(document).matchAll(FENCE)) {
        const file = join(root, dirname(document), path as string);
        if (!existsSync(file)) wrong.push(`${document}: ${path} does not exist`);
        else if (readFileSync(file, "utf8").trim() !== (shown as string).trim())
          wrong.push(`${document}: ${path} differs`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("link to files that exist", () => {
    const wrong: string[] = [];
    for (const document of documents) {
      const prose = readText(document).replace(/^```[\s\S]*?^```$/gm, "");
      for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
        const path = (target as string).split("#")[0] as string;
        if (path === "" || /^[a-z]+:/.test(path)) continue;
        if (!existsSync(join(root, dirname(document), path))) wrong.push(`${document}: ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});
