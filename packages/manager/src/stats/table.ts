/** The table of `vdostats`, column by column as the 8.3 tools print it. */
import type { VolumeStatistics } from "../engine.ts";
import { humanSize } from "./human-size.ts";

/** One row: the name as shown, and what the volume reports. */
export interface TableRow {
  name: string;
  statistics: VolumeStatistics;
}

/** How sizes are printed: in KiB, or with units of 1024 or 1000. */
export type SizeForm = "plain" | "human" | "si";

/** The name's column is at least as wide as its heading. */
const NAME_WIDTH_MIN = "Device".length;

/** 64-bit counters wrap: what is more in use than there is leaves this much available. */
const UINT64 = 2n ** 64n;

/** Header and one line for each volume. */
export function tableLines(rows: readonly TableRow[], form: SizeForm): string[] {
  const width = Math.max(NAME_WIDTH_MIN, ...rows.map(({ name }) => name.length));
  return [tableHeader(width, form), ...rows.map((row) => tableLine(row, width, form))];
}

/** Heading for names of up to `width` characters. */
export function tableHeader(width: number, form: SizeForm): string {
  const cells = ["Device".padEnd(Math.max(NAME_WIDTH_MIN, width)), form === "plain" ? "1k-blocks" : "     Size"];
  return [...cells, "     Used", "Available", "Use%", "Space saving%"].join(" ");
}

export function tableLine({ name, statistics }: TableRow, width: number, form: SizeForm): string {
  const { physicalBlocks, blockSize, inRecoveryMode } = statistics;
  const size = BigInt(physicalBlocks) * BigInt(blockSize);
  const shownName = name.padEnd(Math.max(NAME_WIDTH_MIN, width));
  const notAvailable = (columns: number): string => "N/A".padStart(columns);
  if (inRecoveryMode) {
    const cells = [cell(size, "plain"), notAvailable(9), notAvailable(9), notAvailable(3), notAvailable(12)];
    return [shownName, ...cells].join(" ");
  }
  const usedBlocks = BigInt(statistics.dataBlocksUsed) + BigInt(statistics.overheadBlocksUsed);
  const used = usedBlocks * BigInt(blockSize);
  const available = (((BigInt(physicalBlocks) - usedBlocks + UINT64) % UINT64) * BigInt(blockSize)) % UINT64;
  const percent = Math.trunc((100 * Number(usedBlocks)) / physicalBlocks + 0.5);
  const cells = [cell(size, form), cell(used, form), cell(available, form), `${String(percent).padStart(3)}%`];
  const saving = savingPercent(statistics);
  return [shownName, ...cells, saving === undefined ? notAvailable(12) : `${String(saving).padStart(12)}%`].join(" ");
}

function cell(bytes: bigint, form: SizeForm): string {
  if (form === "plain") return String(bytes / 1024n).padStart(9);
  return humanSize(Number(bytes), form === "si" ? 1000 : 1024).padStart(9);
}

/** Share of the logical blocks that needed no block of their own; 0 without any, undefined when there are fewer. */
function savingPercent({ logicalBlocksUsed, dataBlocksUsed }: VolumeStatistics): number | undefined {
  if (logicalBlocksUsed === 0) return 0;
  if (dataBlocksUsed > logicalBlocksUsed) return undefined;
  return Math.trunc((100 * (logicalBlocksUsed - dataBlocksUsed)) / logicalBlocksUsed);
}
