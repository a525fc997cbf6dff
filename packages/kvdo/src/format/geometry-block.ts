/**
 * The geometry block: block 0 of the device. It names the volume and says where its two regions are.
 *
 * Written by the formatter only. Two versions are read: 5.0 (written by 8.2 and later) and 4.0 (6.x tools), which lacks
 * the bio offset. The rest of the block is zero.
 */
import { array, ascii, bytes, struct, u32le, u64le, u64leBig, VdoError, viewOf } from "@vdo/base";
import { BLOCK_SIZE } from "../constants.ts";
import { checkChecksum, volumeChecksum } from "./checksum.ts";
import { checkHeader, componentHeader } from "./component-header.ts";
import { type IndexConfig, indexConfig } from "./index-config.ts";
import { DATA_REGION, INDEX_REGION, volumeRegion } from "./volume-region.ts";

export const GEOMETRY_MAGIC = "dmvdo001";
const GEOMETRY_ID = 5;

/** Version 5.0. */
export const geometryBlock = struct("GeometryBlock", 101, {
  magic: ascii(8),
  /** Its size is that of the whole encoding, magic to checksum. */
  header: componentHeader,
  /** A release id in old volumes; 0 now; copied into the super block at every save. */
  releaseNumber: u32le,
  nonce: u64leBig,
  uuid: bytes(16),
  /** Subtracted from every block number on its way to the device, except that of this block. */
  bioOffset: u64le,
  regions: array(volumeRegion, 2),
  index: indexConfig,
  checksum: u32le,
});

/** Version 4.0: no bio offset. */
export const geometryBlock4 = struct("GeometryBlock4", 93, {
  magic: ascii(8),
  header: componentHeader,
  releaseNumber: u32le,
  nonce: u64leBig,
  uuid: bytes(16),
  regions: array(volumeRegion, 2),
  index: indexConfig,
  checksum: u32le,
});

/** What a geometry block says, whatever its version. */
export interface Geometry {
  /** Major version of the encoding: 4 or 5. */
  version: 4 | 5;
  releaseNumber: number;
  nonce: bigint;
  /** 16 bytes. */
  uuid: Uint8Array;
  bioOffset: number;
  /** First block of the index region. */
  indexStart: number;
  /** First block of the data region: the super block. The index region ends here. */
  dataStart: number;
  index: IndexConfig;
}

const layouts = { 4: geometryBlock4, 5: geometryBlock } as const;

/**
 * Decodes block 0. Checks magic, id, version, size and checksum, in this order: throws `VDO_BAD_MAGIC`,
 * `VDO_INCORRECT_COMPONENT`, `VDO_UNSUPPORTED_VERSION`, `VDO_CHECKSUM`; `VDO_CORRUPT` when there are too few bytes.
 */
export function decodeGeometryBlock(block: Uint8Array): Geometry {
  const magic = ascii(8).get(viewOf(geometryBlockBytes(block)), 0);
  if (magic !== GEOMETRY_MAGIC) {
    throw new VdoError(
      "VDO_BAD_MAGIC",
      `this is not a VDO volume: block 0 starts with ${JSON.stringify(magic)}, not ${JSON.stringify(GEOMETRY_MAGIC)}`,
      { structure: geometryBlock.name, field: "magic", expected: GEOMETRY_MAGIC, actual: magic },
    );
  }
  const view = viewOf(block);
  const headerAt = geometryBlock.at.header.offset;
  // A major version up to 4 is compared with 4.0, anything higher with 5.0 (Linux 6.12, geometry block).
  const major = componentHeader.at.version.get(view, headerAt).major;
  const version = major <= 4 ? 4 : 5;
  const layout = layouts[version];
  const expected = { id: GEOMETRY_ID, version: { major: version, minor: 0 }, size: layout.size };
  checkHeader(geometryBlock.name, { view, at: headerAt }, expected);
  const stored = layout.at.checksum.get(view, 0);
  checkChecksum(geometryBlock.name, block.subarray(0, layout.size - 4), stored);
  const body = version === 4 ? { ...geometryBlock4.decode(block), bioOffset: 0 } : geometryBlock.decode(block);
  return {
    version,
    releaseNumber: body.releaseNumber,
    nonce: body.nonce,
    uuid: body.uuid,
    bioOffset: body.bioOffset,
    indexStart: body.regions[INDEX_REGION]!.startBlock,
    dataStart: body.regions[DATA_REGION]!.startBlock,
    index: body.index,
  };
}

function geometryBlockBytes(block: Uint8Array): Uint8Array {
  if (block.length >= geometryBlock.size) return block;
  throw new VdoError("VDO_CORRUPT", `GeometryBlock: ${block.length} bytes are too few`, {
    structure: geometryBlock.name,
    field: "length",
    expected: geometryBlock.size,
    actual: block.length,
  });
}

/** Encodes a whole block, checksum included. Version 4 cannot hold a bio offset other than 0. */
export function encodeGeometryBlock(geometry: Geometry): Uint8Array {
  const layout = layouts[geometry.version];
  const common = {
    magic: GEOMETRY_MAGIC,
    header: { id: GEOMETRY_ID, version: { major: geometry.version, minor: 0 }, size: layout.size },
    releaseNumber: geometry.releaseNumber,
    nonce: geometry.nonce,
    uuid: geometry.uuid,
    regions: [
      { id: INDEX_REGION, startBlock: geometry.indexStart },
      { id: DATA_REGION, startBlock: geometry.dataStart },
    ],
    index: geometry.index,
    checksum: 0,
  };
  const block =
    geometry.version === 4
      ? geometryBlock4.encode(common, BLOCK_SIZE)
      : geometryBlock.encode({ ...common, bioOffset: geometry.bioOffset }, BLOCK_SIZE);
  layout.at.checksum.set(viewOf(block), 0, volumeChecksum(block.subarray(0, layout.size - 4)));
  return block;
}
