/** Size of what a file handle stands for. */

import type { FileHandle } from "node:fs/promises";
import { readFile } from "node:fs/promises";

/** sysfs counts a block device in sectors of this size, whatever its own sector size. */
const SYSFS_SECTOR_BYTES = 512;

/** Size in bytes of a regular file or a block device. */
export async function sizeOf(handle: FileHandle): Promise<number> {
  const stat = await handle.stat();
  if (!stat.isBlockDevice()) return stat.size;
  const sectors = await sysfsSectors(stat.rdev);
  return sectors === undefined ? probeSize(handle) : sectors * SYSFS_SECTOR_BYTES;
}

/** Linux: `/sys/dev/block/MAJOR:MINOR/size`. Undefined where there is no such file. */
async function sysfsSectors(rdev: number): Promise<number | undefined> {
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  try {
    const sectors = Number((await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8")).trim());
    return Number.isSafeInteger(sectors) && sectors >= 0 ? sectors : undefined;
  } catch {
    return undefined;
  }
}

/** The largest offset at which a byte can be read, by doubling and bisecting: for systems without sysfs. */
export async function probeSize(handle: FileHandle): Promise<number> {
  const probe = Buffer.alloc(1);
  const readable = async (offset: number): Promise<boolean> => {
    try {
      return (await handle.read(probe, 0, 1, offset)).bytesRead === 1;
    } catch {
      return false;
    }
  };
  if (!(await readable(0))) return 0;
  let low = 0;
  let high = 512;
  while (await readable(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (await readable(middle)) low = middle;
    else high = middle;
  }
  return low + 1;
}
