/**
 * Counts of blocks as a space map stores them: two bits each in bitmap blocks, 3 meaning "see the overflow tree".
 *
 * The lower bit of a pair is the high bit of the count, so count 1 is the pair 2 and count 2 the pair 1.
 */

/** Blocks that one bitmap block counts. */
export const ENTRIES_PER_BITMAP = 16_320;
/** Bytes of a bitmap block before its entries. */
export const BITMAP_HEADER_BYTES = 16;

const COUNT_OF_PAIR = [0, 2, 1, 3] as const;

/** Count 0, 1 or 2 of entry `entry`, or 3 for "3 or more". */
export function bitmapCount(bitmap: Uint8Array, entry: number): number {
  const byte = bitmap[BITMAP_HEADER_BYTES + (entry >>> 2)] as number;
  return COUNT_OF_PAIR[(byte >>> ((entry & 3) * 2)) & 3] as number;
}

/** Stores a count of 0 to 3. */
export function setBitmapCount(bitmap: Uint8Array, entry: number, count: number): void {
  const at = BITMAP_HEADER_BYTES + (entry >>> 2);
  const shift = (entry & 3) * 2;
  bitmap[at] = ((bitmap[at] as number) & ~(3 << shift)) | ((COUNT_OF_PAIR[count] as number) << shift);
}
