/**
 * The transaction manager: blocks that are copied before they are changed, and a commit that switches from one consistent
 * state to the next.
 *
 *     commit: other space maps ▸ metadata space map ▸ write all dirty blocks ▸ FLUSH ▸ superblock ▸ FLUSH
 *
 * Invariants:
 * - no block that the committed state uses is ever overwritten, except the superblock;
 * - a block freed in the open transaction is not handed out before the commit;
 * - there is one open transaction and one writer; readers wait while a change is half done, not while a commit writes.
 *
 * (Linux 6.12, dm-transaction-manager.)
 */
import { invariant, isZero, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import type { BlockStore, Shadow } from "../btree/tree-context.ts";
import { corrupt } from "../errors.ts";
import { METADATA_BLOCKS_MAX } from "../format/bitmap.ts";
import { spaceMapRoot } from "../format/space-map-root.ts";
import type { CommitsWithStore, MapHost } from "../space-map/disk-space-map.ts";
import { MetadataSpaceMap } from "../space-map/metadata-space-map.ts";
import { BLOCK_BYTES, Block, type BlockKind, validateBlock } from "./block.ts";
import { BlockManager, type TrafficCounters } from "./block-manager.ts";
import { drive, type Provide, SAFE_POINT, type Steps } from "./steps.ts";
import { Turnstile } from "./turnstile.ts";

/** How the application's superblock looks: the one block that is overwritten in place. */
export interface SuperblockFormat {
  kind: BlockKind;
  /** Where the metadata space map's root record is (32 bytes are used of the 128 that thin pools set aside). */
  spaceMapRootOffset: number;
  /** Its block number. Default 0. */
  number?: number;
}

export interface StoreOptions {
  device: BlockDevice;
  superblock: SuperblockFormat;
  /** Blocks of 4096 bytes kept in memory. Default 16384: 64 MiB. */
  cacheBlocks?: number;
  /** Refuse changes. Default false. */
  readOnly?: boolean;
}

const CACHE_BLOCKS = 16_384;

export class Store implements BlockStore, MapHost {
  readonly #blocks: BlockManager;
  readonly #format: Required<SuperblockFormat>;
  readonly #readOnly: boolean;
  readonly #turnstile = new Turnstile();
  readonly #shadows = new Set<number>();
  #members: CommitsWithStore[] = [];
  #map!: MetadataSpaceMap;
  #superblock!: Block;
  #changes = 0;
  #committedChanges = 0;
  #poison: string | undefined;
  #closed = false;
  readonly #provide: Provide = (wanted) =>
    wanted === SAFE_POINT ? this.#blocks.relieve({ midway: true }) : this.#blocks.fetch(wanted);

  private constructor({ device, superblock, cacheBlocks = CACHE_BLOCKS, readOnly = false }: StoreOptions) {
    this.#blocks = new BlockManager(device, cacheBlocks);
    this.#format = { number: 0, ...superblock };
    this.#readOnly = readOnly;
  }

  /** True if the block at `number` is all zero: nothing was ever made there. */
  static async isBlank(device: BlockDevice, number = 0): Promise<boolean> {
    return isZero((await new BlockManager(device, 16).readThrough(number)).bytes);
  }

  /** A new store. Nothing is written before the first commit. Throws `VDO_NO_SPACE` on a device that is too small. */
  static async create(options: StoreOptions): Promise<Store> {
    const store = new Store(options);
    const { number, kind } = store.#format;
    store.#superblock = new Block(number, kind);
    const deviceBlocks = store.#blocks.deviceBlocks;
    await store.#change(() =>
      MetadataSpaceMap.create({ store, deviceBlocks, superblock: number }, (map) => {
        store.#map = map;
      }),
    );
    return store;
  }

  /** The store of a device's superblock. Writes nothing. Throws `VDO_CORRUPT`. */
  static async open(options: StoreOptions): Promise<Store> {
    const store = new Store(options);
    await store.#openCommitted();
    return store;
  }

  async #openCommitted(): Promise<void> {
    const { number, kind, spaceMapRootOffset: at } = this.#format;
    const superblock = await this.#blocks.readThrough(number);
    validateBlock(superblock, kind);
    this.#superblock = superblock;
    this.#members = [];
    this.#shadows.clear();
    const managed = spaceMapRoot.get(superblock.view, at).blockCount;
    if (managed > this.#blocks.deviceBlocks) {
      const place = `${kind.name} at block ${number}`;
      const expected = `at most the device's ${this.#blocks.deviceBlocks}`;
      throw corrupt(place, "metadata blocks", { expected, actual: managed });
    }
    const { view } = superblock;
    const work = drive(
      MetadataSpaceMap.open(this, { view, at }, (map) => {
        this.#map = map;
      }),
      this.#provide,
    );
    await work;
  }
  // #region The application's view

  /** The committed superblock. Read only. */
  get superblock(): Block {
    return this.#superblock;
  }

  get blockCount(): number {
    return this.#map === undefined ? Math.min(this.#blocks.deviceBlocks, METADATA_BLOCKS_MAX) : this.#map.blockCount;
  }

  /** Metadata blocks that can still be allocated in this transaction. */
  get freeCount(): number {
    return this.#map.freeCount;
  }

  /** Metadata blocks in use. */
  get allocatedCount(): number {
    return this.#map.allocatedCount;
  }

  /** Something was changed since the last commit. */
  get dirty(): boolean {
    return this.#changes !== this.#committedChanges;
  }

  /** Why nothing can be changed until `abort`; undefined if all is well. */
  get poisoned(): string | undefined {
    return this.#poison;
  }

  get traffic(): Readonly<TrafficCounters> {
    return this.#blocks.traffic;
  }

  /** No change is half done: `BTree.peek` shows the present state. */
  get readable(): boolean {
    return this.#turnstile.readable;
  }

  /** Blocks in memory, and those of them that are not written yet. */
  cacheUse(): { blocks: number; dirty: number } {
    return { blocks: this.#blocks.cachedCount, dirty: this.#blocks.dirtyCount };
  }

  /** Runs an operation that changes nothing; several may run at a time. */
  async read<T>(make: () => Steps<T>): Promise<T> {
    if (!this.#turnstile.tryEnter(false)) await this.#turnstile.enter(false);
    try {
      this.#checkOpen();
      return await drive(make(), this.#provide);
    } finally {
      this.#turnstile.leave(false);
      this.#blocks.evict();
    }
  }

  /**
   * Runs an operation that may change blocks, alone. `make` is called when it is the operation's turn: keep the roots that
   * it starts from and leaves behind in variables that are read and set inside. If it fails midway the transaction is
   * poisoned: only `abort` helps.
   */
  async write<T>(make: () => Steps<T>): Promise<T> {
    if (!this.#turnstile.tryEnter(true)) await this.#turnstile.enter(true);
    try {
      this.#checkWritable();
      const result = await this.#change(make);
      const relief = this.#blocks.relieve({ midway: false });
      if (relief !== undefined) await relief;
      return result;
    } finally {
      this.#turnstile.leave(true);
    }
  }

  /**
   * Makes the present state the committed one. `fill` writes the application's roots and other fields into the superblock;
   * it is called when everything else is on the device, must not fail, and must not touch anything else. Throws what the
   * device threw; the transaction is poisoned then.
   */
  async commit(fill: (superblock: Block) => void): Promise<void> {
    if (!this.#turnstile.tryEnter(true)) await this.#turnstile.enter(true);
    try {
      this.#checkWritable();
      await this.#change(() => this.#commitMaps());
      this.#turnstile.open();
      await this.#publish(fill);
    } finally {
      this.#turnstile.leave(true);
    }
  }

  /** Returns to the last commit. Space maps must be opened again from the superblock, roots read from it. */
  async abort(): Promise<void> {
    if (!this.#turnstile.tryEnter(true)) await this.#turnstile.enter(true);
    try {
      await this.#blocks.reset();
      await this.#openCommitted();
      this.#poison = undefined;
      this.#committedChanges = this.#changes;
    } finally {
      this.#turnstile.leave(true);
    }
  }

  /** Lets the metadata space map manage the device up to `blockCount` blocks. Commit afterwards. */
  *grow(blockCount: number): Steps<void> {
    const wanted = Math.min(blockCount, METADATA_BLOCKS_MAX);
    if (blockCount > this.#blocks.deviceBlocks || wanted < this.blockCount) {
      const text = `metadata of ${this.blockCount} blocks cannot become ${blockCount} on a device of ${this.#blocks.deviceBlocks}`;
      throw new VdoError("VDO_BAD_ARGUMENT", text, { argument: "blockCount", value: blockCount });
    }
    if (wanted > this.blockCount) yield* this.#map.extend(wanted - this.blockCount);
  }

  /** Calls `notify` once whenever the free metadata blocks fall to `threshold` or below. */
  onLowSpace(threshold: number, notify: () => void): void {
    this.#map.onLow(threshold, notify);
  }

  /** Forgets what is not committed. The device stays open: it is the caller's. */
  async close(): Promise<void> {
    if (!this.#turnstile.tryEnter(true)) await this.#turnstile.enter(true);
    this.#closed = true;
    await this.#blocks.reset();
    this.#turnstile.leave(true);
  }

  /** A space map that is committed with the store. */
  enlist(member: CommitsWithStore): void {
    this.#members.push(member);
  }
  // #endregion
  // #region What operations use

  cached(number: number, kind: BlockKind): Block | undefined {
    return this.#blocks.cached(number, kind);
  }

  *load(number: number, kind: BlockKind, path?: string): Steps<Block> {
    return this.#blocks.cached(number, kind) ?? (yield* this.#blocks.load(number, kind, path));
  }

  prefetch(numbers: readonly number[]): void {
    this.#blocks.prefetch(numbers);
  }

  *newBlock(kind: BlockKind): Steps<Block> {
    this.#changes++;
    const number = yield* this.#map.allocate();
    const block = this.#blocks.fresh(number, kind);
    this.#shadows.add(number);
    return block;
  }

  shadowInPlace(number: number, kind: BlockKind): Block | undefined {
    if (!this.#shadows.has(number) || this.#map.isSharedCached(number) !== false) return undefined;
    const block = this.#blocks.cached(number, kind);
    if (block === undefined) return undefined;
    this.#changes++;
    this.#blocks.change(block);
    return block;
  }

  *shadow(number: number, kind: BlockKind, path?: string): Steps<Shadow> {
    this.#changes++;
    const shared = this.#map.isSharedCached(number) ?? (yield* this.#map.isShared(number));
    if (this.#shadows.has(number) && !shared) {
      const block = yield* this.load(number, kind, path);
      this.#blocks.change(block);
      return { block, shared };
    }
    // Allocated before the original is let go, which could be handed out otherwise.
    const copy = yield* this.#map.allocate();
    yield* this.#map.decrement(number, number + 1);
    const original = yield* this.load(number, kind, path);
    const block = this.#blocks.fresh(copy, kind);
    block.bytes.set(original.bytes);
    this.#shadows.add(copy);
    return { block, shared };
  }

  release(block: Block): void {
    this.#blocks.release(block);
  }

  *isShared(number: number): Steps<boolean> {
    return this.#map.isSharedCached(number) ?? (yield* this.#map.isShared(number));
  }

  *increment(begin: number, end: number): Steps<void> {
    this.#changes++;
    yield* this.#map.increment(begin, end);
  }

  *decrement(begin: number, end: number): Steps<void> {
    this.#changes++;
    yield* this.#map.decrement(begin, end);
  }

  *count(number: number): Steps<number> {
    return yield* this.#map.count(number);
  }
  // #endregion

  async #change<T>(make: () => Steps<T>): Promise<T> {
    const before = this.#changes;
    this.#blocks.beginOperation();
    try {
      return await drive(make(), this.#provide);
    } catch (error) {
      if (this.#changes !== before) this.#poisonWith(error);
      throw error;
    }
  }

  *#commitMaps(): Steps<void> {
    this.#changes++;
    for (const member of this.#members) yield* member.commit();
    yield* this.#map.commit();
  }

  async #publish(fill: (superblock: Block) => void): Promise<void> {
    try {
      await this.#blocks.flush();
      const next = this.#nextSuperblock(fill);
      await this.#blocks.writeThrough(next);
      this.#superblock = next;
      this.#shadows.clear();
      this.#committedChanges = this.#changes;
    } catch (error) {
      this.#poisonWith(error);
      throw error;
    }
  }

  #nextSuperblock(fill: (superblock: Block) => void): Block {
    const next = new Block(this.#format.number, this.#format.kind);
    next.bytes.set(this.#superblock.bytes);
    const before = this.#changes;
    fill(next);
    invariant(before === this.#changes, "a commit's fill function changes nothing but the superblock");
    next.bytes.set(this.#map.rootRecord(), this.#format.spaceMapRootOffset);
    invariant(next.bytes.length === BLOCK_BYTES, "a superblock is one block");
    return next;
  }

  #poisonWith(error: unknown): void {
    this.#poison ??= error instanceof Error ? error.message : String(error);
  }

  #checkOpen(): void {
    if (this.#closed) throw new VdoError("VDO_CLOSED", "the metadata store was closed", { object: "metadata store" });
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (this.#readOnly) {
      throw new VdoError("VDO_READ_ONLY", "the metadata store was opened read-only", { object: "metadata store" });
    }
    if (this.#poison !== undefined) {
      const text = `the transaction failed and must be aborted: ${this.#poison}`;
      throw new VdoError("PD_POISONED", text, { reason: this.#poison });
    }
  }
}
