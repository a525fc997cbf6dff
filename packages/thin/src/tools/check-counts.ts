/** Compares the counts of a space map with those found in the trees. */
import { isVdoError } from "@vdo/base";
import type { SpaceMapRoot } from "../format/superblock.ts";
import { bitmapCount, ENTRIES_PER_BITMAP } from "./bitmap.ts";
import type { CheckLog } from "./check-log.ts";
import type { MetadataReader } from "./metadata-reader.ts";
import { readBitmap } from "./space-map-reader.ts";

/** A space map to compare. */
export interface CountSource {
  kind: "data" | "metadata";
  root: SpaceMapRoot;
  /** Addresses of its bitmaps. */
  bitmaps: readonly number[];
  /** Counts of 3 and more. */
  overflow: ReadonlyMap<number, number>;
}

/** A block that is counted and that nothing points to. */
export interface Leak {
  /** Address of the bitmap, and the place in it. */
  bitmap: number;
  entry: number;
}

/** Tells every difference; returns the leaks that can be fixed in place. */
export async function compareCounts(
  reader: MetadataReader,
  log: CheckLog,
  source: CountSource,
  found: (block: number) => number,
): Promise<Leak[]> {
  const name = `${source.kind} space map`;
  const leaks: Leak[] = [];
  let allocated = 0;
  for (const [number, block] of source.bitmaps.entries()) {
    const bitmap = await bitmapOrTold(reader, log, block, `${name}, bitmap ${number}`);
    if (bitmap === undefined) continue;
    const first = number * ENTRIES_PER_BITMAP;
    const count = Math.min(ENTRIES_PER_BITMAP, source.root.blockCount - first);
    for (let entry = 0; entry < count; entry++) {
      const pair = bitmapCount(bitmap, entry);
      if (pair > 0) allocated++;
      const wanted = found(first + entry);
      if (pair < 3 && pair === wanted) continue;
      if (judgeCount(log, source, first + entry, { pair, wanted })) leaks.push({ bitmap: block, entry });
    }
  }
  if (allocated !== source.root.allocatedCount) {
    log.warning(name, `${allocated} blocks are allocated, the superblock says ${source.root.allocatedCount}`);
  }
  return leaks;
}

async function bitmapOrTold(
  reader: MetadataReader,
  log: CheckLog,
  block: number,
  name: string,
): Promise<Uint8Array | undefined> {
  try {
    return await readBitmap(reader, block, name);
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    log.fatal(name, String(error.data.actual));
    return undefined;
  }
}

/** True for a leak that is fixed by clearing the entry. */
function judgeCount(
  log: CheckLog,
  { kind, overflow }: CountSource,
  block: number,
  { pair, wanted }: { pair: number; wanted: number },
): boolean {
  const name = `${kind} space map`;
  const stored = pair < 3 ? pair : overflow.get(block);
  if (stored === undefined) {
    log.fatal(name, `block ${block} should have a count of 3 or more in the overflow tree, and has none`);
    return false;
  }
  if (stored === wanted) return false;
  const text = `reference counts differ for block ${block}, expected ${wanted}, but got ${stored}`;
  if (stored === 1 && wanted === 0) {
    log.nonFatal(name, `${text}: a leak`);
    return true;
  }
  log.fatal(name, text);
  return false;
}
