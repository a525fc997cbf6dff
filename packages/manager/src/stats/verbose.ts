/** Statistics under the labels of `vdostats --verbose`. The labels and their order are `@vdo/kvdo`'s. */
import { verboseLines } from "@vdo/kvdo";
import type { VolumeStatistics } from "../engine.ts";

export { verboseLines };

const LINE = /^ {2}(.*?) +: (.*)$/;

/** Labels and values as YAML 1.1 reads the printed lines: integers and fractions as numbers, `on` and `off` as booleans. */
export function statisticsMap(statistics: VolumeStatistics): Record<string, number | boolean | string> {
  const map: Record<string, number | boolean | string> = {};
  for (const line of verboseLines({ name: "", statistics })) {
    const [, label, value] = LINE.exec(line) ?? [];
    if (label !== undefined && value !== undefined) map[label] = yamlValue(value);
  }
  return map;
}

function yamlValue(text: string): number | boolean | string {
  if (text === "on" || text === "off") return text === "on";
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}
