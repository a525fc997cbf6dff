/** The metadata side of a thin pool, as small as tests of the library can do with. */
import { u64le, viewOf } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { addressType, BTree, DiskSpaceMap, type Steps, Store, type ValueRun, type ValueType } from "../../src/index.ts";
import { deviceDetails, type Mapping, mapping, THIN, THIN_MAGIC, thinSuperblock } from "./thin-superblock.ts";

interface Details {
  mappedBlocks: number;
  transactionId: number;
  creationTime: number;
  snapshottedTime: number;
}

export class TestPool {
  readonly store: Store;
  readonly data: DiskSpaceMap;
  readonly maps: BTree<Mapping>;
  readonly top: BTree<number>;
  readonly bottom: BTree<Mapping>;
  readonly details: BTree<Details>;
  mappingRoot = 0;
  detailsRoot = 0;
  time = 0;
  readonly #sectors: number;
  readonly #changed = new Map<number, Details>();

  private constructor(store: Store, data: DiskSpaceMap, sectors: number) {
    this.store = store;
    this.data = data;
    this.#sectors = sectors;
    const value: ValueType<Mapping> = {
      codec: mapping,
      increment: (values) => eachRun(values, (begin, end) => data.increment(begin, end)),
      decrement: (values) => eachRun(values, (begin, end) => data.decrement(begin, end)),
      equal: (a, b) => a.block === b.block,
    };
    this.maps = new BTree(store, { levels: 2, type: value, name: "mapping tree" });
    this.bottom = new BTree(store, { type: value, name: "device map" });
    const bottom = this.bottom;
    this.top = new BTree(store, {
      name: "mapping tree",
      type: {
        ...addressType(store),
        *decrement({ view, at, count }) {
          for (let i = 0; i < count; i++) yield* bottom.drop(u64le.get(view, at + 8 * i));
        },
      },
    });
    this.details = new BTree(store, { type: { codec: deviceDetails }, name: "details tree" });
  }

  /** A new pool, its data device described in a second transaction, as the kernel does it. */
  static async create(
    device: BlockDevice,
    { dataBlocks, dataBlockSectors = 128 }: { dataBlocks: number; dataBlockSectors?: number },
  ): Promise<TestPool> {
    const store = await Store.create({ device, superblock: THIN });
    const data = await store.write(() => DiskSpaceMap.create(store, { blockCount: 0, name: "data space map" }));
    const pool = new TestPool(store, data, dataBlockSectors);
    await store.write(function* () {
      pool.mappingRoot = yield* pool.maps.empty();
      pool.detailsRoot = yield* pool.details.empty();
    });
    await pool.commit();
    await store.write(() => data.extend(dataBlocks));
    await pool.commit();
    return pool;
  }

  static async open(device: BlockDevice): Promise<TestPool> {
    const store = await Store.open({ device, superblock: THIN });
    const head = thinSuperblock.decode(store.superblock.bytes);
    const data = DiskSpaceMap.open(store, head.dataSpaceMap, { name: "data space map" });
    const pool = new TestPool(store, data, head.dataBlockSectors);
    pool.mappingRoot = head.mappingRoot;
    pool.detailsRoot = head.detailsRoot;
    pool.time = head.time;
    return pool;
  }

  *createThin(id: number): Steps<void> {
    const leaf = yield* this.bottom.empty();
    this.mappingRoot = (yield* this.top.insert(this.mappingRoot, [id], leaf)).root;
    this.#changed.set(id, { mappedBlocks: 0, transactionId: 0, creationTime: this.time, snapshottedTime: this.time });
  }

  *createSnapshot(id: number, origin: number): Steps<void> {
    const root = (yield* this.top.lookup(this.mappingRoot, [origin])) as number;
    yield* this.store.increment(root, root + 1);
    this.mappingRoot = (yield* this.top.insert(this.mappingRoot, [id], root)).root;
    this.time++;
    const details = yield* this.detailsOf(origin);
    details.snapshottedTime = this.time;
    this.#changed.set(id, { ...details, creationTime: this.time });
    this.#changed.set(origin, details);
  }

  /** Maps a virtual block to a new data block. */
  *provision(id: number, virtual: number): Steps<number> {
    const block = (yield* this.data.allocate()) as number;
    const value = { block, time: this.time };
    const { root, inserted } = yield* this.maps.insert(this.mappingRoot, [id, virtual], value);
    this.mappingRoot = root;
    const details = yield* this.detailsOf(id);
    if (inserted) details.mappedBlocks++;
    this.#changed.set(id, details);
    return block;
  }

  /** A write of a whole block: to a new data block unless the present one is the device's own. */
  *write(id: number, virtual: number): Steps<void> {
    const held = yield* this.maps.lookup(this.mappingRoot, [id, virtual]);
    const { snapshottedTime } = yield* this.detailsOf(id);
    if (held === undefined || held.time < snapshottedTime) yield* this.provision(id, virtual);
  }

  /** Unmaps virtual blocks [from, to), the way the kernel does it. */
  *discard(id: number, from: number, to: number): Steps<void> {
    let root = (yield* this.top.lookup(this.mappingRoot, [id])) as number;
    yield* this.store.increment(root, root + 1);
    this.mappingRoot = (yield* this.top.remove(this.mappingRoot, [id])).root;
    let removed = 0;
    for (let at = from; at < to; ) {
      const next = yield* this.bottom.lookupNext(root, [at]);
      if (next === undefined || next.key >= to) break;
      const run = yield* this.bottom.removeRun(root, [next.key], to);
      root = run.root;
      removed += run.removed;
      at = run.next;
    }
    const details = yield* this.detailsOf(id);
    details.mappedBlocks -= removed;
    this.#changed.set(id, details);
    this.mappingRoot = (yield* this.top.insert(this.mappingRoot, [id], root)).root;
  }

  /** Deletes a device. */
  *remove(id: number): Steps<void> {
    this.detailsRoot = (yield* this.details.remove(this.detailsRoot, [id])).root;
    this.mappingRoot = (yield* this.top.remove(this.mappingRoot, [id])).root;
  }

  *detailsOf(id: number): Steps<Details> {
    return this.#changed.get(id) ?? ((yield* this.details.lookup(this.detailsRoot, [id])) as Details);
  }

  async commit(): Promise<void> {
    const pool = this;
    await this.store.write(function* () {
      for (const [id, details] of pool.#changed) {
        pool.detailsRoot = (yield* pool.details.insert(pool.detailsRoot, [id], details)).root;
      }
      pool.#changed.clear();
    });
    await this.store.commit(({ bytes }) => this.#fill(bytes));
  }

  #fill(bytes: Uint8Array): void {
    const isNew = thinSuperblock.at.magic.get(viewOf(bytes), 0) !== THIN_MAGIC;
    const old = isNew ? undefined : thinSuperblock.decode(bytes);
    thinSuperblock.set(viewOf(bytes), 0, {
      checksum: 0,
      flags: 0,
      blockNumber: 0,
      uuid: new Uint8Array(16),
      magic: THIN_MAGIC,
      version: 2,
      time: this.time,
      transactionId: old?.transactionId ?? 0,
      heldRoot: old?.heldRoot ?? 0,
      dataSpaceMap: this.data.rootRecord(),
      metadataSpaceMap: old?.metadataSpaceMap ?? new Uint8Array(128),
      mappingRoot: this.mappingRoot,
      detailsRoot: this.detailsRoot,
      dataBlockSectors: this.#sectors,
      metadataBlockSectors: 8,
      metadataBlocks: old?.metadataBlocks ?? this.store.blockCount,
      featureFlags: [0, 0, 0],
    });
  }
}

/** Runs of consecutive data blocks among packed mappings. */
function* eachRun({ view, at, count }: ValueRun, apply: (begin: number, end: number) => Steps<void>): Steps<void> {
  for (let i = 0; i < count; i++) {
    const { block } = mapping.get(view, at + 8 * i);
    yield* apply(block, block + 1);
  }
}
