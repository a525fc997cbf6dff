/** The block map's part of a super block. */
import { struct, u64le, type ValueOf } from "@vdo/base";
import { componentHeader } from "./component-header.ts";

export const blockMapComponent = struct("BlockMapComponent", 52, {
  header: componentHeader,
  /** Must be 1: the pages of very old volumes. */
  flatPageOrigin: u64le,
  /** Must be 0. */
  flatPageCount: u64le,
  /** Number of the first root page. */
  rootOrigin: u64le,
  rootCount: u64le,
});
export type BlockMapComponent = ValueOf<typeof blockMapComponent>;

export const BLOCK_MAP_HEADER = { id: 4, version: { major: 2, minor: 0 }, size: 32 };
