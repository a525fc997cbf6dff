/** The table of docs/damage.md: what our check and thin_check say of each damage. */
import { readFileSync } from "node:fs";
import { MemoryDevice } from "@vdo/block-device";
import { check } from "../../src/index.ts";
import { damagedImage } from "./damage.ts";

export const DAMAGE_DOCUMENT = new URL("../../docs/damage.md", import.meta.url);

/** Our verdict and the first texts, as the table shows them. */
export async function ourVerdict(name: string): Promise<string> {
  const { problems, counts } = await check(MemoryDevice.from(await damagedImage(name)));
  if (problems.length === 0) return "passes";
  const verdict = counts.fatal > 0 ? "**fatal**" : counts["non-fatal"] > 0 ? "**non-fatal**" : "warning";
  const order = ["fatal", "non-fatal", "warning"];
  const worst = problems.toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
  const texts = worst.slice(0, 2).map(({ structure, text }) => `${structure}: ${text}`);
  const more = problems.length > 2 ? `, and ${problems.length - 2} more` : "";
  return `${verdict}: ${texts.join("; ")}${more}`;
}

/** Cells of the table by damage: ours, thin_check's. */
export function documentedVerdicts(): Map<string, [string, string]> {
  const rows = new Map<string, [string, string]>();
  for (const line of readFileSync(DAMAGE_DOCUMENT, "utf8").split("\n")) {
    const cells = line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "").trim());
    if (cells.length === 3) rows.set(cells[0] as string, [cells[1] as string, cells[2] as string]);
  }
  return rows;
}
