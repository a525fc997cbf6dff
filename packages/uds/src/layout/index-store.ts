/**
 * An index on storage: creating it, saving its state, loading it again.
 *
 * Order of a save, each step flushed before the next: the slot's header as empty, open chapter, volume index, page map,
 * the real header. A crash in between leaves that slot empty and the other one untouched. Before the first chapter is
 * written after a load or a save, the saved open chapter is overwritten with zeros: from then on the save would contradict
 * the volume, and a crash leads to a rebuild.
 */
import { type Clock, VdoError } from "@vdo/base";
import { BLOCK_BYTES } from "../constants.ts";
import type { IndexEngine } from "../engine/index-engine.ts";
import { notSaved } from "../errors.ts";
import type { IndexGeometry } from "../geometry.ts";
import type { IndexStorage } from "./index-storage.ts";
import { loadOpenChapter, saveOpenChapter } from "./open-chapter-save.ts";
import type { Region } from "./region-table.ts";
import { decodeSlot, encodeEmptySlot, encodeSave, planSave, type SavedState } from "./save-slot.ts";
import {
  checkConfiguration,
  decodeLayout,
  encodeConfiguration,
  encodeLayout,
  type IndexLayout,
  newLayout,
} from "./super-block.ts";
import { loadVolumeIndex, saveVolumeIndex } from "./volume-index-save.ts";

export class IndexStore {
  readonly storage: IndexStorage;
  readonly layout: IndexLayout;
  readonly #clock: Clock;
  readonly #saves: [SavedState | undefined, SavedState | undefined] = [undefined, undefined];
  /** The latest save was made unusable. */
  #invalidated = false;

  private constructor(storage: IndexStorage, layout: IndexLayout, clock: Clock) {
    this.storage = storage;
    this.layout = layout;
    this.#clock = clock;
  }

  /** Makes a new, empty index. `nonce` is the client's, `nonceInfo` 32 bytes that no other index has. */
  static async create(
    storage: IndexStorage,
    {
      geometry,
      nonce,
      nonceInfo,
      clock,
    }: { geometry: IndexGeometry; nonce: bigint; nonceInfo: Uint8Array; clock: Clock },
  ): Promise<IndexStore> {
    if (storage.blockCount < geometry.totalBlocks) {
      throw new VdoError(
        "UDS_TOO_SMALL",
        `the index needs ${geometry.totalBlocks} blocks of 4096 bytes, the device has ${storage.blockCount}`,
        { blocksNeeded: geometry.totalBlocks, blocksAvailable: storage.blockCount },
      );
    }
    const layout = newLayout(geometry, storage.firstBlock, nonceInfo);
    for (const slot of layout.saves) await storage.write(slot.startBlock, encodeEmptySlot(slot, layout));
    await storage.flush();
    await storage.write(layout.firstBlock + 1, encodeConfiguration(geometry, nonce));
    await storage.flush();
    await storage.write(layout.firstBlock, encodeLayout(layout));
    await storage.flush();
    return new IndexStore(storage, layout, clock);
  }

  /**
   * Finds the index on `storage`. Throws `UDS_NO_INDEX`, `UDS_UNSUPPORTED_VERSION`, `UDS_CONFIGURATION_MISMATCH`,
   * `UDS_TOO_SMALL`, `VDO_CORRUPT`, or what the device reports.
   */
  static async open(
    storage: IndexStorage,
    { geometry, nonce, clock }: { geometry: IndexGeometry; nonce: bigint; clock: Clock },
  ): Promise<IndexStore> {
    const block = new Uint8Array(BLOCK_BYTES);
    if (storage.blockCount < 2) {
      throw new VdoError("UDS_NO_INDEX", "the device is too small to hold an index; create one on another", {
        block: storage.firstBlock,
      });
    }
    await storage.read(storage.firstBlock, block);
    const layout = decodeLayout(block, storage.firstBlock);
    await storage.read(storage.firstBlock + 1, block);
    checkConfiguration(block, geometry, nonce);
    const end = (layout.regions.at(-1) as Region).startBlock + 1 - storage.firstBlock;
    const needed = Math.max(end, geometry.totalBlocks);
    if (storage.blockCount < needed) {
      throw new VdoError(
        "UDS_TOO_SMALL",
        `the index takes ${needed} blocks, but the device ends after ${storage.blockCount}`,
        {
          blocksNeeded: needed,
          blocksAvailable: storage.blockCount,
        },
      );
    }
    const store = new IndexStore(storage, layout, clock);
    for (const slot of [0, 1] as const) await store.#readSlot(slot, block);
    return store;
  }

  async #readSlot(number: 0 | 1, block: Uint8Array): Promise<void> {
    const slot = this.layout.saves[number];
    await this.storage.read(slot.startBlock, block);
    try {
      this.#saves[number] = decodeSlot(block, slot, this.layout, this.layout.volumeNonce);
    } catch (error) {
      // A header that makes no sense is an empty slot: the other save, or a rebuild, takes its place.
      if (!(error instanceof VdoError)) throw error;
      this.#saves[number] = undefined;
    }
  }

  /** The save that a load uses: the valid one with the latest timestamp. */
  get latest(): SavedState | undefined {
    const [first, second] = this.#saves;
    if (first === undefined || second === undefined) return first ?? second;
    return second.timestamp > first.timestamp ? second : first;
  }

  /** Loads the latest save into `engine`. Throws `UDS_NOT_SAVED` when there is none that can be used. */
  async load(engine: IndexEngine): Promise<void> {
    const save = this.latest;
    if (save === undefined) throw notSaved("neither slot holds a save");
    const { storage, layout } = this;
    try {
      await loadOpenChapter(storage, save.openChapter, engine.openChapter);
      await loadVolumeIndex(storage, save.volumeIndex, { index: engine.volumeIndex, nonce: layout.volumeNonce });
      engine.pageMap.decode(await storage.readRegion(save.pageMap));
    } catch (error) {
      const damaged = error instanceof VdoError && (error.code === "VDO_CORRUPT" || error.code === "UDS_NOT_SAVED");
      if (!damaged) throw error;
      throw notSaved(error.message, error);
    }
    if (engine.volumeIndex.main.high !== save.newestChapter) {
      throw notSaved(
        `the volume index ends with chapter ${engine.volumeIndex.main.high}, the save with ${save.newestChapter}`,
      );
    }
    engine.newest = save.newestChapter;
    engine.oldest = save.oldestChapter;
    engine.needToSave = false;
    this.#invalidated = false;
  }

  /** Makes sure that no save is loaded any more; does nothing when that was done already. */
  async invalidate(): Promise<void> {
    const save = this.latest;
    if (save === undefined || this.#invalidated) return;
    await this.storage.zero(save.openChapter.startBlock, 1);
    await this.storage.flush();
    this.#invalidated = true;
  }

  /** Saves the state of `engine`, which must be idle. */
  async save(engine: IndexEngine): Promise<void> {
    const { storage, layout } = this;
    const [first, second] = this.#saves;
    const number = (second?.timestamp ?? 0) < (first?.timestamp ?? 0) ? 1 : 0;
    const slot = layout.saves[number];
    const other = this.#saves[1 - number];
    // Later than the other save even if the clock went back: the latest is the one that is loaded.
    const timestamp = Math.max(Math.floor(this.#clock.wallMicroseconds() / 1000), (other?.timestamp ?? 0) + 1, 1);
    const state = planSave(slot, layout, { timestamp, newestChapter: engine.newest, oldestChapter: engine.oldest });
    this.#saves[number] = undefined;
    await storage.write(slot.startBlock, encodeEmptySlot(slot, layout));
    await storage.flush();
    await saveOpenChapter(storage, state.openChapter, engine.openChapter);
    await storage.flush();
    const region = state.volumeIndex[0] as Region;
    await saveVolumeIndex(storage, region, { index: engine.volumeIndex, nonce: layout.volumeNonce });
    await storage.flush();
    await this.#savePageMap(engine, state.pageMap);
    await storage.flush();
    await storage.write(slot.startBlock, encodeSave(slot, layout, state, layout.volumeNonce));
    await storage.flush();
    this.#saves[number] = state;
    this.#invalidated = false;
    engine.needToSave = false;
  }

  async #savePageMap(engine: IndexEngine, region: Region): Promise<void> {
    const bytes = new Uint8Array(region.blockCount * BLOCK_BYTES);
    bytes.set(engine.pageMap.encode());
    await this.storage.write(region.startBlock, bytes);
  }
}
