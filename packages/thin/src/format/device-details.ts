/** What a pool records of each thin device, beside its mappings. Source of fact: Linux 6.12, thin metadata. */
import { struct, u32le, u64le, u64leBig, type ValueOf } from "@vdo/base";

/** A value of the details tree, 24 bytes. */
export const deviceDetails = struct("DeviceDetails", 24, {
  /** Mappings of the device, shared ones included. */
  mappedBlocks: u64le,
  /** The pool's transaction id when the device was created. */
  transactionId: u64leBig,
  /** The pool's time when the device was created; for a snapshot, after the increment. */
  creationTime: u32le,
  /** The pool's time of the last snapshot taken of the device, or of its own creation. */
  snapshottedTime: u32le,
});
export type DeviceDetails = ValueOf<typeof deviceDetails>;
