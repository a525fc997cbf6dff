/** The thin superblock as the metadata store knows it. */
import type { BlockKind } from "@vdo/persistent-data";
import { decodeSuperblock, SUPERBLOCK_SALT, thinSuperblock } from "../format/superblock.ts";

export const SUPERBLOCK_KIND: BlockKind = {
  name: "thin superblock",
  salt: SUPERBLOCK_SALT,
  addressOffset: thinSuperblock.at.blockNumber.offset,
  identify: (block) => void decodeSuperblock(block.bytes, block.number),
};

/** Where the store finds its own space map. */
export const SUPERBLOCK_FORMAT = {
  kind: SUPERBLOCK_KIND,
  spaceMapRootOffset: thinSuperblock.at.metadataSpaceMap.offset,
};
