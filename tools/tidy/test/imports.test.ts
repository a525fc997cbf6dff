import { describe, expect, test } from "vitest";
import { importsOf, packageOf } from "../src/imports.ts";
import { ARROWS, NODE_FILES, NODE_MODULES, OUTSIDE } from "../src/rules.ts";
import { isTest, type Package, packages, readText } from "../src/workspace.ts";

const all = packages();
const rooms = new Map(all.map((one) => [one.manifest.name, one]));

/** `file:line: text` for each import of the package's files that `wrong` has something to say about. */
function complaints(one: Package, wrong: (specifier: string, file: string) => string | undefined): string[] {
  const found: string[] = [];
  for (const file of one.files) {
    for (const { specifier, line } of importsOf(readText(file))) {
      const text = wrong(specifier, file);
      if (text !== undefined) found.push(`${file}:${line}: ${text}`);
    }
  }
  return found;
}

describe("imports", () => {
  test.each(all.filter((one) => one.folder.startsWith("packages/")))("of $folder follow the arrows", (one) => {
    const allowed = ARROWS[one.room];
    expect(allowed, `${one.room} is in the table of arrows`).toBeDefined();
    const wrong = complaints(one, (specifier, file) => {
      const target = rooms.get(packageOf(specifier) ?? "");
      if (target === undefined || target === one || allowed?.includes(target.room)) return undefined;
      if (target.room === "oracle" && isTest(file)) return undefined;
      return `${one.room} may not import ${specifier}`;
    });
    expect(wrong).toEqual([]);
  });

  test("of apps reach packages only, and nothing imports an app or, except tests that need the kernel, a tool", () => {
    const wrong = all.flatMap((one) =>
      complaints(one, (specifier, file) => {
        const target = rooms.get(packageOf(specifier) ?? "");
        if (target === undefined || target === one || target.folder.startsWith("packages/")) return undefined;
        if (target.folder.startsWith("tools/") && one.folder.startsWith("tools/")) return undefined;
        if (target.room === "oracle" && isTest(file)) return undefined;
        return `${one.room} may not import ${specifier}`;
      }),
    );
    expect(wrong).toEqual([]);
  });

  test.each(all)("of $folder are declared in its package.json", (one) => {
    const runTime = new Set(Object.keys(one.manifest.dependencies ?? {}));
    const wrong = complaints(one, (specifier, file) => {
      const name = packageOf(specifier);
      if (name === undefined || name === one.manifest.name || runTime.has(name)) return undefined;
      const forTests = isTest(file) || file.includes("/examples/");
      if (forTests && (name in (one.manifest.devDependencies ?? {}) || ["vitest", "fast-check"].includes(name)))
        return undefined;
      return `${specifier} is not a dependency of ${one.manifest.name}`;
    });
    expect(wrong).toEqual([]);
  });

  test.each(all.filter((one) => one.room in OUTSIDE))("of $folder from outside are the agreed ones", (one) => {
    const outside = Object.keys(one.manifest.dependencies ?? {}).filter((name) => !rooms.has(name));
    expect(outside.filter((name) => !OUTSIDE[one.room]?.includes(name))).toEqual([]);
    const wrong = complaints(one, (specifier, file) =>
      isTest(file) ||
      file in NODE_FILES ||
      file.includes("/examples/") ||
      !specifier.startsWith("node:") ||
      NODE_MODULES[one.room]?.includes(specifier)
        ? undefined
        : `${one.room} may not use ${specifier}`,
    );
    expect(wrong).toEqual([]);
  });

  test.each(all)("of $folder stay inside it, by relative paths that end in .ts", (one) => {
    const wrong = complaints(one, (specifier, file) => {
      if (!specifier.startsWith(".")) return undefined;
      const target = new URL(specifier, `file:///${file}`).pathname.slice(1);
      if (!target.startsWith(`${one.folder}/`)) return `${specifier} leaves ${one.folder}`;
      return /\.(ts|json)$/.test(specifier) ? undefined : `${specifier} has no .ts ending`;
    });
    expect(wrong).toEqual([]);
  });
});

describe("importsOf", () => {
  test("finds static, side-effect, type, re-exporting and dynamic imports with their lines", () => {
    const text =
      'import { a } from "./a.ts";\nimport "./b.ts";\nexport {\n  c,\n} from "c/d";\nawait import("node:e");\n// import "f";\n';
    expect(importsOf(text).map(({ specifier, line }) => `${line} ${specifier}`)).toEqual([
      "1 ./a.ts",
      "2 ./b.ts",
      "5 c/d",
      "6 node:e",
    ]);
    expect(packageOf("@vdo/uds/testing")).toBe("@vdo/uds");
  });
});
