/**
 * A compressed block: header with the sizes of up to 14 fragments, then the fragments back to back in slot order, each one
 * raw LZ4 block of 4096 bytes. Used slots come first, without gaps; what follows the last fragment is undefined.
 */
import { array, struct, u16le, u32le, type ValueOf } from "@vdo/base";
import { BLOCK_SIZE, COMPRESSED_BLOCK_HEADER_SIZE, COMPRESSED_BLOCK_SLOTS } from "../constants.ts";

export const compressedBlockHeader = struct("CompressedBlockHeader", COMPRESSED_BLOCK_HEADER_SIZE, {
  versionMajor: u32le,
  versionMinor: u32le,
  /** Bytes of each fragment; 0 for an unused slot. */
  sizes: array(u16le, COMPRESSED_BLOCK_SLOTS),
});
export type CompressedBlockHeader = ValueOf<typeof compressedBlockHeader>;

const VERSION_MAJOR = 1;
const VERSION_MINOR = 0;
const SIZES_AT = compressedBlockHeader.at.sizes.offset;

/** Starts a compressed block: version, and no fragments. The data area is left as it is. */
export function startCompressedBlock(block: Uint8Array): void {
  block.fill(0, 0, COMPRESSED_BLOCK_HEADER_SIZE);
  block[0] = VERSION_MAJOR;
}

/** Size of the fragment in slot `slot` (0 to 13), as the header says. */
export function fragmentSize(block: Uint8Array, slot: number): number {
  const at = SIZES_AT + 2 * slot;
  return block[at]! | (block[at + 1]! << 8);
}

/** Records the size of the fragment in slot `slot`. */
export function setFragmentSize(block: Uint8Array, slot: number, size: number): void {
  const at = SIZES_AT + 2 * slot;
  block[at] = size;
  block[at + 1] = size >> 8;
}

/** True when the block starts as a compressed block of the known version. */
export function isCompressedBlock(block: Uint8Array): boolean {
  if (block[0] !== VERSION_MAJOR || block[4] !== VERSION_MINOR) return false;
  return (block[1]! | block[2]! | block[3]! | block[5]! | block[6]! | block[7]!) === 0;
}

/**
 * Byte at which the fragment in slot `slot` starts, or -1 when the block is not a compressed one or the fragment does not
 * lie within it. Its size is {@link fragmentSize}; whether it decompresses is the decoder's to say.
 */
export function fragmentOffset(block: Uint8Array, slot: number): number {
  if (slot < 0 || slot >= COMPRESSED_BLOCK_SLOTS || !isCompressedBlock(block)) return -1;
  let at = COMPRESSED_BLOCK_HEADER_SIZE;
  for (let before = 0; before < slot; before++) {
    at += fragmentSize(block, before);
    if (at >= BLOCK_SIZE) return -1;
  }
  return at + fragmentSize(block, slot) > BLOCK_SIZE ? -1 : at;
}
