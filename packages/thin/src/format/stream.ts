/**
 * The stream of `vdo thin send`: what changes a base into a snapshot, for a pipe or a file. A format of this project.
 *
 *     header │ record [payload] │ record [payload] │ … │ record of kind `end` │ trailer
 *
 * Everything is counted in units of 64 KiB of the virtual device, which every size of data blocks is a multiple of, so the two
 * sides need not have the same. Records ascend and do not overlap. A sum covers each header, record and payload; the trailer
 * has the SHA-256 of all that comes before it. Digests of content are those of `ContentDigest`: a base is known by what it
 * holds, wherever it lies.
 */
import { ascii, bytes, struct, u32le, u64le, u64leBig, type ValueOf } from "@vdo/base";

export const STREAM_MAGIC = "vdothins";
export const STREAM_VERSION = 1;
/** Bytes of a unit. */
export const UNIT_BYTES = 65_536;
/** Sectors of a unit. */
export const UNIT_SECTORS = 128;
/** Units of one record with a payload. */
export const PAYLOAD_UNITS_MAX = 16;
/** In `flags`: what it changes is the base with `baseDigest`; without, it is a disk of zeros. */
export const STREAM_HAS_BASE = 1;

export const thinStreamHeader = struct("ThinStreamHeader", 128, {
  magic: ascii(8),
  version: u32le,
  /** Bit 0: there is a base. All others are 0. */
  flags: u32le,
  /** Virtual size of the device, in sectors. */
  sectors: u64le,
  /** No more bytes of payload than this follow. */
  payloadBytesMax: u64le,
  /** Sectors per data block of the pool it comes from; to tell people. */
  dataBlockSectors: u32le,
  /** Ids of the two devices in that pool; to tell people. */
  device: u32le,
  base: u32le,
  /** When the device was created, by the pool's clock; to tell people. */
  creationTime: u32le,
  transactionId: u64leBig,
  /** Content of the base; zeros without one. */
  baseDigest: bytes(32),
  reserved: bytes(36),
  /** CRC-32C of the bytes before. */
  checksum: u32le,
});
export type ThinStreamHeader = ValueOf<typeof thinStreamHeader>;

/** A payload follows: the content of the units. */
export const RECORD_DATA = 1;
/** The units read as zeros. */
export const RECORD_HOLE = 2;
/** The trailer follows. */
export const RECORD_END = 3;

export const thinStreamRecord = struct("ThinStreamRecord", 32, {
  /** 1 data, 2 hole, 3 end. */
  kind: u32le,
  /** Bytes that follow: 65536 for each unit of data, else 0. */
  payloadBytes: u32le,
  /** First unit. */
  begin: u64le,
  /** Units, at least 1; 0 at the end. */
  count: u64le,
  /** CRC-32C of the payload; 0 without. */
  payloadChecksum: u32le,
  /** CRC-32C of the bytes before. */
  checksum: u32le,
});
export type ThinStreamRecord = ValueOf<typeof thinStreamRecord>;

export const thinStreamTrailer = struct("ThinStreamTrailer", 128, {
  /** Records before the end. */
  records: u64le,
  payloadBytes: u64le,
  /** What the base holds in the units of all records. */
  replacedDigest: bytes(32),
  /** What the device holds afterwards. */
  resultDigest: bytes(32),
  /** SHA-256 of all bytes before the trailer. */
  streamDigest: bytes(32),
  reserved: bytes(12),
  /** CRC-32C of the bytes before. */
  checksum: u32le,
});
export type ThinStreamTrailer = ValueOf<typeof thinStreamTrailer>;
