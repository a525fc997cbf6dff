/** Which blocks of a volume are mapped: for `base:allocation` of NBD, copies that skip holes, and rescue. */
import type { Extent } from "@vdo/block-device";
import type { BlockMap } from "../block-map/block-map.ts";
import type { BlockMapPage } from "../block-map/block-map-page.ts";
import { BLOCK_MAP_ENTRIES_PER_PAGE } from "../constants.ts";
import { DataVio, VIO_READ } from "./data-vio.ts";
import type { LogicalLocks } from "./logical-locks.ts";

const NO_BYTES = Buffer.alloc(0);
/** Leaves looked at in one call: 25 MiB of the volume if they are all different, any number if they are missing. */
const LEAVES_PER_CALL = 4096;

/**
 * The state of `count` 4 KiB blocks from `start`, merged into runs; ends early after {@link LEAVES_PER_CALL} leaves.
 * A block with a write under way counts as mapped.
 */
export async function mappedExtents(
  { blockMap, locks }: { blockMap: BlockMap; locks: LogicalLocks },
  start: number,
  count: number,
): Promise<Extent[]> {
  const extents: Extent[] = [];
  const add = (blocks: number, hole: boolean, zero: boolean): void => {
    const last = extents.at(-1);
    if (last !== undefined && last.hole === hole && last.zero === zero) last.count += blocks;
    else extents.push({ count: blocks, hole, zero });
  };
  const vio = new DataVio(-1, NO_BYTES, NO_BYTES);
  vio.kind = VIO_READ;
  const end = start + count;
  for (let lbn = start, leaves = 0; lbn < end && leaves < LEAVES_PER_CALL; leaves++) {
    const leaf = Math.floor(lbn / BLOCK_MAP_ENTRIES_PER_PAGE);
    const missing = blockMap.missingLeaves(leaf);
    const first = leaf * BLOCK_MAP_ENTRIES_PER_PAGE;
    const limit = Math.min(first + Math.max(missing, 1) * BLOCK_MAP_ENTRIES_PER_PAGE, end);
    const page = missing > 0 ? null : await leafOf(blockMap, vio, lbn);
    if (page === null) add(limit - lbn, true, true);
    else addLeaf(page, locks, { first, lbn, limit, add });
    lbn = limit;
  }
  return extents;
}

interface LeafWalk {
  /** First logical block of the leaf, the one to begin with, and the one to end before. */
  first: number;
  lbn: number;
  limit: number;
  add: (blocks: number, hole: boolean, zero: boolean) => void;
}

function addLeaf(page: BlockMapPage, locks: LogicalLocks, { first, lbn, limit, add }: LeafWalk): void {
  for (let block = lbn; block < limit; block++) {
    if (locks.isChanging(block)) add(1, false, false);
    else if (page.mappedState(block - first) === 0) add(1, true, true);
    else add(1, false, page.mappedPbn(block - first) === 0);
  }
}

/** The leaf page of `lbn`, or null when there is none. It is valid until the next await. */
async function leafOf(blockMap: BlockMap, vio: DataVio, lbn: number): Promise<BlockMapPage | null> {
  vio.lbn = lbn;
  vio.error = null;
  await new Promise<void>((resolve) => {
    vio.onSlot = () => resolve();
    blockMap.findSlot(vio);
  });
  if (vio.error !== null) throw vio.error;
  if (vio.leafPbn === 0) return null;
  for (;;) {
    const page = await new Promise<BlockMapPage>((resolve, reject) => {
      vio.onPage = (_, loaded) => (loaded === null ? reject(vio.error) : resolve(loaded));
      blockMap.leaves.get(vio, vio.leafPbn, false);
    });
    // Between the step and here it may have been evicted.
    if (blockMap.leaves.peek(vio.leafPbn) === page) return page;
  }
}
