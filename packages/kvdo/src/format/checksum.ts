/** The checksum of geometry block and super block: CRC-32 with a register that starts at 0. */
import { crc32, VdoError } from "@vdo/base";
import type {} from "../errors.ts";

/** CRC-32 (reflected 0xEDB88320) from 0, complemented at the end. Of no bytes, and of any zeros, it is 0xFFFFFFFF. */
export function volumeChecksum(bytes: Uint8Array): number {
  return crc32(bytes, 0, 0xffffffff);
}

const hexadecimal = (value: number): string => `0x${value.toString(16).padStart(8, "0")}`;

/** Throws `VDO_CHECKSUM` unless `stored` is the checksum of `covered`. */
export function checkChecksum(structure: string, covered: Uint8Array, stored: number): void {
  const computed = volumeChecksum(covered);
  if (computed === stored) return;
  throw new VdoError(
    "VDO_CHECKSUM",
    `${structure}: the checksum is ${hexadecimal(stored)}, that of its bytes is ${hexadecimal(computed)}`,
    { structure, field: "checksum", expected: computed, actual: stored },
  );
}
