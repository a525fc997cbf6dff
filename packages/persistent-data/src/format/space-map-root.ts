/** The root of a space map, kept in the application's superblock. (Linux 6.12, disk_sm_root.) */
import { struct, u64le } from "@vdo/base";

export const spaceMapRoot = struct("SpaceMapRoot", 32, {
  /** Blocks the map describes. */
  blockCount: u64le,
  /** Blocks with a count above zero. */
  allocatedCount: u64le,
  /** Disk kind: root of the index tree. Metadata kind: the index block. */
  bitmapRoot: u64le,
  /** Root of the tree of counts of three and more. */
  overflowRoot: u64le,
});

/** Bytes set aside for a root in the thin pool's superblock. */
export const SPACE_MAP_ROOT_BYTES = 128;
