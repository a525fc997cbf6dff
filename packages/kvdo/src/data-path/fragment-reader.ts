/** Reads the content of a mapping into a vio's buffer: zeros, a plain block, or a fragment of a compressed one. */
import { VdoError } from "@vdo/base";
import type { BlockCompressor } from "../compute/index.ts";
import { BLOCK_SIZE } from "../constants.ts";
import { fragmentOffset, fragmentSize, isCompressedState, slotOfState } from "../format/index.ts";

/**
 * Decodes what `state` names in physical block `block` (read from `pbn`) into `target`, 4096 bytes.
 * Throws `VDO_INVALID_FRAGMENT`.
 */
export function decodeBlock(
  compressor: BlockCompressor,
  { block, pbn, state, target }: { block: Uint8Array; pbn: number; state: number; target: Uint8Array },
): void {
  if (!isCompressedState(state)) {
    target.set(block.subarray(0, BLOCK_SIZE));
    return;
  }
  const slot = slotOfState(state);
  const at = fragmentOffset(block, slot);
  const size = at < 0 ? 0 : fragmentSize(block, slot);
  if (size === 0) {
    throw new VdoError("VDO_INVALID_FRAGMENT", `compressed block ${pbn} has no fragment ${slot}; its data is lost`, {
      slot,
      reason: "no such fragment",
    });
  }
  compressor.decompress(block, at, size, target, slot);
}
