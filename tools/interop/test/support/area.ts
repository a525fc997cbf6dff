/** Parts of a volume that a test writes, and checks of them on both sides. */
import { firstDifference } from "@vdo/base";
import type { VdoVolume } from "@vdo/kvdo";
import { BLOCK, type ExpectedContent, sha256 } from "./content.ts";

export interface Area {
  start: number;
  /** Blocks. */
  count: number;
}

/** Where the volume differs from what is expected, one line each; no line when nowhere. */
export async function differences(
  volume: VdoVolume,
  expected: ExpectedContent,
  areas: readonly Area[],
): Promise<string[]> {
  const found: string[] = [];
  const step = 512;
  for (const { start, count } of areas) {
    for (let at = start; at < start + count; at += step) {
      const length = Math.min(step, start + count - at);
      const read = new Uint8Array(length * BLOCK);
      await volume.read(at, read);
      const wrong = firstDifference(read, expected.read(at, length));
      if (wrong !== -1) found.push(`block ${at + Math.floor(wrong / BLOCK)}, byte ${wrong % BLOCK}`);
    }
  }
  return found;
}

/** Shell lines that print the checksum of each area of `device`; {@link expectedSums} tells what they must print. */
export function sumsScript(device: string, areas: readonly Area[]): string {
  return areas.map(({ start, count }) => `echo "sum ${start} $(blocks_sum ${device} ${start} ${count})"`).join("\n");
}

export function expectedSums(expected: ExpectedContent, areas: readonly Area[]): string[] {
  return areas.map(({ start, count }) => `sum ${start} ${sha256(expected.read(start, count))}`);
}

/** The lines of a guest's output that {@link sumsScript} made. */
export function sumLines(output: string): string[] {
  return output.split("\n").filter((line) => line.startsWith("sum "));
}
