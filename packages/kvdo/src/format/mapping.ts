/**
 * A mapping, the 5-byte entry of a block map page: which physical block a slot stands for, and how it is stored there.
 *
 * ```
 * byte 0   bits 3-0 state, bits 7-4 block number bits 35-32
 * byte 1-4 block number bits 31-0, little-endian
 * ```
 * Block 0 is never data: with state 1 it stands for zeros that were written, with state 0 for nothing.
 */
export const MAPPING_STATE_UNMAPPED = 0;
export const MAPPING_STATE_UNCOMPRESSED = 1;
/** State of fragment 0 of a compressed block; the last one is 15, fragment 13. */
export const MAPPING_STATE_COMPRESSED_BASE = 2;
export const MAPPING_STATE_MAX = 15;

/** The block that stands for zeros. */
export const ZERO_BLOCK = 0;

/** Block number of the mapping at byte `at`: 0 to 2^36 - 1. */
export function readMappingPbn(bytes: Uint8Array, at: number): number {
  const low = bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16);
  return (bytes[at]! >> 4) * 0x1_0000_0000 + (bytes[at + 4]! * 0x100_0000 + low);
}

/** State of the mapping at byte `at`: 0 to 15. */
export function readMappingState(bytes: Uint8Array, at: number): number {
  return bytes[at]! & 15;
}

/** Writes a mapping at byte `at`. `pbn` is 0 to 2^36 - 1, `state` 0 to 15: not checked here. */
export function writeMapping(bytes: Uint8Array, at: number, pbn: number, state: number): void {
  bytes[at] = (Math.floor(pbn / 0x1_0000_0000) << 4) | state;
  bytes[at + 1] = pbn;
  bytes[at + 2] = pbn >>> 8;
  bytes[at + 3] = pbn >>> 16;
  bytes[at + 4] = pbn >>> 24;
}

/** True when block 0 has state 0 or 1, and any other block a state above 0. */
export function isValidMapping(pbn: number, state: number): boolean {
  return pbn === ZERO_BLOCK ? state <= MAPPING_STATE_UNCOMPRESSED : state !== MAPPING_STATE_UNMAPPED;
}

export function isCompressedState(state: number): boolean {
  return state >= MAPPING_STATE_COMPRESSED_BASE;
}

/** Fragment number of a compressed state. */
export function slotOfState(state: number): number {
  return state - MAPPING_STATE_COMPRESSED_BASE;
}

/** State of a fragment number, 0 to 13. */
export function stateOfSlot(slot: number): number {
  return slot + MAPPING_STATE_COMPRESSED_BASE;
}
