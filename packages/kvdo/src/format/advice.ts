/**
 * Advice: what the volume keeps in the index under a record name, 16 bytes. Only a hint where the data may be found.
 *
 * ```
 * 0  u8   version, 2
 * 1  u8   mapping state, 1 to 15
 * 2  u64  block number
 * 10 6    zero
 * ```
 */
export const ADVICE_SIZE = 16;
const ADVICE_VERSION = 2;
const PBN_AT = 2;

/** Writes advice at byte `at`. */
export function writeAdvice(bytes: Uint8Array, at: number, pbn: number, state: number): void {
  bytes.fill(0, at, at + ADVICE_SIZE);
  bytes[at] = ADVICE_VERSION;
  bytes[at + 1] = state;
  bytes[at + PBN_AT] = pbn;
  bytes[at + PBN_AT + 1] = pbn >>> 8;
  bytes[at + PBN_AT + 2] = pbn >>> 16;
  bytes[at + PBN_AT + 3] = pbn >>> 24;
  bytes[at + PBN_AT + 4] = Math.floor(pbn / 0x1_0000_0000);
}

/** Mapping state of the advice at byte `at`, or 0 when it is of another version, has no block or no valid state. */
export function readAdviceState(bytes: Uint8Array, at: number): number {
  const state = bytes[at + 1]!;
  if (bytes[at] !== ADVICE_VERSION || state > 15 || readAdvicePbn(bytes, at) === 0) return 0;
  return state;
}

/** Block number of the advice at byte `at`; 0 when there is none, or one beyond 2^36 - 1. */
export function readAdvicePbn(bytes: Uint8Array, at: number): number {
  const from = at + PBN_AT;
  if (bytes[from + 4]! > 15 || (bytes[from + 5]! | bytes[from + 6]! | bytes[from + 7]!) !== 0) return 0;
  const low = bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16);
  return bytes[from + 4]! * 0x1_0000_0000 + (bytes[from + 3]! * 0x100_0000 + low);
}
