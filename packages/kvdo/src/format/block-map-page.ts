/**
 * A page of the block map: header, then 812 mappings. Roots, interior pages and leaves share it.
 *
 * A page is written twice the first time, first with `initialised` 0: a torn first write is then invisible.
 */
import { bytes, struct, u8, u32le, u64le, u64leBig, type ValueOf } from "@vdo/base";
import { BLOCK_MAP_PAGE_HEADER_SIZE, MAPPING_SIZE } from "../constants.ts";

export const blockMapPageHeader = struct("BlockMapPageHeader", BLOCK_MAP_PAGE_HEADER_SIZE, {
  versionMajor: u32le,
  versionMinor: u32le,
  nonce: u64leBig,
  /** Number of this page itself. */
  pbn: u64le,
  /** Not always zero on old volumes; carried along. */
  unused: bytes(8),
  /** 1 once the page has been written before. */
  initialised: u8,
  unused33: u8,
  unused34: bytes(2),
});
export type BlockMapPageHeader = ValueOf<typeof blockMapPageHeader>;

const VERSION_MAJOR = 4;
const VERSION_MINOR = 1;

/** Byte at which the mapping of slot `slot` (0 to 811) starts. */
export function mappingAt(slot: number): number {
  return BLOCK_MAP_PAGE_HEADER_SIZE + slot * MAPPING_SIZE;
}

/** Makes `page` an empty page that was never written: all slots unmapped, `initialised` 0. */
export function formatBlockMapPage(page: Uint8Array, view: DataView, nonce: bigint, pbn: number): void {
  page.fill(0);
  const at = blockMapPageHeader.at;
  at.versionMajor.set(view, 0, VERSION_MAJOR);
  at.versionMinor.set(view, 0, VERSION_MINOR);
  at.nonce.set(view, 0, nonce);
  at.pbn.set(view, 0, pbn);
}

export function isPageInitialised(page: Uint8Array): boolean {
  return page[blockMapPageHeader.at.initialised.offset] === 1;
}

export function setPageInitialised(page: Uint8Array, initialised: boolean): void {
  page[blockMapPageHeader.at.initialised.offset] = initialised ? 1 : 0;
}

/**
 * What a page read from block `pbn` is:
 * - `uninitialised`: of another version or life, or torn at its first write: a page of unmapped slots, to be formatted;
 * - `bad`: valid, but another page;
 * - `valid`.
 */
export type PageVerdict = "valid" | "uninitialised" | "bad";

export function judgeBlockMapPage(view: DataView, nonce: bigint, pbn: number): PageVerdict {
  const at = blockMapPageHeader.at;
  if (at.versionMajor.get(view, 0) !== VERSION_MAJOR || at.versionMinor.get(view, 0) !== VERSION_MINOR) {
    return "uninitialised";
  }
  if (at.initialised.get(view, 0) === 0 || at.nonce.get(view, 0) !== nonce) return "uninitialised";
  // Compared in halves: damage may put a number there that no count can hold.
  const offset = at.pbn.offset;
  if (view.getUint32(offset, true) !== pbn >>> 0) return "bad";
  return view.getUint32(offset + 4, true) === Math.floor(pbn / 0x1_0000_0000) ? "valid" : "bad";
}
