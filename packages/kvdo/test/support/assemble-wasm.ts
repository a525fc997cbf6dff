/**
 * Assembles the WebAssembly sources in `src/compute/wasm` and embeds the bytes as base64 in a module beside them.
 * Run with `pnpm --filter @vdo/kvdo build:wasm` after changing a source; a test compares the two.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import assembler from "wabt";

const FOLDER = fileURLToPath(new URL("../../src/compute/wasm/", import.meta.url));

/** Names of the sources, without `.wat`. */
export function wasmSources(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith(".wat"))
    .map((file) => file.slice(0, -4));
}

/** `lz4-decode` becomes `LZ4_DECODE_WASM`. */
function constantName(name: string): string {
  return `${name.replaceAll("-", "_").toUpperCase()}_WASM`;
}

/** The module that embeds the assembled bytes of `name`. */
export async function assembledModule(name: string): Promise<string> {
  const wabt = await assembler();
  const module = wabt.parseWat(`${name}.wat`, readFileSync(`${FOLDER}${name}.wat`, "utf8"), { bulk_memory: true });
  module.resolveNames();
  module.validate();
  const text = Buffer.from(module.toBinary({}).buffer).toString("base64");
  module.destroy();
  const lines = text.match(/.{1,110}/g) ?? [];
  const joined = lines.map((line) => `  "${line}"`).join(" +\n");
  return `/** Assembled from ${name}.wat by \`pnpm --filter @vdo/kvdo build:wasm\`. Do not edit. */\nexport const ${constantName(name)} =\n${joined};\n`;
}

/** Path of the module that embeds `name`. */
export function assembledPath(name: string): string {
  return `${FOLDER}${name}.ts`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of wasmSources()) writeFileSync(assembledPath(name), await assembledModule(name));
}
