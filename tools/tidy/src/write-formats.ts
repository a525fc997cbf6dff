/** Writes docs/formats. Run it after a change of a layout; a test says when it was forgotten. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatDocuments } from "./format-tables.ts";
import { root } from "./workspace.ts";

const folder = join(root, "docs/formats");
mkdirSync(folder, { recursive: true });
for (const [name, content] of await formatDocuments()) {
  writeFileSync(join(folder, name), content);
  console.log(`docs/formats/${name}`);
}
