/** The volume's own part of a super block: state, recovery counters, sizes, nonce. */
import { struct, u32le, u64le, u64leBig, type ValueOf } from "@vdo/base";
import { packedVersion } from "./component-header.ts";

/** Sizes in blocks of 4096 bytes. */
export const volumeConfig = struct("VolumeConfig", 40, {
  /** Of the presented device. */
  logicalBlocks: u64le,
  /** Of the whole volume. */
  physicalBlocks: u64le,
  /** Per slab, a power of two. */
  slabBlocks: u64le,
  /** A power of two. */
  recoveryJournalBlocks: u64le,
  /** Per slab. */
  slabJournalBlocks: u64le,
});
export type VolumeConfig = ValueOf<typeof volumeConfig>;

export const vdoComponent = struct("VdoComponent", 76, {
  version: packedVersion,
  /** See `VOLUME_STATE`. */
  state: u32le,
  /** Recoveries and forced rebuilds finished; the low 8 bits are stamped into the recovery journal. */
  completeRecoveries: u64le,
  /** Forced rebuilds started. */
  readOnlyRecoveries: u64le,
  config: volumeConfig,
  /** Equal to the geometry block's. */
  nonce: u64leBig,
});
export type VdoComponent = ValueOf<typeof vdoComponent>;

export const VDO_COMPONENT_VERSION = { major: 41, minor: 0 };
