/**
 * The label of a device that holds a whole pool, metadata and data. A format of this project: the kernel knows pools on two
 * devices only, and gets these two by dm-linear from the extents.
 *
 *     0 label │ 64 KiB its other copy │ 1 MiB metadata │ data │ …
 *
 * Both copies are complete; the valid one with the larger sequence counts, and a change writes the other. So a label that was
 * being written when the power went is not missed. Its magic stands where the kernel's superblock of a thin pool has a sum
 * and flags, and at another place than that one's magic, so neither is taken for the other.
 */
import { array, ascii, bytes, crc32c, struct, u32le, u64le, type ValueOf, viewOf } from "@vdo/base";

export const LABEL_MAGIC = "vdothinp";
export const LABEL_VERSION = 1;
/** Bytes from the start of the device at which the copies stand. */
export const LABEL_PLACES = [0, 65_536] as const;
/** Nothing else lies before. */
export const FIRST_EXTENT_BYTES = 1 << 20;
export const EXTENTS_MAX = 16;
export const EXTENT_METADATA = 1;
export const EXTENT_DATA = 2;

export const poolExtent = struct("PoolExtent", 24, {
  /** 1 metadata, 2 data; 0 where there is none. */
  kind: u32le,
  reserved: u32le,
  /** Bytes from the start of the device; a multiple of 65536. */
  start: u64le,
  /** Bytes; a multiple of 65536, of data also of the size of data blocks. */
  length: u64le,
});
export type PoolExtent = ValueOf<typeof poolExtent>;

/** Extents of one kind follow each other, in the order of the table, as one device. */
export const poolLabel = struct("PoolLabel", 512, {
  magic: ascii(8),
  version: u32le,
  /** Extents in use, the first of the table. */
  extentCount: u32le,
  /** One more with each change. */
  sequence: u64le,
  uuid: bytes(16),
  /** Bytes of the device that have been handed out. */
  deviceBytes: u64le,
  /** Sectors per data block. */
  dataBlockSectors: u32le,
  reserved: bytes(72),
  extents: array(poolExtent, EXTENTS_MAX),
  /** CRC-32C of the bytes before. */
  checksum: u32le,
});
export type PoolLabel = ValueOf<typeof poolLabel>;

const CHECKSUM_AT = poolLabel.at.checksum.offset;

/** The label as a block of `length` bytes, with its sum. */
export function encodeLabel(label: PoolLabel, length: number): Uint8Array {
  const block = poolLabel.encode(label, length);
  viewOf(block).setUint32(CHECKSUM_AT, crc32c(block.subarray(0, CHECKSUM_AT)), true);
  return block;
}

/** True when it begins like a label. */
export function looksLikeLabel(block: Uint8Array): boolean {
  return poolLabel.at.magic.get(viewOf(block), 0) === LABEL_MAGIC;
}

/** True when the sum fits the content. */
export function isLabelIntact(block: Uint8Array): boolean {
  return viewOf(block).getUint32(CHECKSUM_AT, true) === crc32c(block.subarray(0, CHECKSUM_AT));
}
