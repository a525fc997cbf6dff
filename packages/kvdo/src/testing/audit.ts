/**
 * An audit of a volume that is not running, independent of the engine: the block map is walked, references are counted
 * again, and compared with what the slabs and the super block say (the properties a)-f) of the format's description).
 */
import type { BlockDevice } from "@vdo/block-device";
import {
  decodeGeometryBlock,
  decodeSuperBlock,
  findPartition,
  isPageInitialised,
  judgeBlockMapPage,
  mappingAt,
  PARTITION,
  readMappingPbn,
  readMappingState,
  type SuperBlock,
  VOLUME_STATE,
} from "../format/index.ts";

const BLOCK = 4096;
const PROBLEMS_MAX = 20;
/** A count that a crash may leave on the storage: every load takes it for 0, and it stays until its block is written again. */
const PROVISIONAL = 255;

export interface Audit {
  problems: string[];
  /** Mapped logical blocks by number: [pbn, state]. */
  mappings: Map<number, [pbn: number, state: number]>;
  /** Blocks that something refers to, pages of the block map not among them. */
  dataBlocks: number;
}

async function readBlock(device: BlockDevice, pbn: number): Promise<Uint8Array> {
  const block = new Uint8Array(BLOCK);
  await device.read(pbn, block);
  return block;
}

class Auditor {
  readonly problems: string[] = [];
  readonly mappings = new Map<number, [number, number]>();
  readonly #device: BlockDevice;
  readonly #super: SuperBlock;
  readonly #counts: Uint16Array[];
  #pages = 0;

  constructor(device: BlockDevice, superBlock: SuperBlock) {
    this.#device = device;
    this.#super = superBlock;
    const { slabConfig, firstBlock, lastBlock } = superBlock.slabDepot;
    const slabs = Math.floor((lastBlock - firstBlock) / slabConfig.slabBlocks);
    this.#counts = Array.from({ length: slabs }, () => new Uint16Array(slabConfig.dataBlocks));
  }

  #reference(pbn: number, what: string, isPage: boolean): void {
    const { slabConfig, firstBlock } = this.#super.slabDepot;
    const slab = Math.floor((pbn - firstBlock) / slabConfig.slabBlocks);
    const sbn = pbn - firstBlock - slab * slabConfig.slabBlocks;
    const counts = this.#counts[slab];
    if (counts === undefined || sbn < 0 || sbn >= slabConfig.dataBlocks) {
      this.problems.push(`${what}: block ${pbn} is not a data block`);
      return;
    }
    if (isPage && counts[sbn] !== 0) this.problems.push(`${what}: page ${pbn} is referenced elsewhere`);
    counts[sbn] = isPage ? 254 : counts[sbn]! + 1;
  }

  async walk(pbn: number, height: number, index: number, tree: number): Promise<void> {
    const page = await readBlock(this.#device, pbn);
    const verdict = judgeBlockMapPage(new DataView(page.buffer), this.#super.vdo.nonce, pbn);
    // A page that was allocated before a crash, and never written since, is empty; what it held would be missed below.
    if (verdict === "uninitialised") return;
    if (verdict === "bad") {
      this.problems.push(`page ${pbn} of height ${height} is another page`);
      return;
    }
    if (!isPageInitialised(page)) this.problems.push(`page ${pbn} is not initialised`);
    for (let slot = 0; slot < 812; slot++) {
      const child = readMappingPbn(page, mappingAt(slot));
      const state = readMappingState(page, mappingAt(slot));
      if (child === 0 && state === 0) continue;
      if (height === 0) {
        const lbn = (index * 60 + tree) * 812 + slot;
        this.mappings.set(lbn, [child, state]);
        if (child !== 0) this.#reference(child, `logical block ${lbn}`, false);
        continue;
      }
      this.#pages++;
      this.#reference(child, `page ${pbn} slot ${slot}`, true);
      await this.walk(child, height - 1, index * 812 + slot, tree);
    }
  }

  /** After {@link walk}. */
  get dataBlocks(): number {
    let used = 0;
    for (const counts of this.#counts) for (const count of counts) if (count !== 0) used++;
    return used - this.#pages;
  }

  checkTotals(): void {
    const { recoveryJournal, vdo } = this.#super;
    const same = (what: string, stated: number, counted: number): void => {
      if (stated !== counted) this.problems.push(`${what}: the super block says ${stated}, counted ${counted}`);
    };
    same("state", vdo.state, VOLUME_STATE.clean);
    same("logical blocks", recoveryJournal.logicalBlocksUsed, this.mappings.size);
    same("pages", recoveryJournal.blockMapDataBlocks, this.#pages);
  }

  async checkSlabs(): Promise<void> {
    const summaryStart = findPartition(this.#super.layout, PARTITION.slabSummary).start;
    for (let slab = 0; slab < this.#counts.length && this.problems.length < PROBLEMS_MAX; slab++) {
      const summary = await readBlock(this.#device, summaryStart + Math.floor((slab * 2) / BLOCK));
      const at = (slab * 2) % BLOCK;
      await this.#checkSlab(slab, summary[at]! | (summary[at + 1]! << 8));
    }
  }

  async #checkSlab(slab: number, summary: number): Promise<void> {
    const { slabConfig, firstBlock } = this.#super.slabDepot;
    const expected = this.#counts[slab]!;
    let free = 0;
    for (const count of expected) if (count === 0) free++;
    if ((summary & 0x8000) !== 0) this.problems.push(`slab ${slab} is dirty in the summary`);
    const shift = Math.max(0, Math.log2(slabConfig.slabBlocks) - 6);
    const hint = free === 0 ? 0 : Math.max(1, free >> shift);
    if (((summary >> 8) & 0x3f) !== hint)
      this.problems.push(`slab ${slab}: hint ${(summary >> 8) & 0x3f}, not ${hint}`);
    const start = firstBlock + slab * slabConfig.slabBlocks + slabConfig.dataBlocks;
    for (let first = 0; first < expected.length; first += 4032) {
      const isLoaded = (summary & 0x4000) !== 0;
      const block = isLoaded ? await readBlock(this.#device, start + first / 4032) : new Uint8Array(BLOCK);
      for (let i = 0; i < 4032 && first + i < expected.length; i++) {
        const stored = block[Math.floor(i / 504) * 512 + 8 + (i % 504)];
        if (stored === expected[first + i] || (stored === PROVISIONAL && expected[first + i] === 0)) continue;
        this.problems.push(`slab ${slab} block ${first + i}: count ${stored}, counted ${expected[first + i]}`);
        if (this.problems.length >= PROBLEMS_MAX) return;
      }
    }
  }
}

/** Audits the volume on `device`, which was stopped cleanly. */
export async function audit(device: BlockDevice): Promise<Audit> {
  const geometry = decodeGeometryBlock(await readBlock(device, 0));
  const superBlock = decodeSuperBlock(await readBlock(device, geometry.dataStart));
  const auditor = new Auditor(device, superBlock);
  for (let tree = 0; tree < 60; tree++) await auditor.walk(superBlock.blockMap.rootOrigin + tree, 4, 0, tree);
  auditor.checkTotals();
  await auditor.checkSlabs();
  return { problems: auditor.problems, mappings: auditor.mappings, dataBlocks: auditor.dataBlocks };
}
