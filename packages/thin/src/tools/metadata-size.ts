/** How large a metadata device a pool needs, as thin_metadata_size estimates it. */
import { VdoError } from "@vdo/base";
import {
  BLOCK_SECTORS_MAX,
  BLOCK_SECTORS_MIN,
  METADATA_BLOCK_BYTES,
  METADATA_BLOCKS_MAX,
  SECTOR_BYTES,
} from "../constants.ts";

export interface MetadataSizeOptions {
  /** Bytes; 64 KiB to 1 GiB in steps of 64 KiB. */
  blockBytes: number;
  /** Bytes of the data device. */
  poolBytes: number;
  /** Thin devices and snapshots together. */
  thins: number;
}

/** Entries of a mapping leaf that is half full. */
const MAPPINGS_PER_BLOCK = 126;

/** Metadata blocks for the pool, every leaf half full. Throws `VDO_BAD_ARGUMENT`. */
export function metadataBlocks({ blockBytes, poolBytes, thins }: MetadataSizeOptions): number {
  const sectors = blockBytes / SECTOR_BYTES;
  if (sectors < BLOCK_SECTORS_MIN || sectors > BLOCK_SECTORS_MAX || sectors % BLOCK_SECTORS_MIN !== 0) {
    throw new VdoError("VDO_BAD_ARGUMENT", "block size must be a multiple of 64 KiB, from 64 KiB to 1 GiB", {
      argument: "block size",
      value: blockBytes,
    });
  }
  if (poolBytes < blockBytes) {
    throw new VdoError("VDO_BAD_ARGUMENT", "pool size must be at least one block", {
      argument: "pool size",
      value: poolBytes,
    });
  }
  const blocks = Math.floor(poolBytes / blockBytes);
  return Math.min(METADATA_BLOCKS_MAX, 1 + Math.floor(blocks / MAPPINGS_PER_BLOCK) + thins);
}

/** {@link metadataBlocks} in bytes. */
export function metadataBytes(options: MetadataSizeOptions): number {
  return metadataBlocks(options) * METADATA_BLOCK_BYTES;
}
