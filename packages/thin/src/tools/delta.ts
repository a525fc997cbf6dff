/**
 * What differs between two thin devices: by data block, not by content or time, as thin_delta compares.
 *
 * Between snapshots that are not written, the same data block means the same content; another one may still hold it.
 */
import type { BlockDevice } from "@vdo/block-device";
import type { ThinSuperblock } from "../format/superblock.ts";
import { type MappingRun, RunBuilder } from "./mapping-runs.ts";
import { PoolReader, type ReadOptions } from "./pool-reader.ts";

export type DeltaKind = "same" | "different" | "left_only" | "right_only";

/** A run of virtual blocks of one kind; contiguous on each data side too. */
export interface DeltaRun {
  kind: DeltaKind;
  begin: number;
  length: number;
  /** First data block on the left; 0 for `right_only`. */
  leftData: number;
  /** First data block on the right; 0 for `left_only`. */
  rightData: number;
}

export interface DeltaOptions extends ReadOptions {
  left: number;
  right: number;
}

/** Two devices and where they differ. */
export interface Delta extends DeltaOptions {
  superblock: ThinSuperblock;
  runs: DeltaRun[];
}

/** Maximal runs of a device's mappings, ascending. Throws `VDO_THIN_NOT_FOUND`, `VDO_CORRUPT`. */
export async function mappedRuns(pool: PoolReader, id: number): Promise<MappingRun[]> {
  const runs: MappingRun[] = [];
  const builder = new RunBuilder((run) => runs.push(run), false);
  const device = await pool.device(id);
  await pool.mappings(device, (virtualBlock, dataBlock, time) => builder.add(virtualBlock, dataBlock, time));
  builder.end();
  return runs;
}

/** Compares two devices of a pool. Throws `VDO_THIN_NOT_FOUND`, `VDO_CORRUPT`. */
export async function delta(metadata: BlockDevice, options: DeltaOptions): Promise<Delta> {
  const pool = await PoolReader.open(metadata, options);
  const left = await mappedRuns(pool, options.left);
  const right = options.left === options.right ? left : await mappedRuns(pool, options.right);
  return { ...options, superblock: pool.view, runs: mergeRuns(left, right) };
}

/** Walks both lists of runs at once. Both ascend and do not overlap themselves. */
export function mergeRuns(left: readonly MappingRun[], right: readonly MappingRun[]): DeltaRun[] {
  const out: DeltaRun[] = [];
  let l = left.values().next().value as MappingRun | undefined;
  let r = right.values().next().value as MappingRun | undefined;
  let atLeft = 0;
  let atRight = 0;
  const cutLeft = (run: MappingRun, length: number): void => {
    l = length < run.length ? cut(run, length) : left[++atLeft];
  };
  const cutRight = (run: MappingRun, length: number): void => {
    r = length < run.length ? cut(run, length) : right[++atRight];
  };
  while (l !== undefined || r !== undefined) {
    if (l !== undefined && (r === undefined || l.begin < r.begin)) {
      const length = Math.min(l.length, (r?.begin ?? Number.POSITIVE_INFINITY) - l.begin);
      out.push({ kind: "left_only", begin: l.begin, length, leftData: l.data, rightData: 0 });
      cutLeft(l, length);
    } else if (r !== undefined && (l === undefined || r.begin < l.begin)) {
      const length = Math.min(r.length, (l?.begin ?? Number.POSITIVE_INFINITY) - r.begin);
      out.push({ kind: "right_only", begin: r.begin, length, leftData: 0, rightData: r.data });
      cutRight(r, length);
    } else if (l !== undefined && r !== undefined) {
      const length = Math.min(l.length, r.length);
      const kind = l.data === r.data ? "same" : "different";
      out.push({ kind, begin: l.begin, length, leftData: l.data, rightData: r.data });
      cutLeft(l, length);
      cutRight(r, length);
    }
  }
  return out;
}

function cut(run: MappingRun, length: number): MappingRun {
  return { begin: run.begin + length, data: run.data + length, length: run.length - length, time: run.time };
}

/** Neighbours of one kind joined; with `byData` only where the data blocks follow each other too. */
export function joinRuns(runs: readonly DeltaRun[], byData: boolean): DeltaRun[] {
  const out: DeltaRun[] = [];
  for (const run of runs) {
    const last = out.at(-1);
    if (last !== undefined && follows(last, run, byData)) last.length += run.length;
    else out.push({ ...run });
  }
  return out;
}

function follows(last: DeltaRun, run: DeltaRun, byData: boolean): boolean {
  if (last.kind !== run.kind || last.begin + last.length !== run.begin) return false;
  if (!byData) return true;
  const isLeft = run.kind === "right_only" || last.leftData + last.length === run.leftData;
  return isLeft && (run.kind === "left_only" || last.rightData + last.length === run.rightData);
}

/** XML as thin_delta 0.9 prints it; `verbose` with data blocks. */
export function formatDelta({ superblock, left, right, runs }: Delta, verbose = false): string {
  const held = superblock.heldRoot === 0 ? "" : ` metadata_snap="${superblock.heldRoot}"`;
  let text = `<superblock uuid="" time="${superblock.time}" transaction="${superblock.transactionId}" data_block_size="${superblock.dataBlockSectors}" nr_data_blocks="${superblock.dataSpaceMap.blockCount}"${held}>\n`;
  text += `  <diff left="${left}" right="${right}">\n`;
  const joined = joinRuns(runs, verbose);
  for (const [i, run] of joined.entries()) {
    if (!verbose) {
      text += `    <${run.kind} begin="${run.begin}" length="${run.length}"/>\n`;
      continue;
    }
    const opens = joined[i - 1]?.kind !== run.kind;
    const closes = joined[i + 1]?.kind !== run.kind;
    if (opens) text += `    <${run.kind}>\n`;
    text += `      ${rangeElement(run)}\n`;
    if (closes) text += `    </${run.kind}>\n`;
  }
  return `${text}  </diff>\n</superblock>\n`;
}

function rangeElement({ kind, begin, length, leftData, rightData }: DeltaRun): string {
  if (kind === "different") {
    return `<range begin="${begin}" left_data_begin="${leftData}" right_data_begin="${rightData}" length="${length}"/>`;
  }
  return `<range begin="${begin}" data_begin="${kind === "right_only" ? rightData : leftData}" length="${length}"/>`;
}
