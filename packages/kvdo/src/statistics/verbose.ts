/** The lines of `vdostats --verbose`, as the 8.3 tools print them. */
import { invariant } from "@vdo/base";
import {
  kibibytes,
  NOT_AVAILABLE,
  savingPercent,
  usedBlocks,
  usedPercentFloor,
  writeAmplification,
} from "./derived.ts";
import { STATISTIC_ENTRIES, type StatisticEntry } from "./entries.ts";
import type { CommitCounters, VdoStatistics } from "./statistics.ts";

/** Characters to which labels are padded: the longest one. */
const LABEL_WIDTH = Math.max(...STATISTIC_ENTRIES.map((entry) => entry.label?.length ?? 0));
invariant(LABEL_WIDTH === 37, "the longest label has the 37 characters of the original");

function commits(statistics: VdoStatistics, path: string): CommitCounters {
  return path.startsWith("journal.entries.") ? statistics.journal.entries : statistics.journal.blocks;
}

const DERIVED: Readonly<Record<string, (statistics: VdoStatistics, path: string) => number | string>> = {
  oneKBlocks: ({ physicalBlocks, blockSize }) => kibibytes(physicalBlocks, blockSize),
  oneKBlocksUsed: (statistics) => kibibytes(usedBlocks(statistics), statistics.blockSize),
  oneKBlocksAvailable: (statistics) =>
    kibibytes(statistics.physicalBlocks - usedBlocks(statistics), statistics.blockSize),
  usedPercent: (statistics) => usedPercentFloor(statistics),
  savingPercent: (statistics) => savingPercent(statistics) ?? NOT_AVAILABLE,
  writeAmplificationRatio: (statistics) => writeAmplification(statistics).toFixed(2),
  batching: (statistics, path) => commits(statistics, path).started - commits(statistics, path).written,
  writing: (statistics, path) => commits(statistics, path).written - commits(statistics, path).committed,
};

function isAvailable({ availability }: StatisticEntry, { mode, inRecoveryMode }: VdoStatistics): boolean {
  switch (availability) {
    case "recovering":
      return inRecoveryMode;
    case "not recovering":
      return !inRecoveryMode;
    case "not read-only or recovering":
      return !inRecoveryMode && mode !== "read-only";
    default:
      return true;
  }
}

/** The value of an entry as printed: a number, a word, or `N/A`. */
export function statisticValue(entry: StatisticEntry, statistics: VdoStatistics): number | string {
  if (!isAvailable(entry, statistics)) return NOT_AVAILABLE;
  if (entry.kind === "derived") {
    const compute = DERIVED[entry.path.slice(entry.path.lastIndexOf(".") + 1)];
    invariant(compute !== undefined, "every derived statistic has a formula");
    return compute(statistics, entry.path);
  }
  if (entry.kind === "emulation") return statistics.logicalBlockSize === 512 ? "on" : "off";
  let value: unknown = statistics;
  for (const name of entry.path.split(".")) value = (value as Record<string, unknown>)[name];
  return typeof value === "boolean" ? Number(value) : (value as number | string);
}

export interface VerboseOptions {
  /** The name shown: as the user gave it. */
  name: string;
  statistics: VdoStatistics;
}

/** `name : `, then one line `  label : value` for each statistic, labels padded to 37 characters. */
export function verboseLines({ name, statistics }: VerboseOptions): string[] {
  const lines = [`${name} : `];
  for (const entry of STATISTIC_ENTRIES) {
    if (entry.label === undefined) continue;
    lines.push(`  ${entry.label.padEnd(LABEL_WIDTH)} : ${statisticValue(entry, statistics)}`);
  }
  return lines;
}
