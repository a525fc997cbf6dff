/** The layout header (first block of the index region): region table and super block, and the configuration behind it. */
import { ascii, bytes, struct, u16le, u32le, u64le, u64leBig, VdoError } from "@vdo/base";
import { BLOCK_BYTES, CACHE_CHAPTERS, SAVE_SLOTS, VOLUME_INDEX_MEAN_DELTA } from "../constants.ts";
import { corrupt } from "../errors.ts";
import type { IndexGeometry } from "../geometry.ts";
import { primaryNonce, volumeNonce } from "./nonces.ts";
import {
  checkRegions,
  decodeRegionTable,
  encodeRegionTable,
  ONLY_INSTANCE,
  type Region,
  RegionKind,
  TableType,
} from "./region-table.ts";

const LABEL = "*ALBIREO*SINGLE*FILE*LAYOUT*001*";
const VERSION = 3;

/** Super block version 3. Version 7, of an index reduced by a conversion, is refused. */
export const superBlock = struct("SuperBlock", 104, {
  magicLabel: ascii(32),
  nonceInfo: bytes(32),
  nonce: u64leBig,
  version: u32le,
  blockSize: u32le,
  indexCount: u16le,
  maxSaves: u16le,
  padding: u32le,
  openChapterBlocks: u64le,
  pageMapBlocks: u64le,
});

const CONFIGURATION_MAGIC = "ALBIC";
const CONFIGURATION_VERSION = "06.02";

/** The second block of the index region. */
export const configurationBlock = struct("ConfigurationBlock", 50, {
  magic: ascii(5),
  version: ascii(5),
  recordPagesPerChapter: u32le,
  chaptersPerVolume: u32le,
  sparseChaptersPerVolume: u32le,
  cacheChapters: u32le,
  unused: u32le,
  volumeIndexMeanDelta: u32le,
  bytesPerPage: u32le,
  sparseSampleRate: u32le,
  nonce: u64leBig,
});

/** Where everything is. Block numbers count from `firstBlock`, the number of the device's block 0. */
export interface IndexLayout {
  readonly firstBlock: number;
  readonly volume: Region;
  readonly saves: readonly [Region, Region];
  /** All regions in order: header, configuration, sub-index, volume, save 0, save 1, seal. */
  readonly regions: readonly Region[];
  readonly nonceInfo: Uint8Array;
  readonly volumeNonce: bigint;
  readonly openChapterBlocks: number;
  readonly pageMapBlocks: number;
}

/** Lays a new index out from block number `firstBlock`. */
export function newLayout(geometry: IndexGeometry, firstBlock: number, nonceInfo: Uint8Array): IndexLayout {
  const { volumeBlocks, saveBlocks, openChapterBlocks, pageMapBlocks } = geometry;
  const sizes = { volumeBlocks, saveBlocks };
  return describe(firstBlock, nonceInfo, { ...sizes, openChapterBlocks, pageMapBlocks });
}

function describe(
  firstBlock: number,
  nonceInfo: Uint8Array,
  sizes: { volumeBlocks: number; saveBlocks: number; openChapterBlocks: number; pageMapBlocks: number },
): IndexLayout {
  const { volumeBlocks, saveBlocks } = sizes;
  const start = firstBlock + 2;
  const saveStart = start + volumeBlocks;
  const sealStart = saveStart + SAVE_SLOTS * saveBlocks;
  const region = (kind: number, instance: number, startBlock: number, blockCount: number): Region => ({
    startBlock,
    blockCount,
    kind,
    instance,
  });
  const volume = region(RegionKind.VOLUME, ONLY_INSTANCE, start, volumeBlocks);
  const saves = [
    region(RegionKind.SAVE, 0, saveStart, saveBlocks),
    region(RegionKind.SAVE, 1, saveStart + saveBlocks, saveBlocks),
  ] as const;
  return {
    firstBlock,
    volume,
    saves,
    regions: [
      region(RegionKind.HEADER, ONLY_INSTANCE, firstBlock, 1),
      region(RegionKind.CONFIG, ONLY_INSTANCE, firstBlock + 1, 1),
      region(RegionKind.SUB_INDEX, 0, start, volumeBlocks + SAVE_SLOTS * saveBlocks),
      volume,
      ...saves,
      region(RegionKind.SEAL, ONLY_INSTANCE, sealStart, 1),
    ],
    nonceInfo,
    volumeNonce: volumeNonce(primaryNonce(nonceInfo), start),
    openChapterBlocks: sizes.openChapterBlocks,
    pageMapBlocks: sizes.pageMapBlocks,
  };
}

export function encodeLayout(layout: IndexLayout): Uint8Array {
  let regionBlocks = 0;
  for (const region of layout.regions)
    if (region !== layout.volume && region.kind !== RegionKind.SAVE) regionBlocks += region.blockCount;
  const payload = superBlock.encode({
    magicLabel: LABEL,
    nonceInfo: layout.nonceInfo,
    nonce: primaryNonce(layout.nonceInfo),
    version: VERSION,
    blockSize: BLOCK_BYTES,
    indexCount: 1,
    maxSaves: SAVE_SLOTS,
    padding: 0,
    openChapterBlocks: layout.openChapterBlocks,
    pageMapBlocks: layout.pageMapBlocks,
  });
  return encodeRegionTable({ type: TableType.LAYOUT, regionBlocks, regions: layout.regions, payload });
}

/**
 * Decodes the layout header. Throws `UDS_NO_INDEX` when there is none, `UDS_UNSUPPORTED_VERSION`, and `VDO_CORRUPT`.
 * Region sizes are those of the table.
 */
export function decodeLayout(block: Uint8Array, firstBlock: number): IndexLayout {
  const table = decodeRegionTable(block);
  if (table === undefined) {
    throw new VdoError("UDS_NO_INDEX", `there is no index at block ${firstBlock}; create one`, { block: firstBlock });
  }
  const name = "index layout header";
  if (table.type !== TableType.LAYOUT) throw corrupt(name, "type", { expected: TableType.LAYOUT, actual: table.type });
  const found = superBlock.decode(table.payload);
  if (found.magicLabel !== LABEL) throw corrupt(name, "label", { expected: LABEL, actual: found.magicLabel });
  if (found.version !== VERSION) {
    throw new VdoError(
      "UDS_UNSUPPORTED_VERSION",
      `the index has super block version ${found.version}; only ${VERSION} is supported, the index is left alone`,
      { structure: "super block", version: found.version },
    );
  }
  if (table.payload.length !== superBlock.size) {
    throw corrupt(name, "payload", { expected: superBlock.size, actual: table.payload.length });
  }
  if (found.indexCount !== 1) throw corrupt(name, "index count", { expected: 1, actual: found.indexCount });
  const nonce = primaryNonce(found.nonceInfo);
  if (found.nonce !== nonce) throw corrupt(name, "nonce", { expected: nonce, actual: found.nonce });
  if (found.blockSize !== BLOCK_BYTES)
    throw corrupt(name, "block size", { expected: BLOCK_BYTES, actual: found.blockSize });
  if (found.maxSaves !== SAVE_SLOTS)
    throw corrupt(name, "save slots", { expected: SAVE_SLOTS, actual: found.maxSaves });
  if (table.regions.length !== 7) throw corrupt(name, "region count", { expected: 7, actual: table.regions.length });
  const layout = describe(firstBlock, found.nonceInfo, {
    volumeBlocks: table.regions[3]?.blockCount ?? 0,
    saveBlocks: table.regions[4]?.blockCount ?? 0,
    openChapterBlocks: found.openChapterBlocks,
    pageMapBlocks: found.pageMapBlocks,
  });
  checkRegions(name, table.regions, layout.regions);
  const seal = layout.regions[6] as Region;
  const total = seal.startBlock + 1 - firstBlock;
  if (table.regionBlocks !== total)
    throw corrupt(name, "total blocks", { expected: total, actual: table.regionBlocks });
  return layout;
}

function configurationOf(geometry: IndexGeometry, nonce: bigint) {
  return {
    magic: CONFIGURATION_MAGIC,
    version: CONFIGURATION_VERSION,
    recordPagesPerChapter: geometry.recordPagesPerChapter,
    chaptersPerVolume: geometry.chaptersPerVolume,
    sparseChaptersPerVolume: geometry.sparseChapters,
    cacheChapters: CACHE_CHAPTERS,
    unused: 0,
    volumeIndexMeanDelta: VOLUME_INDEX_MEAN_DELTA,
    bytesPerPage: geometry.bytesPerPage,
    sparseSampleRate: geometry.sampleRate,
    nonce,
  };
}

/** The configuration block for an index of `geometry`; `nonce` is the client's. */
export function encodeConfiguration(geometry: IndexGeometry, nonce: bigint): Uint8Array {
  return configurationBlock.encode(configurationOf(geometry, nonce), BLOCK_BYTES);
}

/** Throws `VDO_CORRUPT` for a block that is no configuration, `UDS_CONFIGURATION_MISMATCH` for another one. */
export function checkConfiguration(block: Uint8Array, geometry: IndexGeometry, nonce: bigint): void {
  const actual = configurationBlock.decode(block);
  const expected = configurationOf(geometry, nonce);
  for (const field of ["magic", "version"] as const) {
    if (actual[field] !== expected[field]) {
      throw corrupt("index configuration", field, { expected: expected[field], actual: actual[field] });
    }
  }
  for (const field of Object.keys(expected) as (keyof typeof expected)[]) {
    if (field === "unused" || actual[field] === expected[field]) continue;
    throw new VdoError(
      "UDS_CONFIGURATION_MISMATCH",
      `the index on this device has ${field} ${actual[field]}, not ${expected[field]}; open it as it was made, or create a new one`,
      { field, expected: expected[field], actual: actual[field] },
    );
  }
}
