import { expect, test } from "vitest";
import { goldenLines } from "../../test/support/golden.ts";
import { parseStatsMessage } from "../../test/support/parse-stats-message.ts";
import { savingPercent, usePercent, writeAmplification } from "./derived.ts";
import { emptyStatistics } from "./empty.ts";
import { STATISTIC_ENTRIES } from "./entries.ts";
import { statsMessage } from "./message.ts";
import type { VdoStatistics } from "./statistics.ts";
import { statisticValue, verboseLines } from "./verbose.ts";

test.each(["vdostats-fresh.txt", "vdostats-data.txt"])("%s: the message of the kernel is written as it was", (file) => {
  const [message] = goldenLines(file);
  expect(statsMessage(parseStatsMessage(message!))).toBe(message);
});

test("in read-only mode the message is that of the kernel, but for its wrapped count of data blocks", () => {
  const [message] = goldenLines("vdostats-read-only.txt");
  const statistics = { ...parseStatsMessage(message!), dataBlocksUsed: 0 };
  expect(statsMessage(statistics)).toBe(message!.replace("18446744073709551600", "0"));
});

test.each(["vdostats-fresh.txt", "vdostats-data.txt", "vdostats-read-only.txt"])(
  "%s: the lines of vdostats --verbose are printed as it printed them",
  (file) => {
    const [message, ...lines] = goldenLines(file);
    expect(lines).toHaveLength(166);
    expect(verboseLines({ name: "vdo0", statistics: parseStatsMessage(message!) })).toEqual(lines);
  },
);

test("the empty statistics have the members of the kernel's message, in its order, all zero", () => {
  const [message] = goldenLines("vdostats-fresh.txt");
  const names = (text: string): string[] => text.match(/\w+ :/g)!;
  expect(names(statsMessage(emptyStatistics()))).toEqual(names(message!));
  const counts = statsMessage(emptyStatistics()).match(/: \d+/g)!;
  expect(counts.filter((count) => count !== ": 0")).toEqual([": 36", ": 4096", ": 100", ": 4096"]);
});

test("the table names every counter of the object once, and nothing else", () => {
  const paths: string[] = [];
  const walk = (value: object, prefix: string): void => {
    for (const [name, member] of Object.entries(value)) {
      if (typeof member === "object") walk(member as object, `${prefix}${name}.`);
      else paths.push(prefix + name);
    }
  };
  walk(emptyStatistics(), "");
  const stored = STATISTIC_ENTRIES.filter(({ kind }) => kind !== "derived");
  expect(stored.map(({ path }) => path).sort()).toEqual(paths.sort());
  expect(stored.every(({ path, name }) => path === name || path.endsWith(`.${name}`))).toBe(true);
  const labels = STATISTIC_ENTRIES.flatMap(({ label }) => label ?? []);
  expect(labels).toHaveLength(165);
  expect(new Set(labels).size).toBe(165);
});

test("two volumes do not share counters", () => {
  const one = emptyStatistics();
  one.biosIn.read++;
  one.journal.entries.started++;
  expect(emptyStatistics().biosIn.read + emptyStatistics().journal.entries.started).toBe(0);
});

const value = (label: string, statistics: VdoStatistics): number | string =>
  statisticValue(STATISTIC_ENTRIES.find((entry) => entry.label === label)!, statistics);

test("while recovering, what is not known yet is N/A, and the progress is shown", () => {
  const statistics: VdoStatistics = {
    ...emptyStatistics(),
    mode: "recovering",
    inRecoveryMode: true,
    recoveryPercentage: 40,
    physicalBlocks: 1000,
    overheadBlocksUsed: 10,
  };
  const hidden = STATISTIC_ENTRIES.filter((entry) => statisticValue(entry, statistics) === "N/A");
  expect(hidden.map(({ label }) => label)).toEqual([
    "data blocks used",
    "overhead blocks used",
    "logical blocks used",
    "1K-blocks used",
    "1K-blocks available",
    "used percent",
    "saving percent",
  ]);
  expect(value("recovery progress (%)", statistics)).toBe(40);
});

/** Data, overhead, logical, physical: printed by the real program. */
test.each([
  [1000, 787140, 3000, 1310720, 60, 66],
  [4000, 787140, 3000, 1310720, 60, undefined],
  [106137386, 787140, 135000000, 483140608, 22, 21],
  [5, 0, 1000, 1000, 1, 99],
  [995, 0, 1000, 1000, 100, 0],
  [994, 0, 1000, 1000, 99, 0],
  [334, 0, 1000, 2000, 17, 66],
  [20, 100, 1, 110, 109, undefined],
])(
  "%i data, %i overhead, %i logical of %i blocks are %i %% used, %s %% saved",
  (data, overhead, logical, physical, used, saved) => {
    const statistics = {
      ...emptyStatistics(),
      dataBlocksUsed: data,
      overheadBlocksUsed: overhead,
      logicalBlocksUsed: logical,
      physicalBlocks: physical,
    };
    expect(usePercent(statistics)).toBe(used);
    expect(savingPercent(statistics)).toBe(saved);
  },
);

test("the used percent is rounded down, other than in the table", () => {
  // A volume of 8 GiB with slab bits 17, just formatted: vdostats 8.3.0.71 printed 37, and 38% in its table.
  const statistics = { ...emptyStatistics(), physicalBlocks: 2097152, overheadBlocksUsed: 789002 };
  expect(value("used percent", statistics)).toBe(37);
  expect(usePercent(statistics)).toBe(38);
});

test("write amplification is a whole number of writes out for each write in", () => {
  const statistics = emptyStatistics();
  expect(value("write amplification ratio", statistics)).toBe("0.00");
  statistics.biosIn.write = 100;
  statistics.biosMeta.write = 50;
  statistics.biosOut.write = 149;
  expect(writeAmplification(statistics)).toBe(1);
  expect(value("write amplification ratio", statistics)).toBe("1.00");
});
