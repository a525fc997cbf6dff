/** The workspace as data: its packages and their source files. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../../", import.meta.url));

export interface Package {
  /** Folder from the root, for example "packages/uds". */
  folder: string;
  /** Short name: the folder's last part. */
  room: string;
  manifest: Manifest;
  /** TypeScript files of src, test and examples, from the root. */
  files: readonly string[];
}

export interface Manifest {
  name: string;
  private?: boolean;
  type?: string;
  license?: string;
  main?: string;
  files?: string[];
  engines?: Record<string, string>;
  exports?: Record<string, unknown>;
  publishConfig?: { access?: string; provenance?: boolean };
  repository?: { directory?: string };
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

export function packages(): Package[] {
  const found: Package[] = [];
  for (const group of ["packages", "apps", "tools"]) {
    for (const room of readdirSync(join(root, group)).sort()) {
      const folder = join(group, room);
      const manifest = join(root, folder, "package.json");
      if (!existsSync(manifest)) continue;
      const files = ["src", "test", "examples"].flatMap((part) => filesUnder(join(root, folder, part), ".ts"));
      found.push({ folder, room, manifest: JSON.parse(readFileSync(manifest, "utf8")) as Manifest, files });
    }
  }
  return found;
}

/** Files below `folder` whose name ends in `ending`, from the root, sorted; none when the folder is absent. */
export function filesUnder(folder: string, ending: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !/(^|\/)(node_modules|dist)\//.test(path))
    .sort();
}

export function readText(file: string): string {
  return readFileSync(join(root, file), "utf8");
}

export function isTest(file: string): boolean {
  return file.endsWith(".test.ts") || file.includes("/test/") || file.includes("/testing/");
}

/** The text with comments and the inside of string literals blanked, lines kept: what is left is code. */
export function codeOf(text: string): string {
  const token = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;
  return text.replace(token, (match) => {
    if (match.startsWith("/")) return match.replace(/[^\n]/g, " ");
    // Placeholders of templates are code; the rest of a literal is not.
    if (match.startsWith("`")) return (match.match(/\$\{[^}]*\}|\n/g) ?? []).join(" ");
    return '""';
  });
}
