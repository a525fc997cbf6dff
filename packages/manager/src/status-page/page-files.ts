/** The files of the page: HTML and CSS as they are in the source, scripts as the build makes them. Nothing else is served. */
import { readdir, readFile } from "node:fs/promises";

export interface PageFile {
  type: string;
  content: Buffer;
}

/** The same places from `src/status-page` and from `dist/status-page`. */
const SOURCE = new URL("../../src/status-page/browser/", import.meta.url);
const BUILT = new URL("../../dist/status-page/browser/", import.meta.url);

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  js: "text/javascript; charset=utf-8",
};

/** Files by the path that a browser asks for; without scripts when the package was not built. */
export async function loadPageFiles(): Promise<ReadonlyMap<string, PageFile>> {
  const files = new Map<string, PageFile>();
  for (const [folder, endings] of [
    [SOURCE, ["html", "css", "svg"]],
    [BUILT, ["js"]],
  ] as const) {
    for (const name of await readdir(folder).catch(() => [])) {
      const ending = endings.find((one) => name.endsWith(`.${one}`));
      if (ending === undefined) continue;
      const path = name === "index.html" ? "/" : `/${name}`;
      files.set(path, { type: TYPES[ending] as string, content: await readFile(new URL(name, folder)) });
    }
  }
  return files;
}
