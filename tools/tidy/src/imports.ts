/** What a file imports. */
export interface Import {
  /** As written: "@vdo/base", "node:fs", "./x.ts". */
  specifier: string;
  /** 1-based. */
  line: number;
}

const STATEMENT =
  /(?:^|\n)\s*(?:import|export)\b[^"';]*?\bfrom\s*"([^"]+)"|(?:^|\n)\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g;

/** Static and dynamic imports and re-exports of a file's text. */
export function importsOf(text: string): Import[] {
  const withoutComments = text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " "));
  return [...withoutComments.matchAll(STATEMENT)].map((match) => ({
    specifier: (match[1] ?? match[2] ?? match[3]) as string,
    line: withoutComments.slice(0, match.index + match[0].length).split("\n").length,
  }));
}

/** "@vdo/uds/testing" → "@vdo/uds", "yaml/x" → "yaml"; undefined for relative and node: imports. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith(".") || specifier.startsWith("node:")) return undefined;
  const parts = specifier.split("/");
  return specifier.startsWith("@") ? parts.slice(0, 2).join("/") : parts[0];
}
