/**
 * The superblock of a thin pool: block 0 of the metadata device, and its copy held for a metadata snapshot.
 *
 * Source of fact: Linux 6.12, thin metadata. The rest of the 4096 bytes is zero; the sum covers bytes 4 to 4095.
 */
import { bytes, crc32c, isVdoError, struct, u32le, u64le, u64leBig, type ValueOf, VdoError, viewOf } from "@vdo/base";
import { METADATA_BLOCK_BYTES } from "../constants.ts";

/** The 32 bytes that describe a space map. */
export const spaceMapRoot = struct("SpaceMapRoot", 32, {
  /** Blocks managed. */
  blockCount: u64le,
  /** Blocks with a count above 0. A hint: no tool verifies it. */
  allocatedCount: u64le,
  /** Root of the index tree (data), or the index block (metadata). */
  bitmapRoot: u64le,
  /** Root of the tree of counts of 3 and more. */
  overflowRoot: u64le,
});
export type SpaceMapRoot = ValueOf<typeof spaceMapRoot>;

export const thinSuperblock = struct("ThinSuperblock", 364, {
  checksum: u32le,
  /** Bit 0: needs_check. */
  flags: u32le,
  /** Own address. */
  blockNumber: u64le,
  uuid: bytes(16),
  magic: u64le,
  version: u32le,
  /** Increased by each snapshot. */
  time: u32le,
  /** The user's transaction id. */
  transactionId: u64leBig,
  /** Address of the metadata snapshot's superblock; 0 is none. */
  heldRoot: u64le,
  dataSpaceMap: spaceMapRoot,
  dataSpaceMapRest: bytes(96),
  metadataSpaceMap: spaceMapRoot,
  metadataSpaceMapRest: bytes(96),
  /** Root of the two-level tree device → virtual block → mapping. */
  mappingRoot: u64le,
  /** Root of the tree device → details. */
  detailsRoot: u64le,
  /** Sectors per data block. */
  dataBlockSectors: u32le,
  /** Sectors per metadata block: 8. */
  metadataBlockSectors: u32le,
  /** Blocks when it was formatted; growth does not change it. */
  metadataBlockCount: u64le,
  compatFlags: u32le,
  compatReadOnlyFlags: u32le,
  incompatFlags: u32le,
});
export type ThinSuperblock = ValueOf<typeof thinSuperblock>;

export const SUPERBLOCK_MAGIC = 27_022_010;
export const SUPERBLOCK_VERSION = 2;
/** The kinds of metadata blocks differ by what is xored into their sums. */
export const SUPERBLOCK_SALT = 160_774;
/** Flag: something failed while the pool was changed, so it is read-only until it was checked. */
export const NEEDS_CHECK = 1;

/** CRC-32C as metadata blocks use it: over bytes 4 and on, without the final inversion, xored with the kind's salt. */
export function blockChecksum(block: Uint8Array, salt: number): number {
  return (~crc32c(block.subarray(4)) ^ salt) >>> 0;
}

/** Encodes a superblock into a whole block, with its address and sum. */
export function encodeSuperblock(value: ThinSuperblock, blockNumber = 0): Uint8Array {
  const block = thinSuperblock.encode({ ...value, blockNumber }, METADATA_BLOCK_BYTES);
  thinSuperblock.at.checksum.set(viewOf(block), 0, blockChecksum(block, SUPERBLOCK_SALT));
  return block;
}

function corrupt(field: string, expected: unknown, actual: unknown, message: string): VdoError {
  return new VdoError("VDO_CORRUPT", message, { structure: "ThinSuperblock", field, expected, actual });
}

/** True when the sum fits the content, whatever the content. */
export function isSuperblockIntact(block: Uint8Array): boolean {
  return thinSuperblock.at.checksum.get(viewOf(block), 0) === blockChecksum(block, SUPERBLOCK_SALT);
}

/**
 * Decodes the superblock in `block`, read from address `blockNumber`, as the kernel does: own address, magic, checksum.
 * Throws `VDO_CORRUPT`.
 */
export function decodeSuperblock(block: Uint8Array, blockNumber = 0): ThinSuperblock {
  const advice = "this is not a thin pool's metadata, or it is damaged: run vdo thin check, then vdo thin repair";
  let value: ThinSuperblock;
  try {
    value = thinSuperblock.decode(block);
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    throw new VdoError("VDO_CORRUPT", `superblock: ${error.message}; ${advice}`, error.data, error);
  }
  if (value.blockNumber !== blockNumber) {
    const message = `superblock: address ${value.blockNumber} instead of ${blockNumber}; ${advice}`;
    throw corrupt("blockNumber", blockNumber, value.blockNumber, message);
  }
  if (value.magic !== SUPERBLOCK_MAGIC) {
    throw corrupt("magic", SUPERBLOCK_MAGIC, value.magic, `superblock: magic ${value.magic}; ${advice}`);
  }
  if (!isSuperblockIntact(block)) {
    const wanted = blockChecksum(block, SUPERBLOCK_SALT);
    throw corrupt("checksum", wanted, value.checksum, `superblock: bad checksum ${value.checksum}; ${advice}`);
  }
  return value;
}
