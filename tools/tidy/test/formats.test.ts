import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatDocuments } from "../src/format-tables.ts";
import { root } from "../src/workspace.ts";

test("docs/formats shows the layouts as they are: `npm run formats` brings it up to date", async () => {
  for (const [name, content] of await formatDocuments()) {
    expect(content).toContain("| offset |");
    expect(readFileSync(join(root, "docs/formats", name), "utf8")).toBe(content);
  }
});
