/** As much of the thin pool's superblock as tests of the library need. (Linux 6.12, thin_disk_superblock.) */
import { array, bytes, type Field, struct, u32le, u64le } from "@vdo/base";
import { corrupt } from "../../src/errors.ts";
import type { BlockKind, BTree, SuperblockFormat } from "../../src/index.ts";

export const thinSuperblock = struct("TestThinSuperblock", 364, {
  checksum: u32le,
  flags: u32le,
  blockNumber: u64le,
  uuid: bytes(16),
  magic: u64le,
  version: u32le,
  time: u32le,
  transactionId: u64le,
  heldRoot: u64le,
  dataSpaceMap: bytes(128),
  metadataSpaceMap: bytes(128),
  mappingRoot: u64le,
  detailsRoot: u64le,
  dataBlockSectors: u32le,
  metadataBlockSectors: u32le,
  metadataBlocks: u64le,
  featureFlags: array(u32le, 3),
});

export const THIN_MAGIC = 27022010;

export const THIN_KIND: BlockKind = {
  name: "thin superblock",
  salt: 160774,
  addressOffset: 8,
  identify({ view }, place) {
    const magic = thinSuperblock.at.magic.get(view, 0);
    if (magic !== THIN_MAGIC) throw corrupt(place, "magic", { expected: THIN_MAGIC, actual: magic });
  },
};

export const THIN: SuperblockFormat = {
  kind: THIN_KIND,
  spaceMapRootOffset: thinSuperblock.at.metadataSpaceMap.offset,
};

/** A mapping as the library's users would store it: no BigInt, two numbers. */
export interface Mapping {
  block: number;
  time: number;
}

export const mapping: Field<Mapping> = {
  size: 8,
  kind: "mapping",
  get: (view, at) => {
    const low = view.getUint32(at, true);
    return { block: view.getUint32(at + 4, true) * 256 + (low >>> 24), time: low & 0xffffff };
  },
  set: (view, at, { block, time }) => {
    view.setUint32(at, ((block % 256) << 24) | time, true);
    view.setUint32(at + 4, Math.floor(block / 256), true);
  },
};

export const deviceDetails = struct("TestDeviceDetails", 24, {
  mappedBlocks: u64le,
  transactionId: u64le,
  creationTime: u32le,
  snapshottedTime: u32le,
});

export type MappingTree = BTree<Mapping>;
