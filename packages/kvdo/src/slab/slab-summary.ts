/**
 * The slab summary at run time (Linux 6.12): where each slab journal ends and whether its counts must be loaded.
 *
 * One zone is used, so only the first of the sixteen copies is written while running; at load all copies are combined and
 * written back. An update is written with a preceding flush, because it must never name a slab journal block that is not
 * there; updates of a block that arrive while it is being written go with its next write.
 */
import { BLOCK_SIZE, MAXIMUM_PHYSICAL_ZONES, SLAB_SUMMARY_BLOCKS_PER_ZONE, SUMMARY_ENTRY_SIZE } from "../constants.ts";
import { decodeSummaryEntry, encodeSummaryEntry, type SlabSummaryEntry } from "../format/index.ts";
import { IO_META, type StorageIo } from "../io/storage-io.ts";
import type { VdoStatistics } from "../statistics/index.ts";

const SUMMARY_ENTRIES_PER_BLOCK = BLOCK_SIZE / SUMMARY_ENTRY_SIZE;
const ZONE_BYTES = SLAB_SUMMARY_BLOCKS_PER_ZONE * BLOCK_SIZE;

interface SummaryBlock {
  waiting: { resolve: () => void; reject: (error: unknown) => void }[];
  isWriting: boolean;
}

export class SlabSummary {
  readonly #io: StorageIo;
  #origin: number;
  readonly #statistics: VdoStatistics;
  readonly #table = new Uint8Array(ZONE_BYTES);
  readonly #blocks: SummaryBlock[] = Array.from({ length: SLAB_SUMMARY_BLOCKS_PER_ZONE }, () => ({
    waiting: [],
    isWriting: false,
  }));

  constructor({ io, origin, statistics }: { io: StorageIo; origin: number; statistics: VdoStatistics }) {
    this.#io = io;
    this.#origin = origin;
    this.#statistics = statistics;
  }

  /** Entry of slab `number`. */
  get(number: number): SlabSummaryEntry {
    return decodeSummaryEntry(this.#table, number * SUMMARY_ENTRY_SIZE);
  }

  /** Sets every entry, also of slabs that do not exist: for a volume never started. */
  setDefaults(entry: SlabSummaryEntry): void {
    for (let at = 0; at < ZONE_BYTES; at += SUMMARY_ENTRY_SIZE) encodeSummaryEntry(this.#table, at, entry);
  }

  /** Reads all copies and takes each slab's entry from the zone that owned it. */
  async load(oldZones: number): Promise<void> {
    const all = new Uint8Array(MAXIMUM_PHYSICAL_ZONES * ZONE_BYTES);
    await this.#io.readMeta(IO_META, this.#origin, all);
    const zones = Math.max(oldZones, 1);
    for (let slab = 0, at = 0; at < ZONE_BYTES; slab++, at += SUMMARY_ENTRY_SIZE) {
      const from = (slab % zones) * ZONE_BYTES + at;
      this.#table.set(all.subarray(from, from + SUMMARY_ENTRY_SIZE), at);
    }
  }

  /** Writes the table to all sixteen copies: part of every load, before anything else is changed. */
  async writeAllCopies(): Promise<void> {
    const all = new Uint8Array(MAXIMUM_PHYSICAL_ZONES * ZONE_BYTES);
    for (let zone = 0; zone < MAXIMUM_PHYSICAL_ZONES; zone++) all.set(this.#table, zone * ZONE_BYTES);
    await this.#io.writeMeta(IO_META, this.#origin, all);
  }

  /** The partition was copied to `origin`, while nothing was under way. */
  moveTo(origin: number): void {
    this.#origin = origin;
  }

  /** Changes an entry in memory only: for a rebuild, which writes all copies afterwards. */
  set(slab: number, entry: SlabSummaryEntry): void {
    encodeSummaryEntry(this.#table, slab * SUMMARY_ENTRY_SIZE, entry);
  }

  /** Changes an entry; `loadCounts` stays set once it was. Resolves when the change is written. */
  update(slab: number, entry: SlabSummaryEntry): Promise<void> {
    const at = slab * SUMMARY_ENTRY_SIZE;
    const before = decodeSummaryEntry(this.#table, at);
    encodeSummaryEntry(this.#table, at, { ...entry, loadCounts: entry.loadCounts || before.loadCounts });
    const block = this.#blocks[Math.floor(slab / SUMMARY_ENTRIES_PER_BLOCK)] as SummaryBlock;
    return new Promise((resolve, reject) => {
      block.waiting.push({ resolve, reject });
      if (!block.isWriting) void this.#write(block);
    });
  }

  async #write(block: SummaryBlock): Promise<void> {
    block.isWriting = true;
    // Let the other updates of this turn join the write.
    await Promise.resolve();
    while (block.waiting.length > 0) {
      const waiting = block.waiting;
      block.waiting = [];
      const index = this.#blocks.indexOf(block);
      const bytes = this.#table.slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE);
      try {
        await this.#io.writeMeta(IO_META, this.#origin + index, bytes, { preflush: true });
        this.#statistics.slabSummary.blocksWritten++;
        for (const { resolve } of waiting) resolve();
      } catch (error) {
        for (const { reject } of waiting) reject(error);
      }
    }
    block.isWriting = false;
  }
}
