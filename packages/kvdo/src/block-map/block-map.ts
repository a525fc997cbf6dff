/**
 * The block map: from logical blocks to mappings, through 60 trees of pages (Linux 6.12).
 *
 * Interior pages are loaded when first needed and stay; leaves are in a {@link LeafCache}. A write into a region without
 * pages allocates them from the root down, each with a journal entry of its own that is committed before the next level.
 */
import { isZero, VdoError } from "@vdo/base";
import { BLOCK_MAP_ENTRIES_PER_PAGE, BLOCK_MAP_ROOTS, SECTOR_SIZE } from "../constants.ts";
import { type DataVio, VIO_WRITE, VioQueue } from "../data-path/data-vio.ts";
import type { SpaceWaiters } from "../data-path/space-waiters.ts";
import {
  blockMapPageHeader,
  formatBlockMapPage,
  JOURNAL_OPERATION_BLOCK_MAP,
  judgeBlockMapPage,
  leafOfBlock,
  pageIndex,
  slotInPage,
  treeOfLeaf,
} from "../format/index.ts";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import { IO_META, type StorageIo } from "../io/storage-io.ts";
import type { MappingChanges } from "../recovery/journal-entries.ts";
import type { RecoveryJournal } from "../recovery-journal/recovery-journal.ts";
import { LOCK_BLOCK_MAP, type PbnLock } from "../slab/pbn-locks.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import { BlockMapPage, PAGE_FREE, PAGE_LOADING, PAGE_RESIDENT } from "./block-map-page.ts";
import { type LeafCache, toError } from "./leaf-cache.ts";
import type { PageStore } from "./page-store.ts";

/** Height of the root pages; leaves are height 0. */
const ROOT_HEIGHT = 4;

export interface BlockMapOptions {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  journal: RecoveryJournal;
  depot: SlabDepot;
  leaves: LeafCache;
  store: PageStore;
  space: SpaceWaiters;
  /** PBN of the root of tree 0. */
  rootOrigin: number;
  nonce: bigint;
  /** Changes that pages lack on the storage, made as they are read: for a dirty volume that is only read. */
  overlay: MappingChanges | null;
}

export class BlockMap {
  readonly leaves: LeafCache;
  readonly store: PageStore;
  readonly #options: BlockMapOptions;
  /** Pages of the trees by {@link pageKey}. */
  readonly #trees = new Map<number, BlockMapPage>();
  /** Block of each leaf found so far. Leaves never move. */
  readonly #leafPbns = new Map<number, number>();

  constructor(options: BlockMapOptions) {
    this.#options = options;
    this.leaves = options.leaves;
    this.store = options.store;
  }

  /**
   * Finds the leaf and slot of `vio.lbn`, then calls `vio.onSlot`. `vio.leafPbn` is 0 when there is no leaf and the vio is
   * not a write; for a write the missing pages are allocated (`VDO_NO_SPACE` when they cannot be).
   */
  findSlot(vio: DataVio): void {
    const leaf = leafOfBlock(vio.lbn);
    vio.leafSlot = vio.lbn - leaf * BLOCK_MAP_ENTRIES_PER_PAGE;
    const known = this.#leafPbns.get(leaf);
    if (known !== undefined) {
      vio.leafPbn = known;
      vio.onSlot(vio);
      return;
    }
    vio.walkHeight = ROOT_HEIGHT;
    this.#descend(vio);
  }

  /** Block of leaf number `leaf` if it is known without any I/O; 0 otherwise. */
  knownLeaf(leaf: number): number {
    return this.#leafPbns.get(leaf) ?? 0;
  }

  /**
   * Number of leaves from `leaf` on that are known, without any I/O, not to exist; 0 when that is not known of `leaf`
   * itself. A page that is missing in all 60 trees stands for 60 × 812^height leaves.
   */
  missingLeaves(leaf: number): number {
    const first = this.#missingHeight(leaf);
    if (first < 0) return 0;
    const index = Math.floor(leaf / BLOCK_MAP_ROOTS);
    let height = first;
    for (let tree = 0; tree < BLOCK_MAP_ROOTS && height > 0; tree++) {
      height = Math.min(height, this.#missingHeight(index * BLOCK_MAP_ROOTS + tree));
    }
    if (height <= 0) return 1;
    const span = BLOCK_MAP_ENTRIES_PER_PAGE ** height;
    return (Math.floor(index / span) + 1) * span * BLOCK_MAP_ROOTS - leaf;
  }

  /** Height of the first page missing on the way down to `leaf`; -1 when none is, or it cannot be told from memory. */
  #missingHeight(leaf: number): number {
    const tree = treeOfLeaf(leaf);
    for (let height = ROOT_HEIGHT; height > 0; height--) {
      const page = this.#trees.get(pageKey(tree, height, pageIndex(leaf, height)));
      if (page === undefined || page.state !== PAGE_RESIDENT) return -1;
      if (page.mappedPbn(slotInPage(leaf, height)) === 0) return height - 1;
    }
    return -1;
  }

  #fail(vio: DataVio, error: VdoError): void {
    vio.error ??= error;
    vio.walkPage = null;
    vio.onSlot(vio);
  }

  /** Goes on from the page of height `vio.walkHeight`, whose ancestors are all in memory. */
  #descend(vio: DataVio): void {
    const leaf = leafOfBlock(vio.lbn);
    for (;;) {
      const height = vio.walkHeight;
      const page = this.#treePage(leaf, height, vio.walkPage);
      if (page.state !== PAGE_RESIDENT) {
        page.waiters.push(vio);
        if (page.state === PAGE_FREE) void this.#load(page);
        return;
      }
      const slot = slotInPage(leaf, height);
      const child = page.mappedPbn(slot);
      if (child === 0) {
        this.#missing(vio, page, slot);
        return;
      }
      if (!this.#options.depot.isDataBlock(child) || page.mappedState(slot) !== 1) {
        this.#refuseEntry(vio, page, slot);
        return;
      }
      if (height === 1) {
        this.#arrive(vio, leaf, child);
        return;
      }
      vio.walkPage = page;
      vio.walkHeight = height - 1;
    }
  }

  #arrive(vio: DataVio, leaf: number, pbn: number): void {
    this.#leafPbns.set(leaf, pbn);
    vio.leafPbn = pbn;
    vio.walkPage = null;
    vio.onSlot(vio);
  }

  #refuseEntry(vio: DataVio, page: BlockMapPage, slot: number): void {
    const pbn = page.mappedPbn(slot);
    const state = page.mappedState(slot);
    const error = new VdoError(
      "VDO_BAD_MAPPING",
      `block map page ${page.pbn}, entry ${slot}: block ${pbn} in state ${state} cannot be a page; the volume is read-only now, rebuild it (vdo forceRebuild)`,
      { pbn, state },
    );
    this.#options.notifier.enter(error);
    this.#fail(vio, error);
  }

  /** The page of `height` on the way to `leaf`; its block follows from `parent` when it is met first. */
  #treePage(leaf: number, height: number, parent: BlockMapPage | null): BlockMapPage {
    const tree = treeOfLeaf(leaf);
    const key = pageKey(tree, height, pageIndex(leaf, height));
    let page = this.#trees.get(key);
    if (page === undefined) {
      page = new BlockMapPage(false);
      page.pbn = parent === null ? this.#options.rootOrigin + tree : parent.mappedPbn(slotInPage(leaf, height + 1));
      this.#trees.set(key, page);
    }
    return page;
  }

  async #load(page: BlockMapPage): Promise<void> {
    const { io, notifier, nonce } = this.#options;
    page.state = PAGE_LOADING;
    let failure: unknown = null;
    try {
      await io.readMeta(IO_META, page.pbn, page.bytes);
      const verdict = judgeBlockMapPage(page.view, nonce, page.pbn);
      const isForeign = this.#isDamagedRoot(page);
      if (verdict === "uninitialised") formatBlockMapPage(page.bytes, page.view, nonce, page.pbn);
      // The original goes on with an empty page here, and all below it reads as zeros; refusing keeps the data.
      if (verdict === "bad" || (verdict === "uninitialised" && isForeign)) failure = this.#badPage(page);
      this.#options.overlay?.apply(page.pbn, (slot, newPbn, newState) => page.map(slot, newPbn, newState));
    } catch (error) {
      failure = error;
    }
    page.state = failure === null ? PAGE_RESIDENT : PAGE_FREE;
    if (failure !== null) notifier.enter(failure);
    this.#wake(page.waiters, failure === null ? null : toError(failure, page.pbn));
  }

  /**
   * Roots are zeros until their first write and pages of this volume from then on, be it torn: a sector is old or new.
   * Other pages may hold old data first.
   */
  #isDamagedRoot({ pbn, bytes, view }: BlockMapPage): boolean {
    const { rootOrigin, nonce } = this.#options;
    if (pbn < rootOrigin || pbn >= rootOrigin + BLOCK_MAP_ROOTS || isZero(bytes.subarray(0, SECTOR_SIZE))) return false;
    return blockMapPageHeader.at.nonce.get(view, 0) !== nonce;
  }

  #badPage(page: BlockMapPage): VdoError {
    return new VdoError(
      "VDO_BAD_PAGE",
      `interior block map page at block ${page.pbn} is not the page that belongs there; the volume is read-only now, rebuild it (vdo forceRebuild)`,
      { structure: "block map page", field: "pbn", expected: page.pbn, actual: page.view.getUint32(16, true) },
    );
  }

  #wake(queue: VioQueue, error: VdoError | null): void {
    const waiters = new VioQueue();
    waiters.append(queue);
    for (let vio = waiters.shift(); vio !== null; vio = waiters.shift()) {
      if (error === null) this.#descend(vio);
      else this.#fail(vio, error);
    }
  }

  // --- allocation of pages

  #missing(vio: DataVio, page: BlockMapPage, slot: number): void {
    if (vio.kind !== VIO_WRITE || vio.error !== null) {
      vio.leafPbn = 0;
      vio.walkPage = null;
      vio.onSlot(vio);
      return;
    }
    page.allocating ??= new Map();
    const waiters = page.allocating.get(slot);
    if (waiters !== undefined) {
      waiters.push(vio);
      return;
    }
    const { depot } = this.#options;
    const lock = depot.allocate(LOCK_BLOCK_MAP);
    if (lock === null && depot.scrubber.left > 0) {
      // The page may be found allocated when a slab has been recovered: looked at again from here.
      depot.scrubber.wait(vio, this.#retry);
      return;
    }
    if (lock === null && this.#options.space.wait(vio, this.#retry)) return;
    if (lock === null) {
      this.#fail(
        vio,
        new VdoError("VDO_NO_SPACE", `no block is free for a block map page of logical block ${vio.lbn}`, {
          blocksFree: 0,
        }),
      );
      return;
    }
    page.allocating.set(slot, new VioQueue());
    vio.walkPage = page;
    vio.walkLock = lock;
    vio.operation = JOURNAL_OPERATION_BLOCK_MAP;
    vio.entryPbn = page.pbn;
    vio.entrySlot = slot;
    vio.entryOldPbn = 0;
    vio.entryOldState = 0;
    vio.entryNewPbn = lock.pbn;
    vio.entryNewState = 1;
    vio.onCommitted = this.#afterCommit;
    this.#options.journal.add(vio);
  }

  readonly #retry = (vio: DataVio): void => {
    if (vio.error !== null) this.#fail(vio, vio.error);
    else this.#descend(vio);
  };

  readonly #afterCommit = (vio: DataVio): void => {
    if (vio.error !== null) {
      this.#allocated(vio);
      return;
    }
    const lock = vio.walkLock as PbnLock;
    vio.onReferenced = this.#allocated;
    vio.referencesPending = 1;
    const update = vio.increment;
    update.pbn = lock.pbn;
    update.isIncrement = true;
    update.isBlockMap = true;
    update.lock = lock;
    this.#options.depot.update(update);
  };

  /** The page's block has its reference (or the allocation failed): the parent names it, and everybody goes one level down. */
  readonly #allocated = (vio: DataVio): void => {
    const lock = vio.walkLock as PbnLock;
    const parent = vio.walkPage as BlockMapPage;
    const slot = vio.entrySlot;
    const pbn = lock.pbn;
    vio.walkLock = null;
    this.#options.depot.releaseLock(lock);
    const waiters = parent.allocating?.get(slot) as VioQueue;
    parent.allocating?.delete(slot);
    if (vio.error !== null) {
      const { error } = vio;
      this.#fail(vio, error);
      this.#wake(waiters, error);
      return;
    }
    parent.map(slot, pbn, 1);
    this.store.markDirty(parent, vio.journalSequence);
    this.#options.journal.releaseEntry(vio.journalSequence);
    const leaf = leafOfBlock(vio.lbn);
    if (vio.walkHeight === 1) this.leaves.addFresh(pbn);
    else {
      const page = this.#treePage(leaf, vio.walkHeight - 1, parent);
      formatBlockMapPage(page.bytes, page.view, this.#options.nonce, pbn);
      page.state = PAGE_RESIDENT;
    }
    // The vio and those that waited see the new entry in the parent now.
    this.#descend(vio);
    this.#wake(waiters, null);
  };
}

/** A number for the page of `height` and `index` in `tree`. */
function pageKey(tree: number, height: number, index: number): number {
  return (index * 8 + height) * BLOCK_MAP_ROOTS + tree;
}
