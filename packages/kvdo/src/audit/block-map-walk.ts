/**
 * Walks the whole block map of a volume on storage and counts what it refers to. Entries that make no sense end the walk, as
 * in `vdoaudit` (tools 8.3): behind them nothing can be said of the counts.
 */
import { BLOCK_MAP_ENTRIES_PER_PAGE, BLOCK_MAP_ROOTS, BLOCK_SIZE } from "../constants.ts";
import {
  blockMapPageHeader,
  isCompressedState,
  isPageInitialised,
  judgeBlockMapPage,
  mappingAt,
  readMappingPbn,
  readMappingState,
  type SuperBlock,
} from "../format/index.ts";
import type { Findings } from "./audit-report.ts";
import { REFERENCES_MAX, type ReferenceTable, TREE_PAGE } from "./reference-table.ts";

/** Height of root pages. */
const ROOT_HEIGHT = 4;

export interface WalkOptions {
  read: (pbn: number, target: Uint8Array) => Promise<void>;
  superBlock: SuperBlock;
  references: ReferenceTable;
  findings: Findings;
  onMapping: (lbn: number, pbn: number, state: number) => void;
}

/** Thrown inside the walk to end it. */
const STOP = Symbol("the walk ends here");

interface PagePlace {
  pbn: number;
  height: number;
  /** Number of the page in its tree and height. */
  index: number;
  tree: number;
}

export class BlockMapWalk {
  readonly #o: WalkOptions;
  /** A page for each height: only one of each is looked at at a time. */
  readonly #pages = Array.from({ length: ROOT_HEIGHT + 1 }, () => new Uint8Array(BLOCK_SIZE));
  readonly #visitsMax: number;
  #visits = 0;
  logicalBlocks = 0;
  pages = 0;

  constructor(options: WalkOptions) {
    this.#o = options;
    // Damaged pages that refer to each other could be walked for ever.
    this.#visitsMax = 2 * options.references.slabs * options.references.dataBlocks + BLOCK_MAP_ROOTS;
  }

  /** False when the walk ended early. Throws what the storage throws. */
  async run(): Promise<boolean> {
    const { rootOrigin } = this.#o.superBlock.blockMap;
    try {
      for (let tree = 0; tree < BLOCK_MAP_ROOTS; tree++) {
        await this.#walk({ pbn: rootOrigin + tree, height: ROOT_HEIGHT, index: 0, tree });
      }
      return true;
    } catch (reason) {
      if (reason === STOP) return false;
      throw reason;
    }
  }

  /** The page at `place`, or null when it counts as empty. */
  async #readPage({ pbn, height }: PagePlace): Promise<Uint8Array | null> {
    const { read, superBlock, findings } = this.#o;
    const page = this.#pages[height] as Uint8Array;
    await read(pbn, page);
    const view = new DataView(page.buffer);
    const verdict = judgeBlockMapPage(view, superBlock.vdo.nonce, pbn);
    if (verdict === "valid") {
      if (!isPageInitialised(page)) findings.ownProblem("page", `page ${pbn} was never written completely`);
      return page;
    }
    if (verdict === "bad") {
      const { offset } = blockMapPageHeader.at.pbn;
      findings.warn(`Expected page ${pbn} but got page ${view.getBigUint64(offset, true)}`);
      findings.problem("page", `page ${pbn} of height ${height} is another page`);
    }
    // A page that was never written is empty: what needed it was refused, or is in the journal still.
    return null;
  }

  async #walk(place: PagePlace): Promise<void> {
    if (++this.#visits > this.#visitsMax) {
      this.#o.findings.ownProblem("page", "pages of the block map refer to each other without end");
      throw STOP;
    }
    const page = await this.#readPage(place);
    if (page === null) return;
    const { pbn: own, height, index, tree } = place;
    for (let slot = 0; slot < BLOCK_MAP_ENTRIES_PER_PAGE; slot++) {
      const at = mappingAt(slot);
      const pbn = readMappingPbn(page, at);
      const state = readMappingState(page, at);
      if (pbn === 0 && state === 0) continue;
      this.#checkEntry({ page: own, slot, height }, pbn, state);
      if (height === 0) {
        this.logicalBlocks++;
        const lbn = (index * BLOCK_MAP_ROOTS + tree) * BLOCK_MAP_ENTRIES_PER_PAGE + slot;
        this.#takeData({ page: own, slot, height }, lbn, pbn, state);
        continue;
      }
      this.#takePage({ page: own, slot, height }, pbn, state);
      await this.#walk({ pbn, height: height - 1, index: index * BLOCK_MAP_ENTRIES_PER_PAGE + slot, tree });
    }
  }

  /** Ends the walk at an entry that makes no sense. */
  #checkEntry(at: { page: number; slot: number; height: number }, pbn: number, state: number): void {
    const { references, findings } = this.#o;
    const problem = ((): string | null => {
      if (state === 0) return "is unmapped but has a physical block";
      if (pbn === 0 && isCompressedState(state)) return "is compressed but has no physical block";
      if (pbn === 0 && at.height === 0) return null;
      if (references.slabOf(pbn) < 0) return "refers to out-of-range physical block";
      return references.isDataBlock(pbn) ? null : "refers to slab metadata block";
    })();
    if (problem === null) return;
    findings.badMapping(at, problem, { pbn, state });
    throw STOP;
  }

  #takePage(at: { page: number; slot: number; height: number }, pbn: number, state: number): void {
    const { references, findings } = this.#o;
    if (references.get(pbn) !== 0) findings.badMapping(at, "refers to previously referenced tree page", { pbn, state });
    if (isCompressedState(state)) findings.badMapping(at, "refers to compressed fragment", { pbn, state });
    references.set(pbn, TREE_PAGE);
    this.pages++;
  }

  #takeData(at: { page: number; slot: number; height: number }, lbn: number, pbn: number, state: number): void {
    const { references, findings, superBlock, onMapping } = this.#o;
    if (lbn >= superBlock.vdo.config.logicalBlocks) {
      findings.ownProblem("size", `logical block ${lbn} is mapped, beyond the logical size`);
    }
    onMapping(lbn, pbn, state);
    if (pbn === 0) return;
    const count = references.get(pbn);
    if (count >= REFERENCES_MAX) findings.badMapping(at, "overflows reference count", { pbn, state });
    references.set(pbn, count >= REFERENCES_MAX ? TREE_PAGE : count + 1);
  }
}
