/** One of the two regions of a volume named in its geometry block: 0 is the index, 1 the data. */
import { struct, u32le, u64le, type ValueOf } from "@vdo/base";

export const volumeRegion = struct("VolumeRegion", 12, {
  /** Stored, but a reader trusts the position: the first region is the index. */
  id: u32le,
  /** Number of the first block; the region ends where the next one starts. */
  startBlock: u64le,
});
export type VolumeRegion = ValueOf<typeof volumeRegion>;

export const INDEX_REGION = 0;
export const DATA_REGION = 1;
