/**
 * The machine room of a running stack: the deltas, the map, the free clusters of the top, and the one worker that changes
 * them.
 *
 * Reads, and writes to clusters that the top holds already, go straight to the file. Everything that changes the map (new
 * clusters, copy-on-write, discards, and every operation of the administrator) is done by the worker, one batch or one job
 * after the other, so metadata needs no locks. While a job runs it may freeze writes: they then queue for the worker.
 *
 * Order on disk (invariants of the format's crash consistency):
 *
 *     data of copied clusters, zeros of reused ones, a longer file ──flush──▶ index page ──▶ publish ──▶ acknowledge
 *     cleared index entry ──flush──▶ nobody reads the old place ──▶ the place is free
 */
import { errorMessage, invariant, viewOf } from "@vdo/base";
import { refused } from "../errors.ts";
import type { FileRange } from "../file/image-file.ts";
import { imageHeader, PAGE_BYTES } from "../format/header.ts";
import { type Delta, HEADER_WORDS, PAGE_WORDS } from "../image/delta.ts";
import { Batch, type Change } from "./batch.ts";
import { ClusterMap, indexOf, type MapPage, NO_PLACE, pageOf } from "./cluster-map.ts";
import { Epochs } from "./epoch.ts";
import { HoleMap } from "./hole-map.ts";
import type { FileTracker } from "./tracking.ts";

/** Data of one batch of copied clusters held in memory. */
const BATCH_BYTES_MAX = 64 * 1024 * 1024;
const BATCH_CHANGES_MAX = 1024;

/** Clusters copied at a time, in memory. */
const BUFFER_BYTES_MAX = 16 * 1024 * 1024;

/** Turns of the event loop that may pass while a batch is still getting larger. */
const GATHER_TURNS_MAX = 8;

export interface EngineOptions {
  /** Pages of the map in memory, 5 KiB each. */
  mapPagesMax: number;
  /** The file grows to a multiple of this. */
  extendBytes: number;
  onWarning?: ((text: string) => void) | undefined;
}

interface Job {
  run(): Promise<void>;
}

export class StackEngine {
  /** Base first; the last one is the top. */
  readonly deltas: Delta[];
  readonly map: ClusterMap;
  readonly epochs = new Epochs();
  readonly clusterBytes: number;
  holes: HoleMap;
  tracker: FileTracker | undefined;
  /** Writes wait for the worker: all of them, or those to `lockedCluster`. */
  frozen = false;
  lockedCluster = -1;
  /** The top names clusters that `holes` has no bit for, after a shrink: its end is not known. */
  usesMore: boolean;
  /** Everything of the top file from here to its end is known to be zero. */
  zerosFrom: number;
  readonly #options: EngineOptions;
  #canPunch = true;
  /** Buffers of one cluster that nobody uses. */
  readonly #buffers: Uint8Array[] = [];
  #changes: Change[] = [];
  #jobs: Job[] = [];
  #working: Promise<void> | undefined;

  private constructor(deltas: Delta[], options: EngineOptions, { holes, usesMore }: Holes) {
    this.deltas = deltas;
    this.#options = options;
    this.map = new ClusterMap(deltas, options.mapPagesMax);
    this.holes = holes;
    this.usesMore = usesMore;
    this.clusterBytes = this.top.clusterBytes;
    this.zerosFrom = this.top.file.length;
  }

  /** Reads and checks the index of every delta. Throws `VDO_CORRUPT`. */
  static async open(deltas: Delta[], options: EngineOptions): Promise<StackEngine> {
    for (const delta of deltas.slice(0, -1)) if (!delta.raw) await delta.scan(() => undefined);
    return new StackEngine(deltas, options, await holesOf(deltas.at(-1) as Delta));
  }

  get topLevel(): number {
    return this.deltas.length - 1;
  }

  get top(): Delta {
    return this.deltas[this.deltas.length - 1] as Delta;
  }

  /** The top holds no data. */
  get isTopEmpty(): boolean {
    return !this.usesMore && this.holes.usedEnd() <= this.top.batClusters;
  }

  /** Bytes to which the file is extended so that `end` lies inside. */
  extended(end: number): number {
    const step = this.#options.extendBytes;
    return step <= this.clusterBytes ? end : Math.ceil(end / step) * step;
  }

  /** Writes to the top file, seen by whoever copies the file meanwhile. */
  async writeTop(offset: number, source: Uint8Array): Promise<void> {
    await this.top.file.write(offset, source);
    this.tracker?.mark(offset, source.length);
  }

  async zeroTop(offset: number, length: number): Promise<void> {
    await this.top.file.zero(offset, length);
    this.tracker?.mark(offset, length);
  }

  /**
   * Gives the space of whole clusters of the top back, where the host can; else false, and nothing was changed. One failure is
   * the last: the file system cannot do it.
   */
  async punchTop(places: readonly number[]): Promise<boolean> {
    const { file } = this.top;
    if (file.punch === undefined || !this.#canPunch) return false;
    const ranges: FileRange[] = [];
    for (const place of places.toSorted((a, b) => a - b)) {
      const offset = place * this.clusterBytes;
      const last = ranges.at(-1);
      if (last !== undefined && last.offset + last.length === offset) last.length += this.clusterBytes;
      else ranges.push({ offset, length: this.clusterBytes });
    }
    try {
      await file.punch(ranges);
    } catch (error) {
      this.#canPunch = false;
      this.#options.onWarning?.(`the space of discarded clusters is not given back: ${errorMessage(error)}`);
      return false;
    }
    for (const { offset, length } of ranges) this.tracker?.mark(offset, length);
    return true;
  }

  /** Hands a change to the worker; resolves when it is done. */
  change(change: Omit<Change, "resolve" | "reject">): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#changes.push({ ...change, resolve, reject });
      this.#wake();
    });
  }

  /** Runs `job` while nothing else changes the map. */
  exclusive<T>(job: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({
        run: async () => {
          try {
            resolve(await job());
          } catch (error) {
            reject(error);
          }
        },
      });
      this.#wake();
    });
  }

  /** As {@link exclusive}, with writes held back and those under way ended. */
  frozenWhile<T>(job: () => Promise<T>): Promise<T> {
    return this.exclusive(async () => {
      this.frozen = true;
      try {
        await this.epochs.drain();
        return await job();
      } finally {
        this.frozen = false;
      }
    });
  }

  /** Throws `VDO_CORRUPT` when somebody changes a lower delta. */
  async refuseChangedBelow(): Promise<void> {
    for (const delta of this.deltas.slice(0, -1)) await delta.refuseChanged();
  }

  /** Resolves when the worker has nothing to do. */
  async idle(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  #wake(): void {
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#changes.length > 0 || this.#jobs.length > 0) this.#wake();
    });
  }

  async #work(): Promise<void> {
    // Let all requests of this turn of the event loop come in: they make one batch.
    await Promise.resolve();
    while (this.#changes.length > 0 || this.#jobs.length > 0) {
      if (this.#changes.length > 0) {
        await this.#gather();
        await new Batch(this, this.#takeBatch()).run();
      }
      const job = this.#jobs.shift();
      if (job !== undefined) await job.run();
    }
  }

  /**
   * Clients with several requests on the way deliver them over some turns; a cluster that all of them together write whole
   * need not be read from below.
   */
  async #gather(): Promise<void> {
    const most = this.#batchMax;
    for (let turns = 0; turns < GATHER_TURNS_MAX && this.#changes.length < most; turns++) {
      const before = this.#changes.length;
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (this.#changes.length === before) return;
    }
  }

  /** Takes those writes out of the queue that `take` wants. */
  takeWrites(take: (change: Change) => boolean): void {
    this.#changes = this.#changes.filter((change) => change.kind !== "write" || !take(change));
  }

  get #batchMax(): number {
    return Math.min(BATCH_CHANGES_MAX, Math.max(1, Math.floor(BATCH_BYTES_MAX / this.clusterBytes)));
  }

  /** The longest prefix of one kind: discards only, or anything else. */
  #takeBatch(): Change[] {
    const discards = (this.#changes[0] as Change).kind === "discard";
    const most = this.#batchMax;
    let end = 0;
    while (end < most && end < this.#changes.length) {
      if (((this.#changes[end] as Change).kind === "discard") !== discards) break;
      end++;
    }
    return this.#changes.splice(0, end);
  }

  /**
   * Takes a free cluster of the top. Throws `VDO_PLOOP_REFUSED` (EIO) when the image has none: a damaged image.
   */
  allocate(): number {
    const place = this.holes.allocate();
    if (place === undefined) throw refused("allocation", "EIO", `${this.top.name} has no free cluster; check it`);
    if (place > this.top.placeMax)
      throw refused("allocation", "EFBIG", `${this.top.name} is at the format's size limit`);
    return place;
  }

  /** The bytes of a BAT page as they go to disk: the top's own entries only, under the header. */
  encodePage(page: MapPage): Uint8Array {
    const top = this.top;
    const level = this.topLevel;
    const words = new Uint32Array(PAGE_WORDS);
    for (let i = page.number === 0 ? HEADER_WORDS : 0; i < PAGE_WORDS; i++) {
      const place = page.places[i] as number;
      if (place !== NO_PLACE && page.levels[i] === level) words[i] = top.wordOf(place);
    }
    const bytes = new Uint8Array(words.buffer);
    if (page.number === 0) imageHeader.set(viewOf(bytes), 0, top.header);
    return bytes;
  }

  /** Writes the entries of `page` with `entries` (cluster → place, or `NO_PLACE`) put in; nothing is published. */
  async writePage(page: MapPage, entries: ReadonlyMap<number, number>): Promise<void> {
    const bytes = this.encodePage(page);
    const words = new Uint32Array(bytes.buffer);
    for (const [cluster, place] of entries) {
      if (pageOf(cluster) === page.number) words[indexOf(cluster)] = place === NO_PLACE ? 0 : this.top.wordOf(place);
    }
    await this.writeTop(page.number * PAGE_BYTES, bytes);
  }

  /** Most buffers to be taken at a time. */
  get buffersMax(): number {
    return Math.max(1, Math.floor(BUFFER_BYTES_MAX / this.clusterBytes));
  }

  /** A buffer of one cluster, with any content. */
  takeBuffer(): Uint8Array {
    return this.#buffers.pop() ?? Buffer.allocUnsafeSlow(this.clusterBytes);
  }

  giveBuffer(buffer: Uint8Array): void {
    if (this.#buffers.length < this.buffersMax) this.#buffers.push(buffer);
  }

  /** Gives back what the top's file has too much, and takes its in-use mark away. */
  async closeTop(): Promise<void> {
    const { top, holes, usesMore, clusterBytes } = this;
    await top.file.flush();
    const end = holes.usedEnd() * clusterBytes;
    if (!usesMore && end < top.file.length) await top.file.setLength(end);
    await top.markClosed(this.isTopEmpty);
  }

  /** Level and place of a cluster; `undefined` when nothing holds it. */
  async lookUp(cluster: number): Promise<{ level: number; place: number } | undefined> {
    const page = this.map.cached(pageOf(cluster)) ?? (await this.map.load(pageOf(cluster)));
    const index = indexOf(cluster);
    const place = page.places[index] as number;
    return place === NO_PLACE ? undefined : { level: page.levels[index] as number, place };
  }

  /** After the list of deltas has changed. */
  async stackChanged({ newTop }: { newTop: boolean }): Promise<void> {
    invariant(this.deltas.length > 0, "a stack has a top");
    this.map.clear();
    if (!newTop) return;
    Object.assign(this, await holesOf(this.top));
    this.zerosFrom = this.top.file.length;
  }
}

interface Holes {
  holes: HoleMap;
  usesMore: boolean;
}

/** Free clusters of a delta, from its BAT, which is checked. */
async function holesOf(top: Delta): Promise<Holes> {
  const holes = new HoleMap(top.batClusters + top.clusterCount, top.batClusters);
  let usesMore = false;
  await top.scan((_cluster, place) => {
    holes.take(place);
    if (place >= holes.count) usesMore = true;
  });
  return { holes, usesMore };
}
