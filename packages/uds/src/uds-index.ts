/**
 * The index as its users see it: opening and closing, requests, statistics.
 *
 *     opening ─▶ open ⇄ suspended          every state ─▶ closed
 *        │         └─▶ disabled (an error; requests are refused until it is opened again)
 *        └─▶ failed
 */
import { type Clock, isVdoError, Random, systemClock, VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { IndexEngine } from "./engine/index-engine.ts";
import { type RebuildProgress, rebuildIndex } from "./engine/rebuild.ts";
import { type IndexConfig, type IndexGeometry, indexGeometry } from "./geometry.ts";
import { indexMemory } from "./index-memory.ts";
import { IndexStorage } from "./layout/index-storage.ts";
import { IndexStore } from "./layout/index-store.ts";
import { NONCE_INFO_BYTES } from "./layout/nonces.ts";
import { UdsOperation, UdsRequest } from "./request.ts";
import { type BatchResult, RequestBatch } from "./request-batch.ts";
import { RequestCounters, type UdsStatistics } from "./statistics.ts";
import { nextTurn } from "./turn.ts";

export type UdsState = "opening" | "open" | "suspended" | "disabled" | "failed" | "closed";

export interface UdsIndexOptions extends IndexConfig {
  /**
   * The index region and nothing else, with blocks of 512 to 4096 bytes. Without one the index is in memory: records and
   * chapters are forgotten when it is closed.
   */
  readonly device?: BlockDevice;
  /** Number that the structures on the device give its first block. 1 on a VDO volume. Default 0. */
  readonly firstBlock?: number;
  /** The client's mark; an index opens only with the nonce it was created with. Default 0. */
  readonly nonce?: bigint;
  /**
   * `never`: fail when there is no index. `ifMissing` (default): create one when there is none, another one or a damaged
   * one. `always`: create without looking. An index of an unsupported version is only replaced by `always`.
   */
  readonly create?: "always" | "ifMissing" | "never";
  /** Read all chapters when the index was not saved cleanly (default); else opening fails with `UDS_NOT_SAVED`. */
  readonly rebuild?: boolean;
  /** Told of the progress of a rebuild. */
  readonly onProgress?: (progress: RebuildProgress) => void;
  /**
   * Take the memory of the volume index at once, in the background, when it is open: else the first records pay for it,
   * a few µs each. Default false.
   */
  readonly prefault?: boolean;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: (message: string) => void;
}

/** Codes for which `create: "ifMissing"` makes a new index. */
const REPLACEABLE = new Set<string>(["UDS_NO_INDEX", "UDS_CONFIGURATION_MISMATCH", "VDO_CORRUPT"]);

/** Memory touched in one turn of the event loop: about a millisecond. */
const PREFAULT_BYTES = 4 << 20;

function ignore(): void {}

export class UdsIndex {
  readonly geometry: IndexGeometry;
  /** Settles when opening has ended. */
  readonly ready: Promise<void>;
  readonly #options: UdsIndexOptions;
  readonly #clock: Clock;
  readonly #log: (message: string) => void;
  #state: UdsState = "opening";
  #engine: IndexEngine | undefined;
  #store: IndexStore | undefined;
  #stopping = false;
  #refused: { state: UdsState; error: VdoError } | undefined;
  #closing: Promise<void> | undefined;
  #changing: Promise<void> = Promise.resolve();

  private constructor(options: UdsIndexOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? ignore;
    this.geometry = indexGeometry(options);
    this.ready = this.#open();
    // Whoever waits for `ready` sees the failure; nobody has to.
    this.ready.catch(ignore);
  }

  /**
   * Opens an index and waits until it is ready.
   *
   * Throws `UDS_BAD_CONFIGURATION`, `UDS_NO_INDEX`, `UDS_CONFIGURATION_MISMATCH`, `UDS_UNSUPPORTED_VERSION`,
   * `UDS_NOT_SAVED`, `UDS_TOO_SMALL`, `UDS_STOPPED`, `VDO_CORRUPT`, or what the device reports.
   */
  static async open(options: UdsIndexOptions = {}): Promise<UdsIndex> {
    const index = new UdsIndex(options);
    await index.ready;
    return index;
  }

  /** Makes a new index in place of whatever is there. */
  static create(options: UdsIndexOptions = {}): Promise<UdsIndex> {
    return UdsIndex.open({ ...options, create: "always" });
  }

  /** Begins to open an index; until {@link ready} its requests are refused with `UDS_BUSY`. */
  static start(options: UdsIndexOptions = {}): UdsIndex {
    return new UdsIndex(options);
  }

  get state(): UdsState {
    return this.#state;
  }

  async #open(): Promise<void> {
    try {
      const store = await this.#openStore();
      this.#store = store;
      this.#engine = this.#newEngine(store);
      if (this.#wasCreated) this.#log("created a new index");
      else await this.#loadOrReplace(store, this.#engine);
      this.#state = this.#engine.disabled === undefined ? "open" : "disabled";
      if (this.#options.prefault === true) void this.#prefault(this.#engine);
    } catch (error) {
      if (this.#state === "opening") this.#state = "failed";
      throw error;
    }
  }

  async #prefault({ volumeIndex }: IndexEngine): Promise<void> {
    for (const { segments } of volumeIndex.subIndexes) {
      for (const segment of segments) {
        for (let at = 0; at < segment.memoryBytes && this.#closing === undefined; at += PREFAULT_BYTES) {
          segment.touch(at, at + PREFAULT_BYTES);
          await nextTurn();
        }
      }
    }
  }

  #wasCreated = false;

  async #openStore(): Promise<IndexStore> {
    const { nonce = 0n, create = "ifMissing" } = this.#options;
    const { geometry } = this;
    const device = this.#options.device ?? new MemoryDevice({ blockCount: geometry.totalBlocks });
    const storage = new IndexStorage(device, this.#options.firstBlock ?? 0);
    const clock = this.#clock;
    if (create !== "always") {
      try {
        return await IndexStore.open(storage, { geometry, nonce, clock });
      } catch (error) {
        if (create === "never" || !(error instanceof VdoError) || !REPLACEABLE.has(error.code)) throw error;
        this.#log(`making a new index: ${error.message}`);
      }
    }
    this.#wasCreated = true;
    return IndexStore.create(storage, { geometry, nonce, nonceInfo: this.#nonceInfo(), clock });
  }

  #nonceInfo(): Uint8Array {
    const info = new Uint8Array(NONCE_INFO_BYTES);
    const now = this.#clock.wallMicroseconds();
    const random = this.#options.random ?? new Random((now ^ (now / 2 ** 32)) >>> 0);
    random.fill(info);
    const view = new DataView(info.buffer);
    view.setBigUint64(0, BigInt(now) * 1000n, true);
    return info;
  }

  #newEngine(store: IndexStore): IndexEngine {
    const { storage, layout } = store;
    return new IndexEngine({
      geometry: this.geometry,
      storage,
      volumeStart: layout.volume.startBlock,
      nonce: layout.volumeNonce,
      beforeChapterWrite: () => store.invalidate(),
      onDisabled: (error) => this.#disabled(error),
    });
  }

  #disabled(error: unknown): void {
    if (this.#state === "open" || this.#state === "suspended") this.#state = "disabled";
    this.#log(`the index is disabled: ${error instanceof Error ? error.message : String(error)}`);
  }

  /** Loads; an index that cannot even be rebuilt is replaced, if that was allowed. */
  async #loadOrReplace(store: IndexStore, engine: IndexEngine): Promise<void> {
    try {
      await this.#load(store, engine);
    } catch (error) {
      const { nonce = 0n, create = "ifMissing" } = this.#options;
      if (create === "never" || !isVdoError(error, "VDO_CORRUPT")) throw error;
      this.#log(`making a new index: ${error.message}`);
      const { geometry } = this;
      const fresh = { geometry, nonce, nonceInfo: this.#nonceInfo(), clock: this.#clock };
      this.#store = await IndexStore.create(store.storage, fresh);
      this.#engine = this.#newEngine(this.#store);
    }
  }

  async #load(store: IndexStore, engine: IndexEngine): Promise<void> {
    try {
      await store.load(engine);
      this.#log(`loaded the index from chapter ${engine.oldest} to ${engine.newest}`);
    } catch (error) {
      if (!(error instanceof VdoError) || error.code !== "UDS_NOT_SAVED" || this.#options.rebuild === false)
        throw error;
      this.#log(`${error.message}`);
      await rebuildIndex(engine, {
        geometry: this.geometry,
        storage: store.storage,
        volumeStart: store.layout.volume.startBlock,
        nonce: store.layout.volumeNonce,
        onProgress: this.#options.onProgress ?? ignore,
        isStopping: () => this.#stopping,
      });
      this.#log(`rebuilt the index from chapter ${engine.oldest} to ${engine.newest}`);
    }
  }

  /**
   * Hands a request to the index. Nothing is allocated, nothing blocks; `onDone` is called before this returns, or later
   * when a page has to be read. Requests of one name are answered in the order of submission.
   */
  submit(request: UdsRequest): void {
    if (this.#state === "open") {
      (this.#engine as IndexEngine).submit(request);
      return;
    }
    request.found = false;
    request.error = this.#refusal();
    request.onDone(request);
  }

  /** Why requests are refused. Made once per state: an error with its stack costs more than a request. */
  #refusal(): VdoError {
    if (this.#refused?.state !== this.#state) this.#refused = { state: this.#state, error: this.#newRefusal() };
    return this.#refused.error;
  }

  #newRefusal(): VdoError {
    const state = this.#state;
    if (state === "disabled" || state === "failed") {
      const message = `the index is ${state}; close it and open it again`;
      return new VdoError("UDS_DISABLED", message, {}, this.#engine?.disabled);
    }
    if (state === "closed") return new VdoError("VDO_CLOSED", "the index was closed", { object: "index" });
    return new VdoError("UDS_BUSY", `the index is ${state}; try again later`, { state });
  }

  #request(operation: UdsOperation, name: Uint8Array, value?: Uint8Array): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      const request = new UdsRequest();
      request.name.set(checkLength("name", name));
      if (value !== undefined) request.value.set(checkLength("value", value));
      request.operation = operation;
      request.onDone = ({ error, found, oldValue }) => {
        if (error !== undefined) reject(error);
        else resolve(found ? oldValue : undefined);
      };
      this.submit(request);
    });
  }

  /** The value known for `name`, if any; else `value` (16 bytes) is recorded. Either way the record is now most recent. */
  async post(name: Uint8Array, value: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#request(UdsOperation.POST, name, value);
  }

  /** The value known for `name`, whose record becomes the most recent. */
  async query(name: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#request(UdsOperation.QUERY, name);
  }

  /** The value known for `name`; nothing changes. */
  async queryWithoutUpdate(name: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#request(UdsOperation.QUERY_NO_UPDATE, name);
  }

  /** Records `value` for `name`; returns the value known before. */
  async update(name: Uint8Array, value: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#request(UdsOperation.UPDATE, name, value);
  }

  /** Forgets `name`; returns true when it was known. A rebuild may bring a deleted name back. */
  async delete(name: Uint8Array): Promise<boolean> {
    return await this.#request(UdsOperation.DELETE, name).then((value) => value !== undefined);
  }

  /**
   * Posts many records at once: `names` and `values` hold 16 bytes per record. The fast way: about 1 µs a record.
   * Rejects with the first error.
   */
  postBatch(names: Uint8Array, values: Uint8Array): Promise<BatchResult> {
    return this.#batch(UdsOperation.POST, names, values);
  }

  /** Queries many names at once: `names` holds 16 bytes per record. */
  queryBatch(names: Uint8Array): Promise<BatchResult> {
    return this.#batch(UdsOperation.QUERY, names, undefined);
  }

  async #batch(operation: UdsOperation, names: Uint8Array, values: Uint8Array | undefined): Promise<BatchResult> {
    return new RequestBatch((request) => this.submit(request), { operation, names, values }).run();
  }

  /** Saves the state, so that an index left behind by a crash need not be rebuilt. Requests queue up meanwhile. */
  flush(): Promise<void> {
    return this.#change(async () => {
      if (this.#state !== "open") throw this.#refusal();
      const engine = this.#engine as IndexEngine;
      await engine.gates.hold();
      try {
        await this.#save();
      } finally {
        engine.gates.release();
      }
    });
  }

  async #save(): Promise<void> {
    const engine = this.#engine as IndexEngine;
    if (!engine.needToSave || engine.chapterLost) return;
    await (this.#store as IndexStore).save(engine);
    this.#log(`saved the index, chapters ${engine.oldest} to ${engine.newest}`);
  }

  /** Finishes all requests and, with `save` (default), saves; refuses requests until {@link resume}. */
  suspend({ save = true }: { save?: boolean } = {}): Promise<void> {
    return this.#change(async () => {
      if (this.#state !== "open") throw this.#refusal();
      await (this.#engine as IndexEngine).gates.hold();
      if (save) await this.#save();
      if (this.#state === "open") this.#state = "suspended";
    });
  }

  resume(): Promise<void> {
    return this.#change(async () => {
      if (this.#state !== "suspended") return;
      this.#state = "open";
      (this.#engine as IndexEngine).gates.release();
    });
  }

  /** Runs changes of state one after another. */
  #change(run: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(run);
    this.#changing = done.catch(ignore);
    return done;
  }

  /**
   * Closes the index: stops opening or rebuilding, finishes all requests, saves (unless `save` is false, or it is
   * suspended). An error of saving is thrown, but the index is closed. The device stays open. Idempotent.
   */
  close({ save = true }: { save?: boolean } = {}): Promise<void> {
    this.#stopping = true;
    this.#closing ??= this.#close(save);
    return this.#closing;
  }

  async #close(save: boolean): Promise<void> {
    await this.ready.catch(ignore);
    await this.#changing;
    const engine = this.#engine;
    const wasServing = this.#state === "open" || this.#state === "disabled";
    try {
      if (engine !== undefined && wasServing) {
        await engine.gates.hold();
        if (save) await this.#save();
      }
    } finally {
      this.#state = "closed";
      engine?.gates.refuseQueued(this.#refusal());
      this.#final = this.statistics();
      this.#engine = undefined;
      this.#store = undefined;
    }
  }

  #final: UdsStatistics | undefined;

  /** Counters since the index was opened; the last ones after it was closed. */
  statistics(): UdsStatistics {
    const engine = this.#engine;
    if (engine === undefined && this.#final !== undefined) return this.#final;
    const { found, notFound, postsByLocation } = engine?.counters ?? new RequestCounters();
    const at = (counters: Float64Array, index: number): number => counters[index] as number;
    const { POST, QUERY, QUERY_NO_UPDATE, UPDATE, DELETE } = UdsOperation;
    return {
      entriesIndexed: engine?.volumeIndex.recordCount ?? 0,
      collisions: engine?.volumeIndex.collisionCount ?? 0,
      entriesDiscarded: engine?.volumeIndex.discardCount ?? 0,
      postsFound: at(found, POST),
      postsNotFound: at(notFound, POST),
      queriesFound: at(found, QUERY) + at(found, QUERY_NO_UPDATE),
      queriesNotFound: at(notFound, QUERY) + at(notFound, QUERY_NO_UPDATE),
      updatesFound: at(found, UPDATE),
      updatesNotFound: at(notFound, UPDATE),
      deletionsFound: at(found, DELETE),
      deletionsNotFound: at(notFound, DELETE),
      inMemoryPostsFound: at(postsByLocation, 1),
      densePostsFound: at(postsByLocation, 2),
      sparsePostsFound: at(postsByLocation, 3),
      requests: found.reduce((sum, n) => sum + n, 0) + notFound.reduce((sum, n) => sum + n, 0),
      memoryUsed: indexMemory(this.#options).total,
      newestChapter: engine?.newest ?? 0,
      oldestChapter: engine?.oldest ?? 0,
      overflows: engine?.volumeIndex.overflowCount ?? 0,
      earlyFlushes: engine?.volumeIndex.earlyFlushes ?? 0,
      pageCacheHits: engine?.pageCache.hits ?? 0,
      pageCacheMisses: engine?.pageCache.misses ?? 0,
    };
  }
}

function checkLength(argument: string, bytes: Uint8Array): Uint8Array {
  if (bytes.length === 16) return bytes;
  throw new VdoError("VDO_BAD_ARGUMENT", `a record's ${argument} has 16 bytes, not ${bytes.length}`, {
    argument,
    value: bytes.length,
  });
}
