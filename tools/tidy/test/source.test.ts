import { describe, expect, test } from "vitest";
import { BIGINT_FILES, FILE_LINES_MAX, HOT_PATHS, IMPURE_FILES, PURE } from "../src/rules.ts";
import { codeOf, filesUnder, isTest, packages, readText, root } from "../src/workspace.ts";

const all = packages();
const files = all.flatMap((one) => one.files);

/** `file:line: match` for every match in the code (not in comments and strings) of `among`. */
function matches(among: readonly string[], pattern: RegExp): string[] {
  const found: string[] = [];
  for (const file of among) {
    const lines = codeOf(readText(file)).split("\n");
    for (const [index, line] of lines.entries()) {
      const match = pattern.exec(line);
      if (match !== null) found.push(`${file}:${index + 1}: ${match[0]}`);
    }
  }
  return found;
}

describe("source files", () => {
  test(`have at most ${FILE_LINES_MAX} lines`, () => {
    const long = files.filter((file) => readText(file).split("\n").length - 1 > FILE_LINES_MAX);
    expect(long).toEqual([]);
  });

  test("export names one by one", () => {
    expect(matches(files, /\bexport\s+\*/)).toEqual([]);
  });

  test("of the libraries have no hidden inputs", () => {
    const pure = all
      .filter((one) => PURE.includes(one.room) && one.folder.startsWith("packages/"))
      .flatMap((one) => one.files)
      .filter((file) => !file.endsWith(".test.ts") && !file.includes("/test/") && !file.includes("/examples/"))
      .filter((file) => !(file in IMPURE_FILES));
    const hidden =
      /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bcrypto\.random\w+|\bset(?:Timeout|Interval)\b|\bperformance\.now\b|\bprocess\.(?:env|hrtime|argv|cwd)\b/;
    expect(matches(pure, hidden)).toEqual([]);
  });

  test("that are listed as impure exist", () => {
    expect(Object.keys(IMPURE_FILES).filter((file) => !files.includes(file))).toEqual([]);
  });

  test("on hot paths use no BigInt", () => {
    const hot = files.filter((file) => HOT_PATHS.some((path) => file.startsWith(path)));
    const unknown = HOT_PATHS.filter((path) => !files.some((file) => file.startsWith(path)));
    expect(unknown, "every hot path names files that exist").toEqual([]);
    const judged = hot.filter((file) => !isTest(file) && !(file in BIGINT_FILES));
    expect(matches(judged, /\bBigInt\b|\b\d[\d_]*n\b|\b0x[\da-fA-F_]+n\b|\bBig(?:Int|Uint)64|\b[gs]etBig\w+/)).toEqual(
      [],
    );
  });

  test("open with what they are", () => {
    const silent = files.filter((file) => {
      if (isTest(file) || file.endsWith("/index.ts")) return false;
      const lines = readText(file).split("\n");
      return lines.length > 20 && !/\/\*\*|^\/\//m.test(lines.slice(0, 60).join("\n"));
    });
    expect(silent).toEqual([]);
  });
});

describe("tests", () => {
  test("are never switched off or run alone", () => {
    const testFiles = files.filter((file) => file.endsWith(".test.ts"));
    expect(matches(testFiles, /\b(?:test|it|describe)\.(?:skip|only|todo)\b/)).toEqual([]);
  });

  test("state something", () => {
    const testFiles = files.filter((file) => file.endsWith(".test.ts"));
    const silent = testFiles.filter(
      (file) => !/\bexpect\b|\bassert\b|layoutLaws|Compliance\(|compliance\(|invariant\(/.test(readText(file)),
    );
    expect(silent).toEqual([]);
  });
});

describe("texts", () => {
  const texts = [...files, ...filesUnder(root, ".md"), ...filesUnder(root, ".sh")].filter(
    (file) => !file.startsWith("tools/tidy/"),
  );

  test("name no folder of somebody's machine", () => {
    const found = [...new Set(texts)].flatMap((file) =>
      readText(file)
        .split("\n")
        .flatMap((line, index) =>
          /(^|[\s"'`(=])\/(work|farm|home|Users)\//.test(line) ? [`${file}:${index + 1}`] : [],
        ),
    );
    expect(found).toEqual([]);
  });

  test("leave nothing for later without saying for which case", () => {
    const found = files.flatMap((file) =>
      readText(file)
        .split("\n")
        .flatMap((line, index) => {
          const vague = /\b(?:FIXME|XXX|HACK)\b|\bTODO\b(?!\()|not (?:yet )?implemented/i.test(line);
          return vague && !file.startsWith("tools/tidy/") ? [`${file}:${index + 1}: ${line.trim()}`] : [];
        }),
    );
    expect(found).toEqual([]);
  });
});
