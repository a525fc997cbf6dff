/** Discards the unused part of a pool's data device, as thin_trim does. The pool must not be in use. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { SECTOR_BYTES } from "../constants.ts";
import { PoolReader } from "./pool-reader.ts";
import { dataBitmaps, freeRuns } from "./space-map-reader.ts";

/** Discards each run of free data blocks; returns the number of data blocks discarded. Throws `VDO_CORRUPT`, `VDO_THIN_MISMATCH`. */
export async function trim(metadata: BlockDevice, data: BlockDevice): Promise<number> {
  const pool = await PoolReader.open(metadata);
  const root = pool.superblock.dataSpaceMap;
  const blockBytes = pool.superblock.dataBlockSectors * SECTOR_BYTES;
  const actual = data.blockCount * data.blockSize;
  const expected = root.blockCount * blockBytes;
  if (actual < expected) {
    const message = `unexpected data device size, wanted ${expected} bytes, it has ${actual}: name the pool's own data device`;
    throw new VdoError("VDO_THIN_MISMATCH", message, { field: "data device", expected, actual });
  }
  if (data.discard === undefined) {
    throw new VdoError("VDO_BAD_ARGUMENT", "the data device takes no discards: nothing can be trimmed", {
      argument: "data",
      value: "no discard",
    });
  }
  const bitmaps = await dataBitmaps(pool.blocks, root);
  const ratio = blockBytes / data.blockSize;
  let discarded = 0;
  for (const [begin, length] of await freeRuns(pool.blocks, bitmaps, root.blockCount)) {
    await data.discard(begin * ratio, length * ratio);
    discarded += length;
  }
  await data.flush();
  return discarded;
}
