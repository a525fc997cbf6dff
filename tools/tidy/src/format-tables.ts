/** The tables of docs/formats, made from the layouts that the packages declare. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { FieldPlace } from "@vdo/base";
import { filesUnder, isTest, readText, root } from "./workspace.ts";

/** Packages with on-disk structures: short name → what the document is called and about. */
const DOCUMENTS: Readonly<Record<string, string>> = {
  kvdo: "The structures of a VDO volume",
  ploop: "The structures of a ploop image",
  uds: "The structures of a deduplication index",
  thin: "The structures of a thin pool",
};

interface Layout {
  name: string;
  size: number;
  fields: readonly FieldPlace[];
}

function isLayout(value: unknown): value is Layout {
  if (typeof value !== "object" || value === null) return false;
  const { name, size, fields } = value as Partial<Layout>;
  return typeof name === "string" && typeof size === "number" && Array.isArray(fields);
}

/** All layouts that files of the package export, with the file each is declared in. */
async function layoutsOf(room: string): Promise<{ file: string; layout: Layout }[]> {
  const found: { file: string; layout: Layout }[] = [];
  const seen = new Set<unknown>();
  for (const file of filesUnder(join(root, "packages", room, "src"), ".ts")) {
    if (isTest(file) || !/\bstruct\(/.test(readText(file))) continue;
    const module = (await import(pathToFileURL(join(root, file)).href)) as Record<string, unknown>;
    for (const value of Object.values(module)) {
      if (!isLayout(value) || seen.has(value)) continue;
      seen.add(value);
      found.push({ file, layout: value });
    }
  }
  // Within a file by name: the order of a module's names depends on what loaded it.
  return found.sort((a, b) => compare(a.file, b.file) || compare(a.layout.name, b.layout.name));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function table({ fields }: Layout): string {
  const rows = [
    ["offset", "size", "field", "kind"],
    ...fields.map((one) => [`${one.offset}`, `${one.size}`, one.name, one.kind]),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(3, ...rows.map((row) => (row[column] as string).length)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i] as number)).join(" | ")} |`;
  const [head, ...body] = rows as [string[], ...string[][]];
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body.map(line)].join("\n");
}

/** File name in docs/formats → content. */
export async function formatDocuments(): Promise<Map<string, string>> {
  const documents = new Map<string, string>();
  for (const [room, title] of Object.entries(DOCUMENTS)) {
    const parts = [`# ${title}`, "Made by `npm run formats` from the layouts in the code; numbers are bytes, decimal."];
    for (const { file, layout } of await layoutsOf(room)) {
      parts.push(`## ${layout.name}\n\n${layout.size} bytes, declared in [${file}](../../${file}).`, table(layout));
    }
    documents.set(`${room}.md`, `${parts.join("\n\n")}\n`);
  }
  return documents;
}
