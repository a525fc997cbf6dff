export { BitmapSet } from "./device/bitmap-set.ts";
export { MESSAGE_NAMES, type MessageHost, sendMessage, statusLine } from "./device/messages.ts";
export type { StackFile } from "./device/open-stack.ts";
export { PloopDevice, type PloopOpenOptions } from "./device/ploop-device.ts";
export type { DiskOptions } from "./disk/disk-state.ts";
export { type DiskCheckOptions, PloopDisk } from "./disk/ploop-disk.ts";
export type { SnapshotOptions } from "./disk/snapshots.ts";
export type { Errno } from "./errors.ts";
export { DeviceFile } from "./file/device-file.ts";
export type { FileRange, ImageDirectory, ImageFile } from "./file/image-file.ts";
export { NodeDirectory } from "./file/node-directory.ts";
export { NodeFile, type NodeFileOptions, type PunchHoles } from "./file/node-file.ts";
export {
  chainOf,
  DESCRIPTOR_NAME,
  type DescriptorImage,
  type DiskDescriptor,
  formatDescriptor,
  isGuid,
  NO_GUID,
  parseDescriptor,
  type Shot,
  type ShotState,
  sameGuid,
  TOP_GUID,
} from "./format/descriptor.ts";
export { type FormatVersion, type ImageHeader, readHeader, SECTOR, versionOf } from "./format/header.ts";
export {
  type CheckFinding,
  type CheckOptions,
  type CheckOutcome,
  type CheckReport,
  checkImage,
} from "./image/check.ts";
export { type CreateImageOptions, createImage, type ImageMode } from "./image/create.ts";
export { BITMAP_GRANULARITY, DirtyBitmap, type DirtyRange } from "./image/dirty-bitmap.ts";
export {
  copyToRaw,
  growImage,
  type MergeImagesOptions,
  mergeImages,
  type OfflineProgress,
  preallocateImage,
} from "./image/offline.ts";
