/** What a device says about the volume on it, without opening the volume. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import {
  checkConfiguration,
  decodeGeometryBlock,
  decodeSuperBlock,
  encodeGeometryBlock,
  type Geometry,
  geometryBlock,
  indexGeometry,
  type SuperBlock,
  slabCount,
  type VolumeStateName,
  volumeStateName,
} from "../format/index.ts";
import { BlockAccess } from "./block-access.ts";

/** A volume as its geometry block and super block describe it. Counts are of blocks of 4096 bytes. */
export interface VolumeInfo {
  state: VolumeStateName;
  uuid: Uint8Array;
  nonce: bigint;
  physicalBlocks: number;
  logicalBlocks: number;
  slabBlocks: number;
  slabCount: number;
  /** GiB. */
  indexMemory: number;
  indexSparse: boolean;
  /** The index is one chapter shorter than usual: a volume that was converted to LVM. */
  indexReduced: boolean;
  indexBlocks: number;
  completeRecoveries: number;
  readOnlyRecoveries: number;
  /** As of the last save; while the volume is dirty the truth is in its journal. */
  logicalBlocksUsed: number;
  blockMapDataBlocks: number;
  /** The decoded blocks. */
  geometry: Geometry;
  superBlock: SuperBlock;
}

function outside(field: string, expected: string, actual: unknown): never {
  throw new VdoError("VDO_CORRUPT", `GeometryBlock: ${field} is ${actual}, ${expected} is needed`, {
    structure: geometryBlock.name,
    field,
    expected,
    actual,
  });
}

/** Where the regions are must make sense before anything is read there. */
function checkRegions({ bioOffset, indexStart, dataStart }: Geometry, blockCount: number): void {
  if (indexStart <= bioOffset) outside("index region start", `more than the bio offset ${bioOffset}`, indexStart);
  if (dataStart <= indexStart)
    outside("data region start", `more than the index region start ${indexStart}`, dataStart);
  if (dataStart - bioOffset < blockCount) return;
  throw new VdoError(
    "VDO_PARAMETER_MISMATCH",
    `the super block is at block ${dataStart - bioOffset}, but the device has only ${blockCount} blocks: part of it is missing`,
    { structure: geometryBlock.name, field: "data region start", expected: `below ${blockCount}`, actual: dataStart },
  );
}

/**
 * Reads and checks geometry block and super block. Writes nothing.
 *
 * Throws `VDO_BAD_MAGIC` (no volume), `VDO_INCORRECT_COMPONENT`, `VDO_UNSUPPORTED_VERSION`, `VDO_CHECKSUM`, `VDO_BAD_NONCE`,
 * `VDO_BAD_CONFIGURATION`, `VDO_BAD_LAYOUT`, `VDO_UNKNOWN_PARTITION`, `VDO_CORRUPT`, `VDO_PARAMETER_MISMATCH` (the device is
 * too small), and what the device throws.
 */
export async function readVolumeInfo(device: BlockDevice): Promise<VolumeInfo> {
  const blocks = new BlockAccess(device);
  if (blocks.blockCount === 0) outside("device", "at least one block of 4096 bytes", `${device.blockCount} blocks`);
  const geometry = decodeGeometryBlock(await blocks.readBlock(0));
  const index = indexGeometry(geometry.index);
  checkRegions(geometry, blocks.blockCount);
  const superBlock = decodeSuperBlock(await blocks.readBlock(geometry.dataStart - geometry.bioOffset));
  const state = volumeStateName(superBlock.vdo.state);
  checkConfiguration(superBlock, geometry, blocks.blockCount);
  const { config, completeRecoveries, readOnlyRecoveries } = superBlock.vdo;
  return {
    state,
    uuid: geometry.uuid,
    nonce: geometry.nonce,
    physicalBlocks: config.physicalBlocks,
    logicalBlocks: config.logicalBlocks,
    slabBlocks: config.slabBlocks,
    slabCount: slabCount(superBlock.slabDepot),
    indexMemory: index.gib,
    indexSparse: index.sparse,
    indexReduced: index.reduced,
    indexBlocks: geometry.dataStart - geometry.indexStart,
    completeRecoveries,
    readOnlyRecoveries,
    logicalBlocksUsed: superBlock.recoveryJournal.logicalBlocksUsed,
    blockMapDataBlocks: superBlock.recoveryJournal.blockMapDataBlocks,
    geometry,
    superBlock,
  };
}

/** Gives the volume another UUID (16 bytes): the geometry block is rewritten, nothing else. The volume must not be open. */
export async function setVolumeUuid(device: BlockDevice, uuid: Uint8Array): Promise<void> {
  if (uuid.length !== 16) {
    throw new VdoError("VDO_BAD_ARGUMENT", `a UUID has 16 bytes, not ${uuid.length}`, {
      argument: "uuid",
      value: uuid.length,
    });
  }
  const blocks = new BlockAccess(device);
  const geometry = decodeGeometryBlock(await blocks.readBlock(0));
  await blocks.write(0, encodeGeometryBlock({ ...geometry, uuid }), { fua: true });
}
