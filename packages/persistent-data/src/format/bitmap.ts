/**
 * Bitmap blocks: two bits per block described, low bit and high bit swapped. (Linux 6.12, dm-space-map-common.)
 *
 *     0 checksum | 4 unused | 8 own address | 16 pairs, four a byte
 *
 *     count 0: pair 0    count 1: pair 2    count 2: pair 1    count 3 and more: pair 3, the count is in the overflow tree
 */
import { struct, u32le, u64le } from "@vdo/base";
import { BLOCK_BYTES, type Block, type BlockKind } from "../store/block.ts";

export const bitmapHeader = struct("BitmapHeader", 16, { checksum: u32le, unused: u32le, blockNumber: u64le });

/** Where a bitmap is, and hints for the search of free blocks in it. */
export const indexEntry = struct("IndexEntry", 16, {
  blockNumber: u64le,
  /** Entries with count zero; starts at 16320 also where the last bitmap is not full. Not to be trusted. */
  freeCount: u32le,
  /** No entry below is free. Not to be trusted. */
  noneFreeBefore: u32le,
});

/** Head of the metadata space map's index block: 255 entries follow. */
export const indexBlockHeader = struct("IndexBlockHeader", 16, { checksum: u32le, padding: u32le, blockNumber: u64le });

const HEADER_BYTES = bitmapHeader.size;
/** Blocks described by one bitmap. */
export const ENTRIES_PER_BITMAP = (BLOCK_BYTES - HEADER_BYTES) * 4;
/** Bitmaps that the metadata space map's index block has room for. */
export const METADATA_BITMAPS_MAX = (BLOCK_BYTES - indexBlockHeader.size) / indexEntry.size;
/** Most blocks of a metadata device: 15.875 GiB. */
export const METADATA_BLOCKS_MAX = METADATA_BITMAPS_MAX * ENTRIES_PER_BITMAP;
/** Counts from here on are in the overflow tree. */
export const OVERFLOW_COUNT = 3;

export const BITMAP_KIND: BlockKind = {
  name: "space-map bitmap",
  salt: 240779,
  addressOffset: bitmapHeader.at.blockNumber.offset,
};

export const INDEX_KIND: BlockKind = {
  name: "metadata space-map index",
  salt: 160478,
  addressOffset: indexBlockHeader.at.blockNumber.offset,
};

/** 0, 1, 2, or 3 for "look into the overflow tree". */
export function pairAt(bitmap: Block, entry: number): number {
  const pair = ((bitmap.bytes[HEADER_BYTES + (entry >>> 2)] as number) >>> (2 * (entry & 3))) & 3;
  return ((pair & 1) << 1) | (pair >>> 1);
}

/** `count` is 0 to 3. */
export function setPair(bitmap: Block, entry: number, count: number): void {
  const at = HEADER_BYTES + (entry >>> 2);
  const shift = 2 * (entry & 3);
  const pair = ((count & 1) << 1) | (count >>> 1);
  bitmap.bytes[at] = ((bitmap.bytes[at] as number) & ~(3 << shift)) | (pair << shift);
}

/** First entry in [begin, end) with count 0; -1 if there is none. */
export function findFree(bitmap: Block, begin: number, end: number): number {
  let entry = begin;
  while (entry < end) {
    if ((entry & 15) === 0 && entry + 16 <= end) {
      const word = bitmap.view.getUint32(HEADER_BYTES + (entry >>> 2), true);
      if (((word | (word >>> 1)) & 0x55555555) === 0x55555555) {
        entry += 16;
        continue;
      }
    }
    if (pairAt(bitmap, entry) === 0) return entry;
    entry++;
  }
  return -1;
}
