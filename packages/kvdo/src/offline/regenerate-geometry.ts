/**
 * Finds a volume whose block 0 was wiped, by trying every size that its index can have, and writes a geometry block for it. A
 * candidate is a super block that decodes, fits the device, and has at least one block map root of its own life.
 */
import { isVdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { BlockAccess } from "../admin/block-access.ts";
import { BLOCK_MAP_ROOTS, BLOCK_SIZE } from "../constants.ts";
import {
  checkConfiguration,
  decodeSuperBlock,
  encodeGeometryBlock,
  type Geometry,
  indexBlockCount,
  indexMemoryFromGib,
  judgeBlockMapPage,
} from "../format/index.ts";

/** Index memories in GiB, in the order in which they are tried. */
const MEMORIES = [0.25, 0.5, 0.75, ...Array.from({ length: 1024 }, (_, i) => i + 1)];

export interface GeometryCandidate {
  /** Block of the super block. */
  block: number;
  /** GiB. */
  indexMemory: number;
  sparse: boolean;
  /** The block 0 that the volume would have. */
  geometry: Geometry;
}

/**
 * Every volume that may be on `device`. Nothing is written. vdoregenerategeometry wants a root page of the block map that was
 * written (tools 6.2); a volume that was used for the first time when it broke off has none, and `rootless` takes it too.
 */
export async function findGeometries(
  device: BlockDevice,
  uuid: Uint8Array,
  { rootless = false } = {},
): Promise<GeometryCandidate[]> {
  const blocks = new BlockAccess(device);
  const found: GeometryCandidate[] = [];
  for (const indexMemory of MEMORIES) {
    for (const sparse of [false, true]) {
      const index = { memory: indexMemoryFromGib(indexMemory), unused: 0, sparse: sparse ? 1 : 0 };
      const block = 1 + indexBlockCount(index);
      if (block >= blocks.blockCount) continue;
      const geometry = await geometryAt(blocks, { block, index, uuid, rootless });
      if (geometry !== undefined) found.push({ block, indexMemory, sparse, geometry });
    }
  }
  return found;
}

interface Guess {
  block: number;
  index: Geometry["index"];
  uuid: Uint8Array;
  rootless: boolean;
}

async function geometryAt(blocks: BlockAccess, { block, index, uuid, rootless }: Guess): Promise<Geometry | undefined> {
  try {
    const superBlock = decodeSuperBlock(await blocks.readBlock(block));
    const { nonce } = superBlock.vdo;
    const geometry: Geometry = {
      version: 5,
      releaseNumber: superBlock.releaseNumber,
      nonce,
      uuid,
      bioOffset: 0,
      indexStart: 1,
      dataStart: block,
      index,
    };
    checkConfiguration(superBlock, geometry, blocks.blockCount);
    return rootless || (await hasRoot(blocks, superBlock.blockMap.rootOrigin, nonce)) ? geometry : undefined;
  } catch (error) {
    if (isVdoError(error) && error.code !== "VDO_IO") return undefined;
    throw error;
  }
}

async function hasRoot(blocks: BlockAccess, rootOrigin: number, nonce: bigint): Promise<boolean> {
  for (let root = 0; root < BLOCK_MAP_ROOTS; root++) {
    const page = await blocks.readBlock(rootOrigin + root);
    const view = new DataView(page.buffer, page.byteOffset, BLOCK_SIZE);
    if (judgeBlockMapPage(view, nonce, rootOrigin + root) === "valid") return true;
  }
  return false;
}

/** Writes block 0. */
export async function writeGeometry(device: BlockDevice, { geometry }: GeometryCandidate): Promise<void> {
  await new BlockAccess(device).write(0, encodeGeometryBlock(geometry), { fua: true });
}
