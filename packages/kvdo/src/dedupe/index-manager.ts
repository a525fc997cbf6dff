/**
 * Opens and closes the deduplication index of a volume in the background (Linux 6.12, index states).
 *
 * Until it is open, and after it failed, writes are stored without advice: correctness never needs it.
 */
import { type Clock, errorMessage, isVdoError } from "@vdo/base";
import { type BlockDevice, SliceDevice } from "@vdo/block-device";
import { UdsIndex, type UdsIndexOptions } from "@vdo/uds";
import { type Geometry, indexGeometry } from "../format/index.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import type { IndexClient } from "./index-client.ts";

/** As the status line of the kernel prints them. */
export type IndexState = "closed" | "error" | "opening" | "closing" | "online" | "offline" | "suspended" | "unknown";

type InnerState = "closed" | "opening" | "open" | "closing" | "error";

export interface IndexManagerOptions {
  device: BlockDevice;
  geometry: Geometry;
  client: IndexClient;
  clock: Clock;
  prefault: boolean;
  statistics: VdoStatistics;
  log: (level: "info" | "warning" | "error", text: string) => void;
  onChange: (state: IndexState) => void;
}

export class IndexManager {
  readonly #o: IndexManagerOptions;
  #index: UdsIndex | null = null;
  #state: InnerState = "closed";
  #isSuspended = false;
  #work: Promise<void> = Promise.resolve();

  constructor(options: IndexManagerOptions) {
    this.#o = options;
  }

  get state(): IndexState {
    if (this.#isSuspended) return "suspended";
    if (this.#state !== "open") return this.#state;
    return this.#o.client.isEnabled ? "online" : "offline";
  }

  #setState(state: InnerState): void {
    this.#state = state;
    this.#o.onChange(this.state);
  }

  #indexOptions(): UdsIndexOptions {
    const { device, geometry, clock, log, prefault } = this.#o;
    const { gib, sparse, reduced, chapters, sparseChapters, recordPagesPerChapter } = indexGeometry(geometry.index);
    const start = geometry.indexStart - geometry.bioOffset;
    const config = reduced
      ? {
          chapters: {
            bytesPerPage: 32768,
            recordPagesPerChapter,
            chaptersPerVolume: chapters,
            sparseChapters,
            ...(sparse ? { sampleRate: 32 } : {}),
          },
        }
      : { memory: gib, sparse };
    return {
      ...config,
      device: new SliceDevice(device, { start, blockCount: geometry.dataStart - geometry.indexStart }),
      firstBlock: start,
      nonce: geometry.nonce,
      clock,
      prefault,
      log: (text) => log("info", `index: ${text}`),
      onProgress: () => this.#o.onChange(this.state),
    };
  }

  /** Begins to open the index, or to make it anew. Resolves when that has ended, well or not. */
  open(create: "always" | "ifMissing"): Promise<void> {
    const work = this.#work.then(() => this.#open(create));
    this.#work = work;
    return work;
  }

  async #open(create: "always" | "ifMissing"): Promise<void> {
    if (this.#state === "open" || this.#isSuspended) return;
    this.#setState("opening");
    let index: UdsIndex | null = null;
    try {
      index = UdsIndex.start({ ...this.#indexOptions(), create });
      this.#index = index;
      await index.ready;
      this.#o.client.setIndex(index);
      this.#setState("open");
    } catch (error) {
      this.#index = null;
      if (isVdoError(error) && (error.code as string) === "UDS_STOPPED") {
        this.#setState("closed");
        return;
      }
      this.#o.log("error", `the deduplication index could not be opened: ${errorMessage(error)}`);
      this.#setState("error");
    }
  }

  /** Resolves when no opening is under way. */
  settled(): Promise<void> {
    return this.#work;
  }

  /** Saves and closes the index; a rebuild under way is given up. */
  async close(): Promise<void> {
    const index = this.#index;
    this.#index = null;
    this.#o.client.setIndex(null);
    if (index === null) return;
    if (this.#state === "open") this.#setState("closing");
    await this.#o.client.drain();
    try {
      await index.close({ save: true });
    } catch (error) {
      this.#o.log("error", `the deduplication index could not be saved: ${errorMessage(error)}`);
    }
    await this.#work;
    this.#setState("closed");
  }

  /** Throws the index away and makes an empty one. */
  async recreate(): Promise<void> {
    await this.close();
    await this.open("always");
  }

  /** Stops the index for a suspend of the volume; with `save` it is saved. */
  async suspend(save: boolean): Promise<void> {
    this.#isSuspended = true;
    await this.#o.client.drain();
    try {
      if (this.#state === "open") await this.#index?.suspend({ save });
    } catch (error) {
      this.#o.log("error", `the deduplication index could not be saved: ${errorMessage(error)}`);
    }
  }

  async resume(): Promise<void> {
    this.#isSuspended = false;
    if (this.#state === "open") await this.#index?.resume();
  }

  /** Fills in the index part of the statistics: zeros while it is not open. */
  gauge(): void {
    const { index } = this.#o.statistics;
    const values = this.#state === "open" ? this.#index?.statistics() : undefined;
    index.entriesIndexed = values?.entriesIndexed ?? 0;
    index.postsFound = values?.postsFound ?? 0;
    index.postsNotFound = values?.postsNotFound ?? 0;
    index.queriesFound = values?.queriesFound ?? 0;
    index.queriesNotFound = values?.queriesNotFound ?? 0;
    index.updatesFound = values?.updatesFound ?? 0;
    index.updatesNotFound = values?.updatesNotFound ?? 0;
    index.entriesDiscarded = values?.entriesDiscarded ?? 0;
  }
}
