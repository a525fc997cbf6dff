/** What a check may put right in place: leaked counts, and the flag that asks for a check. The pool must not be in use. */
import { VdoError, viewOf } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { METADATA_BLOCK_BYTES } from "../constants.ts";
import { blockChecksum, encodeSuperblock, NEEDS_CHECK } from "../format/superblock.ts";
import { setBitmapCount } from "./bitmap.ts";
import type { CheckReport } from "./check.ts";
import { BITMAP_SALT } from "./node.ts";

function refuse(report: CheckReport): void {
  if (report.superblock !== undefined && report.counts.fatal === 0) return;
  throw new VdoError("VDO_CORRUPT", "the metadata has errors that are not put right in place: run vdo thin repair", {
    structure: "thin pool metadata",
    field: "errors",
    expected: 0,
    actual: report.counts.fatal,
  });
}

/** Frees the leaked blocks that `report` names; as thin_check, it changes bitmaps only. Throws `VDO_CORRUPT` if there is more wrong. */
export async function fixLeaks(metadata: BlockDevice, report: CheckReport): Promise<number> {
  refuse(report);
  const ratio = METADATA_BLOCK_BYTES / metadata.blockSize;
  const block = new Uint8Array(METADATA_BLOCK_BYTES);
  for (const bitmap of new Set(report.leaks.map((leak) => leak.bitmap))) {
    await metadata.read(bitmap * ratio, block);
    for (const { entry } of report.leaks.filter((leak) => leak.bitmap === bitmap)) setBitmapCount(block, entry, 0);
    viewOf(block).setUint32(0, blockChecksum(block, BITMAP_SALT), true);
    await metadata.write(bitmap * ratio, block);
  }
  await metadata.flush();
  return report.leaks.length;
}

/** Clears needs_check. Throws `VDO_CORRUPT` if the check found errors. */
export async function clearNeedsCheck(metadata: BlockDevice, report: CheckReport): Promise<void> {
  refuse(report);
  const { superblock } = report;
  if (superblock === undefined || (superblock.flags & NEEDS_CHECK) === 0) return;
  await metadata.write(0, encodeSuperblock({ ...superblock, flags: superblock.flags & ~NEEDS_CHECK }));
  await metadata.flush();
}
