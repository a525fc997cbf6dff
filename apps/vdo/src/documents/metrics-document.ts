/** The list of all metrics, made from the metrics themselves. */
import { metricsCatalogue } from "@vdo/manager";

/** The page as Markdown. */
export async function metricsDocument(): Promise<string> {
  const catalogue = await metricsCatalogue();
  const rows = catalogue.map(({ name, type, labels, help }) => {
    const own = labels.filter((label) => label !== "volume");
    return `| \`${name}\` | ${type} | ${own.join(", ")} | ${help} |`;
  });
  return `${[
    "# Metrics of VDO volumes",
    "",
    "Made from the program by write-share.ts. `vdostats --prometheus` prints them; `vdo metrics` serves them over HTTP.",
    "Names are stable. Every metric of a volume has the label `volume`; further labels are in the third column. Counters",
    "count from the start of the volume. What cannot be told, because the volume is recovering or read-only, is left out.",
    "",
    "| name | type | labels | meaning |",
    "| --- | --- | --- | --- |",
    ...rows,
  ].join("\n")}\n`;
}
