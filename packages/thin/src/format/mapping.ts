/**
 * Mappings as the leaves of a device's tree hold them: data block times 2^24, plus the pool's time when it was inserted.
 *
 *     byte   0   1   2 | 3   4   5   6   7
 *           time       | data block, 40 bits
 *
 * Worked example: 0x0000000005000005 is data block 5, time 5.
 */

/** Where a virtual block lies, and since when. */
export interface Mapping {
  /** Data block, below 2^40. */
  block: number;
  /** The pool's time at the insertion, below 2^24. */
  time: number;
}

/** Data blocks are numbered with 40 bits. */
export const DATA_BLOCKS_MAX = 2 ** 40;

/** Data block of the mapping at `at`. */
export function mappingBlock(view: DataView, at: number): number {
  return view.getUint8(at + 3) + view.getUint32(at + 4, true) * 256;
}

/** Time of the mapping at `at`. */
export function mappingTime(view: DataView, at: number): number {
  return view.getUint32(at, true) & 0xff_ffff;
}

/** Writes a mapping at `at`. */
export function setMapping(view: DataView, at: number, { block, time }: Mapping): void {
  view.setUint32(at, ((block % 256) * 0x100_0000 + time) >>> 0, true);
  view.setUint32(at + 4, Math.floor(block / 256), true);
}

/** A mapping is taken for shared by a device when it is older than the last snapshot of that device. */
export function isShared(mappingTime: number, snapshottedTime: number): boolean {
  return mappingTime < snapshottedTime;
}
