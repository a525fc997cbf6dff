/** A volume on storage as the offline tools see it: its two root blocks, and any block by its number. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { BlockAccess } from "../admin/block-access.ts";
import { BLOCK_MAP_ENTRIES_PER_PAGE, BLOCK_MAP_ROOTS, BLOCK_SIZE } from "../constants.ts";
import {
  checkConfiguration,
  decodeGeometryBlock,
  decodeSuperBlock,
  type Geometry,
  judgeBlockMapPage,
  leafOfBlock,
  mappingAt,
  readMappingPbn,
  readMappingState,
  type SuperBlock,
  slotInLeaf,
  slotInPage,
  treeOfLeaf,
  volumeStateName,
} from "../format/index.ts";

/** Height of root pages; leaves have height 0. */
export const ROOT_HEIGHT = 4;

/** An entry of a block map page that is not empty. */
export interface MapEntry {
  /** Block that holds the page, and the page's height. */
  page: number;
  height: number;
  slot: number;
  pbn: number;
  /** 0 unmapped, 1 a block, 2 to 15 a fragment. */
  state: number;
}

/** Blocks that are read at once where many follow each other. */
export const BLOCKS_PER_READ = 256;

export class StoppedVolume {
  readonly geometry: Geometry;
  readonly superBlock: SuperBlock;
  readonly #blocks: BlockAccess;

  private constructor(blocks: BlockAccess, geometry: Geometry, superBlock: SuperBlock) {
    this.#blocks = blocks;
    this.geometry = geometry;
    this.superBlock = superBlock;
  }

  /** Reads the root blocks. With `validate` their figures must fit each other and the device. Throws as `readVolumeInfo`. */
  static async open(device: BlockDevice, { validate }: { validate: boolean }): Promise<StoppedVolume> {
    const blocks = new BlockAccess(device);
    const geometry = decodeGeometryBlock(await blocks.readBlock(0));
    const superBlock = decodeSuperBlock(await blocks.readBlock(geometry.dataStart - geometry.bioOffset));
    if (validate) checkConfiguration(superBlock, geometry, blocks.blockCount);
    return new StoppedVolume(blocks, geometry, superBlock);
  }

  /** State of the super block: `CLEAN`, `NEW`, `DIRTY`, … Throws `VDO_CORRUPT` for one that is none. */
  get state(): string {
    return volumeStateName(this.superBlock.vdo.state);
  }

  /** Block `pbn` of the volume; whole blocks from there on. */
  readBlock(pbn: number): Promise<Uint8Array> {
    return this.#blocks.readBlock(pbn - this.geometry.bioOffset);
  }

  /** Blocks `start` to `start + count` of the volume, in large pieces. */
  async *readRuns(start: number, count: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < count; at += BLOCKS_PER_READ) {
      yield await this.#blocks.readBlocks(start + at - this.geometry.bioOffset, Math.min(BLOCKS_PER_READ, count - at));
    }
  }

  /** A page of the block map; null for one that was never written, or is another page: it counts as empty. */
  async readPage(pbn: number): Promise<Uint8Array | null> {
    const page = await this.readBlock(pbn);
    const view = new DataView(page.buffer, page.byteOffset, BLOCK_SIZE);
    return judgeBlockMapPage(view, this.superBlock.vdo.nonce, pbn) === "valid" ? page : null;
  }

  /**
   * Every entry that is not empty, depth first from root to root; an entry comes before what is below it. Journals are not
   * looked at. Throws `VDO_BAD_MAPPING` for pages that refer to each other without end.
   */
  async *entries(): AsyncGenerator<MapEntry> {
    const pagesMax = { left: this.superBlock.vdo.config.physicalBlocks };
    for (let root = 0; root < BLOCK_MAP_ROOTS; root++) {
      yield* this.#entriesBelow(this.superBlock.blockMap.rootOrigin + root, ROOT_HEIGHT, pagesMax);
    }
  }

  async *#entriesBelow(page: number, height: number, pagesMax: { left: number }): AsyncGenerator<MapEntry> {
    if (pagesMax.left-- === 0) {
      const data = { page, slot: 0, pbn: page, state: 0 };
      throw new VdoError("VDO_BAD_MAPPING", "pages of the block map refer to each other without end", data);
    }
    const bytes = await this.readPage(page);
    if (bytes === null) return;
    for (let slot = 0; slot < BLOCK_MAP_ENTRIES_PER_PAGE; slot++) {
      const pbn = readMappingPbn(bytes, mappingAt(slot));
      const state = readMappingState(bytes, mappingAt(slot));
      if (pbn === 0 && state === 0) continue;
      yield { page, height, slot, pbn, state };
      if (height > 0 && state !== 0 && pbn !== 0) yield* this.#entriesBelow(pbn, height - 1, pagesMax);
    }
  }

  /** Block of the leaf page of a logical block; 0 when there is none. */
  async leafOf(lbn: number): Promise<number> {
    const leaf = leafOfBlock(lbn);
    let pbn = this.superBlock.blockMap.rootOrigin + treeOfLeaf(leaf);
    for (let height = ROOT_HEIGHT; height > 0; height--) {
      const page = await this.readPage(pbn);
      if (page === null) return 0;
      pbn = readMappingPbn(page, mappingAt(slotInPage(leaf, height)));
      if (pbn === 0) return 0;
    }
    return pbn;
  }

  /** What a logical block is mapped to on the storage. */
  async mappingOf(lbn: number): Promise<{ pbn: number; state: number }> {
    const leaf = await this.leafOf(lbn);
    const page = leaf === 0 ? null : await this.readPage(leaf);
    if (page === null) return { pbn: 0, state: 0 };
    const at = mappingAt(slotInLeaf(lbn));
    return { pbn: readMappingPbn(page, at), state: readMappingState(page, at) };
  }
}
