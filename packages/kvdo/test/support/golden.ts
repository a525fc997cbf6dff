/** Blocks of a volume that the kernel wrote. See extract-golden.ts for where they come from. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../golden/", import.meta.url));

export type GoldenBlock =
  | "geometry-block"
  | "super-block"
  | "block-map-root"
  | "block-map-interior"
  | "block-map-leaf"
  | "compressed-block"
  | "recovery-journal-block"
  | "reference-block"
  | "slab-journal-block"
  | "slab-summary-block";

/** The 4096 bytes of a block. */
export function goldenBlock(name: GoldenBlock): Uint8Array {
  return new Uint8Array(readFileSync(`${FOLDER}${name}.bin`));
}

/** The number that the block had on its volume. */
export function goldenPlace(name: GoldenBlock): number {
  return (JSON.parse(readFileSync(`${FOLDER}places.json`, "utf8")) as Record<GoldenBlock, number>)[name];
}

/** Lines of a text file. */
export function goldenLines(name: string): string[] {
  return readFileSync(`${FOLDER}${name}`, "utf8").trimEnd().split("\n");
}
