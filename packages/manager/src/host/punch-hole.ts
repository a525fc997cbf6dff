/**
 * Giving space back with the programs of util-linux, since Node has no call for it: `fallocate --punch-hole` for regular files,
 * `blkdiscard` for block devices. They reach the open file through /proc, so a path that leads elsewhere by now does no harm.
 */
import type { HoleRange } from "@vdo/block-device";
import { mustRun, type Programs } from "./programs.ts";

/** What {@link punchHole} needs for a regular file and for a block device. */
export const PUNCH_PROGRAMS = { file: "fallocate", block: "blkdiscard" } as const;

/** Gives the range back. Throws `VDO_COMMAND_FAILED` where the file system or the device cannot. */
export function punchHole(programs: Programs): (range: HoleRange) => Promise<void> {
  return async ({ descriptor, isBlockDevice, offset, length }) => {
    const range = ["--offset", String(offset), "--length", String(length), `/proc/${process.pid}/fd/${descriptor}`];
    // A block device is held exclusively by this process; --force leaves the same check to us.
    if (isBlockDevice) await mustRun(programs, PUNCH_PROGRAMS.block, ["--force", ...range]);
    else await mustRun(programs, PUNCH_PROGRAMS.file, ["--punch-hole", ...range]);
  };
}
