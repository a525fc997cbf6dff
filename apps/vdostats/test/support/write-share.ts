/** Writes the files of `share` that are made from the program's table: `npx tsx test/support/write-share.ts`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { SHARE_FILES } from "./share-files.ts";

for (const [path, make] of Object.entries(SHARE_FILES)) {
  const file = new URL(`../../share/${path}`, import.meta.url);
  mkdirSync(new URL(".", file), { recursive: true });
  writeFileSync(file, make());
}
