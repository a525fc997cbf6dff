/** Our check beside thin_check: what one of them finds must be in the table, and what thin_check finds we find. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeWith, findProgram } from "@vdo/block-device/testing";
import { afterAll, describe, expect, test } from "vitest";
import { DAMAGE_CASES, damagedImage } from "./support/damage.ts";
import { DAMAGE_DOCUMENT, documentedVerdicts, ourVerdict } from "./support/damage-table.ts";

const PROGRESS = /^(examining|checking|TRANSACTION_ID|METADATA_FREE)/;

/** The verdict of thin_check and its texts, as the table shows them. */
function theirVerdict(image: string): string {
  const program = findProgram("thin_check") as string;
  const run = spawnSync(program, [image], { encoding: "utf8" });
  if (run.signal !== null) return `**crashes** (${run.signal})`;
  const lines = `${run.stderr}\n${run.stdout}`.split("\n").map((line) => line.trim());
  const texts = [...new Set(lines.filter((line) => line !== "" && !PROGRESS.test(line)))];
  if (run.status === 0) return "passes";
  const harmless = spawnSync(program, ["-q", "--ignore-non-fatal-errors", image]).status === 0;
  return `${harmless ? "**non-fatal**" : "**fatal**"}: ${texts.slice(0, 3).join("; ")}`;
}

const HEAD = `# What is found in damaged metadata

The pool of test/golden/life.sh, damaged in ${Object.keys(DAMAGE_CASES).length} ways; sums are right again unless a bit was flipped. First column: the damage;
second: \`check\` of this package; third: \`thin_check\` 0.9 of Debian 12. Whatever thin_check finds, \`check\` finds. Tests
compare this table with both programs (\`test/damage.test.ts\`, \`test/damage.interop.test.ts\`; the latter writes it anew when
UPDATE_DAMAGE is set).

`;

describeWith(
  ["thin_check"],
  "the checker beside thin_check",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "thin-damage-"));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const isDocumented = execFileSync(findProgram("thin_check") ?? "thin_check", ["-V"], {
      encoding: "utf8",
    }).startsWith("0.9");

    test("finds all that thin_check finds, as documented", async () => {
      const rows: string[] = ["| damage | check | thin_check 0.9 |", "| --- | --- | --- |"];
      const documented = documentedVerdicts();
      for (const name of Object.keys(DAMAGE_CASES)) {
        const image = join(folder, "image");
        writeFileSync(image, await damagedImage(name));
        const [ours, theirs] = [await ourVerdict(name), theirVerdict(image)];
        rows.push(`| ${name} | ${ours} | ${theirs} |`);
        if (theirs !== "passes") expect(ours, name).toMatch(/fatal/);
        if (theirs.startsWith("**fatal")) expect(ours, name).toMatch(/\*\*fatal/);
        if (isDocumented && process.env["UPDATE_DAMAGE"] === undefined)
          expect([ours, theirs]).toEqual(documented.get(name));
      }
      if (process.env["UPDATE_DAMAGE"] !== undefined) writeFileSync(DAMAGE_DOCUMENT, `${HEAD}${rows.join("\n")}\n`);
    });
  },
  { describe, test },
);
