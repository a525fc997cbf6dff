/** Reads the content of a mapping into a vio's buffer: zeros, a plain block, or a fragment of a compressed one. */
import { VdoError } from "@vdo/base";
import type { BlockCompressor } from "../compute/index.ts";
import { BLOCK_SIZE } from "../constants.ts";
import { fragmentOffset, fragmentSize, isCompressedState, slotOfState } from "../format/index.ts";

/**
 * Decodes what `state` names in the physical block that was read from `pbn` to byte `at` of `bytes`, into `target`, 4096
 * bytes that may be the same. Plain arguments: nothing is allocated for a block. Throws `VDO_INVALID_FRAGMENT`.
 */
export function decodeBlock(
  compressor: BlockCompressor,
  bytes: Buffer,
  at: number,
  pbn: number,
  state: number,
  target: Uint8Array,
): void {
  if (!isCompressedState(state)) {
    bytes.copy(target, 0, at, at + BLOCK_SIZE);
    return;
  }
  const slot = slotOfState(state);
  const block = at === 0 && bytes.length === BLOCK_SIZE ? bytes : bytes.subarray(at, at + BLOCK_SIZE);
  const offset = fragmentOffset(block, slot);
  const size = offset < 0 ? 0 : fragmentSize(block, slot);
  if (size === 0) {
    throw new VdoError("VDO_INVALID_FRAGMENT", `compressed block ${pbn} has no fragment ${slot}; its data is lost`, {
      slot,
      reason: "no such fragment",
    });
  }
  compressor.decompress(block, offset, size, target, slot);
}
