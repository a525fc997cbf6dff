/**
 * The read-only rebuild (Linux 6.12): a volume that was in read-only mode gets metadata that agrees with itself again, made
 * from its block map alone. What the journal still says is applied first; then every reference is counted anew, and entries
 * that cannot be right are erased. It reports what is lost, and can do so without writing anything.
 */
import { BLOCK_MAP_ENTRIES_PER_PAGE, BLOCK_MAP_ROOTS, BLOCK_SIZE } from "../constants.ts";
import {
  formatBlockMapPage,
  isCompressedState,
  isPageInitialised,
  isValidMapping,
  judgeBlockMapPage,
  mappingAt,
  readMappingPbn,
  readMappingState,
  setPageInitialised,
  writeMapping,
} from "../format/index.ts";
import { IO_META, type StorageIo } from "../io/storage-io.ts";
import { MAXIMUM_REFERENCES } from "../slab/pbn-locks.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import type { MappingChanges } from "./journal-entries.ts";

/** Height of root pages. */
const ROOT_HEIGHT = 4;
/** Losses named one by one. */
const SAMPLES_MAX = 100;

export interface RebuildReport {
  /** Mappings kept, and block map pages kept (without the roots). */
  logicalBlocksUsed: number;
  blockMapDataBlocks: number;
  /** Journal blocks that were missing, and journal entries that could not be right. */
  missingJournalBlocks: number;
  badJournalEntries: number;
  /** Pages that could not be read, or were other pages: all below them is lost. */
  lostPages: number;
  /** Entries erased, in interior pages and in leaves. */
  erasedPages: number;
  erasedMappings: number;
  /** The first of the losses, one line each. */
  samples: string[];
}

export interface RebuildOptions {
  io: StorageIo;
  depot: SlabDepot;
  nonce: bigint;
  rootOrigin: number;
  logicalBlocks: number;
  changes: MappingChanges;
  /** False: nothing is written, only reported. */
  save: boolean;
  onProgress: (leaves: number) => void;
}

export class Rebuild {
  readonly report: RebuildReport = {
    logicalBlocksUsed: 0,
    blockMapDataBlocks: 0,
    missingJournalBlocks: 0,
    badJournalEntries: 0,
    lostPages: 0,
    erasedPages: 0,
    erasedMappings: 0,
    samples: [],
  };
  readonly #o: RebuildOptions;
  readonly #leafCount: number;
  /** Leaves found, as leaf number and PBN. */
  readonly #leaves: [leaf: number, pbn: number][] = [];

  constructor(options: RebuildOptions) {
    this.#o = options;
    this.#leafCount = Math.ceil(options.logicalBlocks / BLOCK_MAP_ENTRIES_PER_PAGE);
  }

  /** Counts everything anew in the depot's slabs, and erases what cannot be right from the block map. */
  async run(): Promise<RebuildReport> {
    for (let tree = 0; tree < BLOCK_MAP_ROOTS; tree++) {
      await this.#interior(this.#o.rootOrigin + tree, ROOT_HEIGHT, 0, tree);
    }
    // Leaves come after all pages, so that a mapping to a page is seen as what it is.
    let done = 0;
    for (const [leaf, pbn] of this.#leaves) {
      await this.#leaf(leaf, pbn);
      if (++done % 256 === 0) this.#o.onProgress(done);
    }
    if (this.#o.save) await this.#o.io.flush(IO_META);
    return this.report;
  }

  #lost(text: string): void {
    if (this.report.samples.length < SAMPLES_MAX) this.report.samples.push(text);
  }

  /**
   * A page with the journal's changes. One that cannot be read or is another page is made empty, on storage too: what it maps
   * is not counted, so nobody may ever find it there again.
   */
  async #read(pbn: number): Promise<{ page: Uint8Array; changed: boolean }> {
    const { io, nonce, changes } = this.#o;
    const page = new Uint8Array(BLOCK_SIZE);
    const view = new DataView(page.buffer);
    let isEmpty = false;
    const lostBefore = this.report.lostPages;
    try {
      await io.readMeta(IO_META, pbn, page);
      const verdict = judgeBlockMapPage(view, nonce, pbn);
      isEmpty = verdict !== "valid";
      if (verdict === "bad") this.#lostPage(pbn, "is another page");
    } catch (error) {
      isEmpty = true;
      this.#lostPage(pbn, (error as Error).message);
    }
    if (isEmpty) formatBlockMapPage(page, view, nonce, pbn);
    const made = changes.apply(pbn, (slot, newPbn, newState) => writeMapping(page, mappingAt(slot), newPbn, newState));
    return { page, changed: made > 0 || this.report.lostPages > lostBefore };
  }

  #lostPage(pbn: number, why: string): void {
    this.report.lostPages++;
    this.#lost(`block map page ${pbn}: ${why}; what it mapped is lost`);
  }

  async #write(pbn: number, page: Uint8Array): Promise<void> {
    const { io, save } = this.#o;
    if (!save) return;
    const wasInitialised = isPageInitialised(page);
    await io.writeMeta(IO_META, pbn, page);
    if (wasInitialised) return;
    setPageInitialised(page, true);
    await io.writeMeta(IO_META, pbn, page, { preflush: true });
  }

  async #interior(pbn: number, height: number, index: number, tree: number): Promise<void> {
    const read = await this.#read(pbn);
    const { page } = read;
    let { changed } = read;
    const below: [index: number, pbn: number][] = [];
    for (let slot = 0; slot < BLOCK_MAP_ENTRIES_PER_PAGE; slot++) {
      const at = mappingAt(slot);
      const child = readMappingPbn(page, at);
      const state = readMappingState(page, at);
      if (child === 0 && state === 0) continue;
      const childIndex = index * BLOCK_MAP_ENTRIES_PER_PAGE + slot;
      const problem = this.#takePage(child, state, childIndex * BLOCK_MAP_ENTRIES_PER_PAGE ** (height - 1), tree);
      if (problem === null) below.push([childIndex, child]);
      else {
        this.report.erasedPages++;
        this.#lost(`block map page ${pbn}, entry ${slot} (block ${child}, state ${state}): ${problem}`);
        writeMapping(page, at, 0, 0);
        changed = true;
      }
    }
    if (changed) await this.#write(pbn, page);
    for (const [childIndex, child] of below) {
      if (height > 1) await this.#interior(child, height - 1, childIndex, tree);
      else this.#leaves.push([childIndex * BLOCK_MAP_ROOTS + tree, child]);
    }
  }

  /** Gives page `pbn` its count; or says why it cannot be a page. */
  #takePage(pbn: number, state: number, leafIndex: number, tree: number): string | null {
    // The original keeps a compressed state here, and the first access below it ends in read-only mode again.
    if (!isValidMapping(pbn, state) || pbn === 0 || isCompressedState(state)) return "not a page";
    if (leafIndex * BLOCK_MAP_ROOTS + tree >= this.#leafCount) return "beyond the logical size";
    const slab = this.#o.depot.slabOf(pbn);
    if (slab === null) return "not a data block";
    if (slab.counts.get(pbn - slab.start) !== 0) return "referenced already";
    slab.counts.increment(pbn - slab.start, true, null, true);
    this.report.blockMapDataBlocks++;
    return null;
  }

  async #leaf(leaf: number, pbn: number): Promise<void> {
    const read = await this.#read(pbn);
    const { page } = read;
    let { changed } = read;
    const first = leaf * BLOCK_MAP_ENTRIES_PER_PAGE;
    for (let slot = 0; slot < BLOCK_MAP_ENTRIES_PER_PAGE; slot++) {
      const at = mappingAt(slot);
      const data = readMappingPbn(page, at);
      const state = readMappingState(page, at);
      if (data === 0 && state === 0) continue;
      const problem = first + slot >= this.#o.logicalBlocks ? "beyond the logical size" : this.#takeData(data, state);
      if (problem === null) {
        this.report.logicalBlocksUsed++;
        continue;
      }
      this.report.erasedMappings++;
      this.#lost(`logical block ${first + slot} (block ${data}, state ${state}): ${problem}`);
      writeMapping(page, at, 0, 0);
      changed = true;
    }
    if (changed) await this.#write(pbn, page);
  }

  #takeData(pbn: number, state: number): string | null {
    if (!isValidMapping(pbn, state)) return "not a mapping";
    if (pbn === 0) return null;
    const slab = this.#o.depot.slabOf(pbn);
    if (slab === null) return "not a data block";
    const sbn = pbn - slab.start;
    if (slab.counts.get(sbn) >= MAXIMUM_REFERENCES) return "it has all the references it can have, or is a page";
    slab.counts.increment(sbn, false, null, true);
    return null;
  }
}
