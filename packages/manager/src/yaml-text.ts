/** YAML text for people and scripts: version 1.1, block style, quoted only where needed. */
import { Document, isNode, YAMLMap } from "yaml";

/** The text of `value`; the keys of nested mappings are sorted bytewise, the top level keeps its order. */
export function yamlText(value: Readonly<Record<string, unknown>>): string {
  const document = new Document(undefined, { version: "1.1" });
  const top = new YAMLMap();
  for (const [key, item] of Object.entries(value)) top.set(key, document.createNode(sorted(item)));
  document.contents = top as unknown as typeof document.contents;
  return document.toString({ singleQuote: true, lineWidth: 0, nullStr: "null" });
}

function sorted(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value) || isNode(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
