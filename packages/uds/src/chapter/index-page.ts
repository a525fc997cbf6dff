/**
 * A page of a closed chapter's own delta index (Linux 6.12, immutable delta index page).
 *
 *     0  u64  volume nonce          16  u16  number of the first list       bit 160  (n + 1) × 19 bits: starts of the lists,
 *     8  u64  virtual chapter       18  u16  number n of lists              the last is where they end; then the lists
 *     last 7 bytes: 0xFF
 *
 * Pages written by big-endian hosts have the four header fields big endian; they are recognised.
 */
import { setU64, struct, u16be, u16le, u64beBig, u64leBig } from "@vdo/base";
import { getBits } from "../delta/bits.ts";

export const INDEX_PAGE_HEADER_BITS = 160;
export const LIST_START_BITS = 19;
export const INDEX_PAGE_GUARD_BYTES = 7;

export const indexPageHeader = struct("IndexPageHeader", 20, {
  nonce: u64leBig,
  virtualChapter: u64leBig,
  firstList: u16le,
  listCount: u16le,
});

const indexPageHeaderBigEndian = struct("IndexPageHeaderBigEndian", 20, {
  nonce: u64beBig,
  virtualChapter: u64beBig,
  firstList: u16be,
  listCount: u16be,
});

/** What a valid page says about itself. */
export interface IndexPageInfo {
  readonly virtualChapter: bigint;
  readonly firstList: number;
  readonly listCount: number;
  readonly bigEndian: boolean;
}

/** Bit, from the start of the page, where list `index` (0 to n) of the page starts. */
export function listStart(view: DataView, base: number, index: number): number {
  return getBits(view, base, INDEX_PAGE_HEADER_BITS + LIST_START_BITS * index, LIST_START_BITS);
}

/** Checks the page of `pageBytes` bytes at `base`; undefined when it is not a page of the volume with this nonce. */
export function readIndexPage(
  view: DataView,
  base: number,
  pageBytes: number,
  nonce: bigint,
): IndexPageInfo | undefined {
  for (const bigEndian of [false, true]) {
    const header = (bigEndian ? indexPageHeaderBigEndian : indexPageHeader).get(view, base);
    if (header.nonce !== nonce) continue;
    if (!isSound(view, base, pageBytes, header.listCount)) continue;
    return { ...header, bigEndian };
  }
  return undefined;
}

function isSound(view: DataView, base: number, pageBytes: number, listCount: number): boolean {
  if (listCount > Math.floor(((pageBytes - 20) * 8) / LIST_START_BITS)) return false;
  let last = INDEX_PAGE_HEADER_BITS + LIST_START_BITS * (listCount + 1);
  if (listStart(view, base, 0) !== last) return false;
  for (let i = 1; i <= listCount; i++) {
    const start = listStart(view, base, i);
    if (start < last) return false;
    last = start;
  }
  if (last > (pageBytes - INDEX_PAGE_GUARD_BYTES) * 8) return false;
  for (let i = 1; i <= INDEX_PAGE_GUARD_BYTES; i++) if (view.getUint8(base + pageBytes - i) !== 0xff) return false;
  return true;
}

/** Writes the header fields. */
export function writeIndexPageHeader(
  view: DataView,
  base: number,
  header: { nonce: bigint; virtualChapter: number; firstList: number; listCount: number },
): void {
  indexPageHeader.at.nonce.set(view, base, header.nonce);
  setU64(view, base + indexPageHeader.at.virtualChapter.offset, header.virtualChapter, true);
  indexPageHeader.at.firstList.set(view, base, header.firstList);
  indexPageHeader.at.listCount.set(view, base, header.listCount);
}
