/**
 * The header of an expanded image: the first 64 bytes of the file, the index (BAT) follows at once.
 *
 *     0        64            64 + 4·N          first block offset
 *     | header | BAT: N u32  | zeros           | data clusters, in order of allocation …
 *
 * Source of fact: OpenVZ ploop 9.0.30 and QEMU's Parallels format, which is the same one.
 */
import { ascii, isVdoError, struct, u32le, u64le, type ValueOf, viewOf } from "@vdo/base";
import { badArgument, corrupt } from "../errors.ts";
import { geometryOf } from "./geometry.ts";

export const SECTOR = 512;
/** A BAT is read, cached and written in pages of this many bytes; page 0 begins with the header. */
export const PAGE_BYTES = 4096;
export const HEADER_BYTES = 64;
export const SIGNATURES = { 1: "WithoutFreeSpace", 2: "WithouFreSpacExt" } as const;
export type FormatVersion = 1 | 2;

export const IN_USE = { closed: 0, open: 0x746f6e59, extended: 0x312e3276 } as const;
/** Bit 0: nothing written yet, by its name; never trust it. Bit 1: a version conversion was interrupted. */
export const FLAG = { empty: 1, converting: 2 } as const;

const FLAGS_MAX = FLAG.empty + FLAG.converting;

export function isInUseWord(word: number): boolean {
  return word === IN_USE.closed || word === IN_USE.open || word === IN_USE.extended;
}

export const CLUSTER_SECTORS_MIN = 64;
export const CLUSTER_SECTORS_MAX = 131072;
/** New clusters of a grown image stay below this: 2^32 - 3. */
export const CLUSTERS_LIMIT = 0xffff_fffd;

const IMAGE_TYPE = 2;

export const imageHeader = struct("PloopHeader", HEADER_BYTES, {
  signature: ascii(16),
  type: u32le,
  heads: u32le,
  cylinders: u32le,
  clusterSectors: u32le,
  /** Entries in the BAT: guest clusters. */
  clusterCount: u32le,
  /** Disk size. Version 1 uses the low half only. */
  sizeSectors: u64le,
  inUse: u32le,
  /** Start of the data area, in sectors. */
  firstBlock: u32le,
  flags: u32le,
  /** In sectors; 0: none. */
  extensionOffset: u64le,
});

export type ImageHeader = ValueOf<typeof imageHeader>;

export function isClusterSize(sectors: number): boolean {
  return (
    Number.isInteger(sectors) &&
    sectors >= CLUSTER_SECTORS_MIN &&
    sectors <= CLUSTER_SECTORS_MAX &&
    Number.isInteger(Math.log2(sectors))
  );
}

export function ceilDiv(a: number, b: number): number {
  return Math.floor((a + b - 1) / b);
}

/** Clusters at the start of a file that header and BAT take. */
export function batClusters(clusterCount: number, clusterSectors: number): number {
  return ceilDiv(HEADER_BYTES + 4 * clusterCount, clusterSectors * SECTOR);
}

export function versionOf(header: ImageHeader): FormatVersion {
  return header.signature === SIGNATURES[1] ? 1 : 2;
}

export interface ImageShape {
  version: FormatVersion;
  /** In sectors; rounded up to whole clusters. */
  sizeSectors: number;
  clusterSectors: number;
}

/** The header of a new image. Throws `VDO_BAD_ARGUMENT` for what the version cannot hold. */
export function newHeader({ version, sizeSectors, clusterSectors }: ImageShape): ImageHeader {
  if (version !== 1 && version !== 2) throw badArgument("version", version, "formats are 1 and 2");
  if (!isClusterSize(clusterSectors)) {
    throw badArgument("clusterSectors", clusterSectors, "a cluster is a power of two from 64 to 131072 sectors");
  }
  if (!Number.isSafeInteger(sizeSectors) || sizeSectors <= 0) {
    throw badArgument("sizeSectors", sizeSectors, "a size is a whole number of sectors, at least 1");
  }
  const clusterCount = ceilDiv(sizeSectors, clusterSectors);
  const rounded = clusterCount * clusterSectors;
  if (version === 1 && rounded > 0xffff_ffff) {
    throw badArgument("sizeSectors", sizeSectors, "version 1 holds less than 2 TiB; take version 2");
  }
  if (clusterCount >= CLUSTERS_LIMIT)
    throw badArgument("sizeSectors", sizeSectors, "too many clusters; take larger ones");
  const firstBlock = batClusters(clusterCount, clusterSectors) * clusterSectors;
  return {
    signature: SIGNATURES[version],
    type: IMAGE_TYPE,
    ...geometryOf(rounded),
    clusterSectors,
    clusterCount,
    sizeSectors: rounded,
    inUse: IN_USE.closed,
    firstBlock,
    flags: FLAG.empty,
    extensionOffset: 0,
  };
}

/**
 * Decodes and checks a header; `place` names the image in errors. Throws `VDO_CORRUPT` with the field that is wrong. Heads and
 * cylinders are not looked at: growing while in use leaves them as they were, and QEMU writes others. With `repairable`,
 * neither are in-use word and flags, which a check can set right.
 */
export function readHeader(bytes: Uint8Array, place: string, { repairable = false } = {}): ImageHeader {
  if (bytes.length < HEADER_BYTES) throw corrupt(place, "length", "a header of 64 bytes", bytes.length);
  const copy = bytes.slice(0, HEADER_BYTES);
  const view = viewOf(copy);
  const signature = imageHeader.at.signature.get(view, 0);
  if (signature !== SIGNATURES[1] && signature !== SIGNATURES[2]) {
    throw corrupt(place, "signature", `${SIGNATURES[1]} or ${SIGNATURES[2]}`, JSON.stringify(signature));
  }
  // Version 1 has only the low half of the size; the other bytes hold anything.
  if (signature === SIGNATURES[1]) view.setUint32(40, 0, true);
  const header = decode(copy, place);
  const { clusterSectors, clusterCount, firstBlock, sizeSectors } = header;
  if (header.type !== IMAGE_TYPE) throw corrupt(place, "type", IMAGE_TYPE, header.type);
  if (!isClusterSize(clusterSectors)) {
    throw corrupt(place, "cluster size", "a power of two from 64 to 131072 sectors", clusterSectors);
  }
  if (clusterCount === 0) throw corrupt(place, "BAT size", "at least one entry", clusterCount);
  const first = batClusters(clusterCount, clusterSectors) * clusterSectors;
  if (firstBlock !== first) throw corrupt(place, "first block offset", first, firstBlock);
  const covered = clusterCount * clusterSectors;
  if (sizeSectors > covered || sizeSectors <= covered - clusterSectors) {
    throw corrupt(place, "disk size", `${covered} sectors, as ${clusterCount} BAT entries cover`, sizeSectors);
  }
  if (!repairable && !isInUseWord(header.inUse)) throw corrupt(place, "in-use word", "closed or open", header.inUse);
  if (!repairable && header.flags > FLAGS_MAX) throw corrupt(place, "flags", `at most ${FLAGS_MAX}`, header.flags);
  return header;
}

function decode(bytes: Uint8Array, place: string): ImageHeader {
  try {
    return imageHeader.decode(bytes);
  } catch (error) {
    if (isVdoError(error, "VDO_CORRUPT"))
      throw corrupt(place, error.data.field, error.data.expected, error.data.actual);
    throw error;
  }
}
