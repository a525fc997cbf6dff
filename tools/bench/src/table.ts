/** The results as text. */
import type { IndexFigures } from "./index-speed.ts";
import { REFERENCE } from "./peers.ts";
import type { RecoveryFigures } from "./recovery-cost.ts";
import type { DiscardFigures, Row } from "./rounds.ts";

function rate(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3);
}

/** One line per workload and server: operations a second, ratio with its spread, CPU per operation. */
export function rowsTable(rows: readonly Row[]): string {
  const lines = [["workload", "server", "op/s", `ratio to ${REFERENCE}`, "spread", "CPU µs/op"]];
  for (const row of rows) {
    for (const [index, cell] of row.cells.entries()) {
      const { ratio } = cell;
      lines.push([
        index === 0 ? `${row.workload}` : "",
        cell.peer,
        rate(cell.rate.median),
        ratio.median.toFixed(2),
        `${ratio.low.toFixed(2)}-${ratio.high.toFixed(2)}`,
        cell.cpuPerOperation.median.toFixed(1),
      ]);
    }
  }
  return align(lines);
}

export function indexTable(figures: IndexFigures): string {
  return align([
    ["@vdo/uds, dense, 0.25 GB", ""],
    ["new names", `${rate(figures.newPerSecond)}/s`],
    ["known names", `${rate(figures.knownPerSecond)}/s (${(figures.foundShare * 100).toFixed(1)} % found)`],
    ["memory", `${(figures.memoryBytes / 2 ** 20).toFixed(1)} MiB for ${rate(figures.recordsMax)} records`],
    ["bytes per record", figures.bytesPerRecord.toFixed(2)],
  ]);
}

export function memoryTable(peaks: ReadonlyMap<string, number>, discard: DiscardFigures | undefined): string {
  const lines = [...peaks].map(([peer, mebibytes]) => [`most memory of ${peer}`, `${mebibytes} MiB`]);
  if (discard !== undefined) {
    lines.push(["vdo: discard of 10 GiB, mapped", `${discard.discardSeconds.toFixed(2)} s`]);
    lines.push(["vdo: writing these 10 GiB of duplicates", `${discard.fillSeconds.toFixed(1)} s`]);
  }
  return align(lines);
}

export function recoveryTable(figures: readonly RecoveryFigures[]): string {
  const seconds = (value: number | undefined): string => (value === undefined ? "-" : `${value.toFixed(1)} s`);
  return align([
    ["recovery after a power cut", "entries", "online", "last slab", "CPU", "the kernel, emulated"],
    ...figures.map((one) => [
      `a volume on ${one.gibibytes} GiB`,
      rate(one.journalEntries),
      ...[one.onlineSeconds, one.doneSeconds, one.cpuSeconds, one.kernelSeconds].map(seconds),
    ]),
  ]);
}

/** Columns padded to their widest cell. */
export function align(lines: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const line of lines) {
    for (const [column, cell] of line.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
