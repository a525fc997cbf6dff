/**
 * Which bits of a record name are used for what (Linux 6.12, hash utilities). All parts are big endian:
 *
 *     byte 0 … 7 (VI)  volume index: list and address     byte 8 … 13 (CI)  chapter: list, address, hash slot
 *     byte 14, 15 (S)  sampling: a hook when S mod sample rate is 0
 */
import { modulo } from "./arithmetic.ts";

function word(name: Uint8Array, at: number): number {
  return (
    (((name[at] as number) << 24) |
      ((name[at + 1] as number) << 16) |
      ((name[at + 2] as number) << 8) |
      (name[at + 3] as number)) >>>
    0
  );
}

/** Address in the volume index, of `addressBits` (at most 30) bits. */
export function volumeAddress(name: Uint8Array, addressBits: number): number {
  return word(name, 4) & ((1 << addressBits) - 1);
}

/** List of the volume index: ⌊VI / 2^20⌋ mod `listCount`. */
export function volumeList(name: Uint8Array, addressBits: number, listCount: number): number {
  const low = word(name, 4);
  if ((listCount & (listCount - 1)) === 0) {
    return ((low >>> addressBits) | (word(name, 0) << (32 - addressBits))) & (listCount - 1);
  }
  return modulo(word(name, 0) * 2 ** (32 - addressBits) + (low >>> addressBits), listCount);
}

/** List of a chapter's index: `listBits` (at most 16) bits above the address. The name is at byte `at` of `name`. */
export function chapterList(name: Uint8Array, addressBits: number, listBits: number, at = 0): number {
  const high = ((name[at + 8] as number) << 8) | (name[at + 9] as number);
  return ((word(name, at + 10) >>> addressBits) | (high << (32 - addressBits))) & ((1 << listBits) - 1);
}

/** Address in a chapter's index, of `addressBits` (at most 30) bits. The name is at byte `at` of `name`. */
export function chapterAddress(name: Uint8Array, addressBits: number, at = 0): number {
  return word(name, at + 10) & ((1 << addressBits) - 1);
}

/** The low 32 bits of CI, from which hash slots are taken. */
export function slotBits(name: Uint8Array): number {
  return word(name, 10);
}

/** True when a sparse index keeps this name for the whole volume. */
export function isHook(name: Uint8Array, sampleRate: number): boolean {
  return (((name[14] as number) << 8) | (name[15] as number)) % sampleRate === 0;
}
