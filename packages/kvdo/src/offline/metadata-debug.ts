/**
 * Searches a metadata dump for what its journals say of a block, as `vdodebugmetadata` does (tools 8.3). Unlike there, a logical
 * block is found by the page that maps it, which the dump has to hold.
 */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { BlockAccess } from "../admin/block-access.ts";
import { BLOCK_MAP_ROOTS, BLOCK_SIZE } from "../constants.ts";
import {
  blockMapPageHeader,
  decodeGeometryBlock,
  decodeSuperBlock,
  findPartition,
  isJournalBlockValid,
  isSlabJournalBlockMapEntry,
  JOURNAL_NEW_MAPPING_AT,
  JOURNAL_OPERATION_BLOCK_MAP,
  journalCheckByte,
  journalEntryAt,
  journalSectorAt,
  journalSectorHeader,
  leafOfBlock,
  mappingAt,
  PARTITION,
  readJournalEntryOperation,
  readJournalEntrySlot,
  readJournalEntrySlotPbn,
  readMappingPbn,
  readMappingState,
  readSlabJournalOffset,
  recoveryJournalHeader,
  type SuperBlock,
  slabCount,
  slabJournalHeader,
  slotInLeaf,
  slotInPage,
  treeOfLeaf,
} from "../format/index.ts";
import { BLOCKS_PER_READ } from "./stopped-volume.ts";

/** Sectors with entries, and entries in each. */
const SECTORS = 7;
const ENTRIES_PER_SECTOR = 31;
/** Most entries of a slab journal block: those of one without block map increments. */
const SLAB_ENTRIES_MAX = 1340;
/** Blocks of the dump before the block map. */
const ROOTS_AT = 2;

const operationName = (isBlockMap: boolean): string => (isBlockMap ? "block map remapping" : "data remapping");

export class MetadataDump {
  readonly superBlock: SuperBlock;
  readonly #blocks: BlockAccess;
  /** Blocks of the dump at which slabs, recovery journal and summary begin. */
  readonly #slabsAt: number;
  readonly #journalAt: number;
  readonly #journalBlocks: number;

  private constructor(blocks: BlockAccess, superBlock: SuperBlock) {
    this.#blocks = blocks;
    this.superBlock = superBlock;
    this.#journalBlocks = findPartition(superBlock.layout, PARTITION.recoveryJournal).count;
    const summary = findPartition(superBlock.layout, PARTITION.slabSummary).count;
    this.#journalAt = blocks.blockCount - summary - this.#journalBlocks;
    this.#slabsAt = this.#journalAt - slabCount(superBlock.slabDepot) * this.#slabBlocks();
    if (this.#slabsAt >= ROOTS_AT) return;
    throw new VdoError("VDO_CORRUPT", "the dump is too short: part of it is missing", {
      structure: "metadata dump",
      field: "length",
      expected: "all regions",
      actual: blocks.blockCount,
    });
  }

  /** Opens a dump. Throws as the decoders of geometry and super block do, and `VDO_CORRUPT` for one that is too short. */
  static async open(device: BlockDevice): Promise<MetadataDump> {
    const blocks = new BlockAccess(device);
    decodeGeometryBlock(await blocks.readBlock(0));
    return new MetadataDump(blocks, decodeSuperBlock(await blocks.readBlock(1)));
  }

  #slabBlocks(): number {
    const { referenceCountBlocks, slabJournalBlocks } = this.superBlock.slabDepot.slabConfig;
    return referenceCountBlocks + slabJournalBlocks;
  }

  /** Lines about physical block `pbn`: where it is, and each slab journal entry of it. */
  async *searchPbn(pbn: number): AsyncGenerator<string> {
    const { slabConfig, firstBlock, lastBlock } = this.superBlock.slabDepot;
    if (pbn < firstBlock || pbn >= lastBlock) {
      yield `PBN ${pbn} out of range; skipping.`;
      return;
    }
    const slab = Math.floor((pbn - firstBlock) / slabConfig.slabBlocks);
    const offset = (pbn - firstBlock) % slabConfig.slabBlocks;
    yield `PBN ${pbn} is offset ${offset} in slab ${slab}`;
    const journalAt = this.#slabsAt + slab * this.#slabBlocks() + slabConfig.referenceCountBlocks;
    for (let i = 0; i < slabConfig.slabJournalBlocks; i++) {
      const block = await this.#blocks.readBlock(journalAt + i);
      const { sequence, entryCount, hasBlockMapIncrements } = slabJournalHeaderOf(block);
      for (let entry = 0; entry < Math.min(entryCount, SLAB_ENTRIES_MAX); entry++) {
        if (readSlabJournalOffset(block, entry) !== offset) continue;
        const isBlockMap = hasBlockMapIncrements !== 0 && isSlabJournalBlockMapEntry(block, entry);
        yield `PBN ${pbn} (${sequence}, ${entry}) ${operationName(isBlockMap)}`;
      }
    }
  }

  /** Lines about each recovery journal entry of logical block `lbn`. */
  async *searchLbn(lbn: number): AsyncGenerator<string> {
    const leaf = await this.#leafOf(lbn);
    if (leaf === 0) return;
    for (let first = 0; first < this.#journalBlocks; first += BLOCKS_PER_READ) {
      const count = Math.min(BLOCKS_PER_READ, this.#journalBlocks - first);
      const blocks = await this.#blocks.readBlocks(this.#journalAt + first, count);
      for (let i = 0; i < count; i++) {
        const block = blocks.subarray(i * BLOCK_SIZE, (i + 1) * BLOCK_SIZE);
        yield* this.#searchJournalBlock({ block, offset: first + i, lbn, leaf });
      }
    }
  }

  *#searchJournalBlock(at: { block: Uint8Array; offset: number; lbn: number; leaf: number }): Generator<string> {
    const { block, offset, lbn, leaf } = at;
    const view = new DataView(block.buffer, block.byteOffset, BLOCK_SIZE);
    const sequence = recoveryJournalHeader.at.sequence;
    if (view.getUint16(sequence.offset + 6, true) !== 0) return;
    const number = sequence.get(view, 0);
    const not = (holds: boolean): string => (holds ? "" : "not ");
    const { nonce, completeRecoveries } = this.superBlock.vdo;
    const journalBlocks = this.#journalBlocks;
    const recoveryCount = completeRecoveries % 256;
    const isValid = isJournalBlockValid(view, { nonce, recoveryCount, position: offset, journalBlocks });
    const place = `found LBN ${lbn} at offset ${offset} (block ${not(isValid)}valid, sequence number ${number} ${not(number % journalBlocks === offset)}possible)`;
    for (let sector = 1; sector <= SECTORS; sector++) {
      const header = journalSectorHeader.at;
      const sectorAt = journalSectorAt(sector);
      const count = Math.min(header.entryCount.get(view, sectorAt), ENTRIES_PER_SECTOR);
      const isSectorValid =
        header.recoveryCount.get(view, sectorAt) === recoveryCount &&
        header.checkByte.get(view, sectorAt) === journalCheckByte(number, journalBlocks);
      for (let entry = 0; entry < count; entry++) {
        const entryAt = journalEntryAt((sector - 1) * ENTRIES_PER_SECTOR + entry);
        if (readJournalEntrySlotPbn(block, entryAt) !== leaf) continue;
        if (readJournalEntrySlot(block, entryAt) !== slotInLeaf(lbn)) continue;
        const operation = operationName(readJournalEntryOperation(block, entryAt) === JOURNAL_OPERATION_BLOCK_MAP);
        const mapping = entryAt + JOURNAL_NEW_MAPPING_AT;
        yield `${place}, sector ${sector} (sector ${not(isSectorValid)}valid), entry ${entry} : PBN ${readMappingPbn(block, mapping)}, ${operation}, mappingState ${readMappingState(block, mapping)}`;
      }
    }
  }

  /** Block of the leaf of `lbn`, by the interior pages in the dump; 0 when they are not there. */
  async #leafOf(lbn: number): Promise<number> {
    const pages = await this.#dumpedPages();
    const leaf = leafOfBlock(lbn);
    let pbn = this.superBlock.blockMap.rootOrigin + treeOfLeaf(leaf);
    for (let height = 4; height > 0; height--) {
      const at = pages.get(pbn);
      if (at === undefined) return 0;
      pbn = readMappingPbn(await this.#blocks.readBlock(at), mappingAt(slotInPage(leaf, height)));
    }
    return pbn;
  }

  #pages: Promise<Map<number, number>> | undefined;

  /** Where in the dump each block map page is, by its own number. */
  #dumpedPages(): Promise<Map<number, number>> {
    this.#pages ??= (async () => {
      const pages = new Map<number, number>();
      const { rootOrigin } = this.superBlock.blockMap;
      for (let at = ROOTS_AT; at < this.#slabsAt; at++) {
        const block = await this.#blocks.readBlock(at);
        const { offset } = blockMapPageHeader.at.pbn;
        const view = new DataView(block.buffer, block.byteOffset, BLOCK_SIZE);
        // A root that was never written has no number, but a fixed place.
        const number = view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
        pages.set(at < ROOTS_AT + BLOCK_MAP_ROOTS && number === 0 ? rootOrigin + at - ROOTS_AT : number, at);
      }
      return pages;
    })();
    return this.#pages;
  }
}

/** The fields that are printed, without a failure on damage. */
function slabJournalHeaderOf(block: Uint8Array) {
  const view = new DataView(block.buffer, block.byteOffset, BLOCK_SIZE);
  const { at } = slabJournalHeader;
  return {
    sequence: view.getBigUint64(at.sequence.offset, true),
    entryCount: at.entryCount.get(view, 0),
    hasBlockMapIncrements: at.hasBlockMapIncrements.get(view, 0),
  };
}
