/** Statistics under the labels of `vdostats --verbose`. The labels and their order are `@vdo/kvdo`'s. */
import { verboseLines } from "@vdo/kvdo";
import { Scalar } from "yaml";
import type { VolumeStatistics } from "../engine.ts";

export { verboseLines };

const LINE = /^ {2}(.*?) +: (.*)$/;

/** Labels and values as YAML 1.1 reads the printed lines: integers and fractions as numbers, `on` and `off` as booleans. */
export function statisticsMap(statistics: VolumeStatistics): Record<string, number | boolean | string | Scalar> {
  const map: Record<string, number | boolean | string | Scalar> = {};
  for (const line of verboseLines({ name: "", statistics })) {
    const [, label, value] = LINE.exec(line) ?? [];
    if (label !== undefined && value !== undefined) map[label] = yamlValue(value);
  }
  return map;
}

function yamlValue(text: string): number | boolean | string | Scalar {
  if (text === "on" || text === "off") return text === "on";
  if (/^-?\d+$/.test(text)) return Number(text);
  if (!/^-?\d+\.\d+$/.test(text)) return text;
  // A whole fraction stays one for its readers: 1.0.
  const fraction = new Scalar(Number(text));
  fraction.minFractionDigits = 1;
  return fraction;
}
