export {
  type BlockDevice,
  checkRange,
  type Extent,
  type WriteOptions,
  writeVector,
  type ZeroOptions,
} from "./block-device.ts";
export { FileDevice, type FileDeviceOptions, type HoleRange } from "./file-device.ts";
export { InlineTransfers } from "./inline-transfers.ts";
export { MemoryDevice } from "./memory-device.ts";
export { SliceDevice, zeroBlocks } from "./slice-device.ts";
