/**
 * The metadata of a pool: devices, mappings, counts, in transactions.
 *
 * Every method that changes something belongs to the open transaction; {@link PoolMetadata.commit} makes it durable. The caller
 * orders commits against changes (see the pool's gate) and flushes the data device first. Fields of the superblock change on
 * the device only with the commit's last write, held root and needs_check included.
 *
 * Source of fact: Linux 6.12, thin metadata.
 */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { type Block, DiskSpaceMap, type Steps, Store } from "@vdo/persistent-data";
import {
  METADATA_BLOCK_BYTES,
  METADATA_BLOCKS_MAX,
  METADATA_RESERVE_MAX,
  METADATA_THRESHOLD_MAX,
  TIME_MAX,
} from "../constants.ts";
import type { DeviceDetails } from "../format/device-details.ts";
import type { Mapping } from "../format/mapping.ts";
import {
  decodeSuperblock,
  NEEDS_CHECK,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_VERSION,
  spaceMapRoot,
  type ThinSuperblock,
  thinSuperblock,
} from "../format/superblock.ts";
import {
  allocateData,
  createSnapshot,
  createThin,
  deleteDevice,
  dropSnapshot,
  highestMapped,
  holdSnapshot,
  insertMappings,
  type MappedRange,
  makeTrees,
  mappedRange,
  mismatch,
  mustFindDevice,
  type PoolState,
  removeMappings,
  type VirtualRange,
  writeDetails,
} from "./pool-state.ts";
import { SUPERBLOCK_FORMAT } from "./superblock-kind.ts";

export interface PoolMetadataOptions {
  device: BlockDevice;
  /** Sectors; must be what the pool was made with. */
  blockSectors: number;
  /** A blank device is refused, and features that allow reading only are accepted. The caller sees to it that nothing is changed. */
  readOnly?: boolean;
  /** Blocks of 4096 bytes kept in memory. */
  cacheBlocks?: number;
}

/** Returned by {@link PoolMetadata.peek} when the answer needs a read. */
export const NOT_KNOWN: unique symbol = Symbol("not known");

const DATA_MAP = { name: "data space map" };

export class PoolMetadata {
  readonly #state: PoolState;
  readonly #device: BlockDevice;
  /** Something of the superblock was changed that no block shows. */
  #touched = false;

  private constructor(state: PoolState, device: BlockDevice) {
    this.#state = state;
    this.#device = device;
  }

  /** Opens, or formats a device whose first block is all zero. Throws `VDO_CORRUPT`, `VDO_THIN_MISMATCH`, `VDO_READ_ONLY`. */
  static async open({
    device,
    blockSectors,
    readOnly = false,
    cacheBlocks,
  }: PoolMetadataOptions): Promise<PoolMetadata> {
    const cache = cacheBlocks === undefined ? {} : { cacheBlocks };
    const options = { device, superblock: SUPERBLOCK_FORMAT, readOnly: device.readOnly === true, ...cache };
    if (await Store.isBlank(device)) {
      if (readOnly) {
        const message = "the metadata device is blank and may not be formatted: open the pool for writing";
        throw new VdoError("VDO_READ_ONLY", message, { object: "thin pool metadata" });
      }
      const metadata = new PoolMetadata(await formatState(await Store.create(options), device, blockSectors), device);
      await metadata.commit();
      return metadata;
    }
    const store = await Store.open(options);
    const state = committedState(store);
    checkOpened(state.superblock, blockSectors, readOnly);
    return new PoolMetadata(state, device);
  }

  // #region Figures

  /** Sectors per data block. */
  get blockSectors(): number {
    return this.#state.superblock.dataBlockSectors;
  }

  get time(): number {
    return this.#state.superblock.time;
  }

  get transactionId(): bigint {
    return this.#state.superblock.transactionId;
  }

  /** Address of the metadata snapshot; 0 is none. */
  get heldRoot(): number {
    return this.#state.superblock.heldRoot;
  }

  get needsCheck(): boolean {
    return (this.#state.superblock.flags & NEEDS_CHECK) !== 0;
  }

  get dataBlocks(): number {
    return this.#state.data.blockCount;
  }

  get dataFree(): number {
    return this.#state.data.freeCount;
  }

  get metadataBlocks(): number {
    return this.#state.store.blockCount;
  }

  /** Metadata blocks that the device has, up to what can be used. */
  get metadataDeviceBlocks(): number {
    const bytes = this.#device.blockCount * this.#device.blockSize;
    return Math.min(Math.floor(bytes / METADATA_BLOCK_BYTES), METADATA_BLOCKS_MAX);
  }

  /** Free metadata blocks beyond the reserve, which is kept for a running operation and a commit. */
  get metadataFree(): number {
    const reserve = Math.min(METADATA_RESERVE_MAX, Math.floor(this.metadataBlocks / 10));
    return Math.max(0, this.#state.store.freeCount - reserve);
  }

  get metadataThreshold(): number {
    return Math.min(METADATA_THRESHOLD_MAX, Math.floor(this.metadataBlocks / 4));
  }

  /** Something is not committed. */
  get isDirty(): boolean {
    if (this.#touched || this.#state.store.dirty) return true;
    for (const { changed } of this.#state.devices.values()) if (changed) return true;
    return false;
  }

  /** Calls `notify` once whenever free metadata falls to the threshold. */
  onLowSpace(notify: () => void): void {
    this.#state.store.onLowSpace(this.metadataThreshold, notify);
  }
  // #endregion
  // #region Devices

  /** Details of a device. Throws `VDO_THIN_NOT_FOUND`. */
  async details(id: number): Promise<Readonly<DeviceDetails>> {
    const entry = await this.#read(() => mustFindDevice(this.#state, id));
    return entry.details;
  }

  /** Details in memory, if they are; for paths that must not wait. */
  cachedDetails(id: number): Readonly<DeviceDetails> | undefined {
    return this.#state.devices.get(id)?.details;
  }

  /** Ids of all devices, ascending. */
  async deviceIds(): Promise<number[]> {
    const roots = await this.#read(() => this.#state.trees.roots.range(this.#state.mappingRoot));
    return roots.map(({ key }) => key);
  }

  /** Throws `VDO_THIN_EXISTS`. */
  createThin(id: number): Promise<void> {
    return this.#write(() => createThin(this.#state, id));
  }

  /** The caller has made sure that no write to the origin is in flight. Throws `VDO_THIN_EXISTS`, `VDO_THIN_NOT_FOUND`. */
  async createSnapshot(id: number, origin: number): Promise<void> {
    if (this.time >= TIME_MAX) {
      const message = `the pool has counted ${TIME_MAX} snapshots, the most it can: dump and restore it`;
      throw mismatch(message, "time", { expected: `below ${TIME_MAX}`, actual: this.time });
    }
    await this.#write(() => createSnapshot(this.#state, id, origin));
  }

  /** Deletes a device and all that it alone maps. Throws `VDO_THIN_NOT_FOUND`. */
  delete(id: number): Promise<void> {
    return this.#write(() => deleteDevice(this.#state, id));
  }

  /** Throws `VDO_THIN_MISMATCH` when `current` is not the stored one. */
  setTransactionId(current: bigint, next: bigint): void {
    if (current !== this.transactionId) {
      const message = `mismatched transaction id: it is ${this.transactionId}, not ${current}`;
      throw mismatch(message, "transaction id", { expected: this.transactionId, actual: current });
    }
    this.#state.superblock.transactionId = next;
    this.#touched = true;
  }
  // #endregion
  // #region Mappings

  /** The mapping, or undefined. */
  async find(id: number, block: number): Promise<Mapping | undefined> {
    const state = this.#state;
    return this.#read(() => state.trees.mappings.lookup(state.mappingRoot, [id, block]));
  }

  /** {@link find} without waiting; {@link NOT_KNOWN} when something must be read or is just being changed. */
  peek(id: number, block: number): Mapping | undefined | typeof NOT_KNOWN {
    const { store, trees, mappingRoot } = this.#state;
    if (!store.readable) return NOT_KNOWN;
    const found = trees.mappings.peek(mappingRoot, [id, block]);
    return typeof found === "symbol" ? NOT_KNOWN : found;
  }

  /** Takes `count` data blocks, or as many as there are. */
  async allocate(count: number): Promise<number[]> {
    const blocks: number[] = [];
    await this.#write(() => allocateData(this.#state, blocks, count));
    return blocks;
  }

  /** Maps virtual blocks to data blocks, at the pool's present time. */
  insert(id: number, pairs: readonly (readonly [virtual: number, data: number])[]): Promise<void> {
    return this.#write(() => insertMappings(this.#state, id, pairs));
  }

  /** The first mapped run in the range, or undefined. */
  findMappedRange(range: VirtualRange): Promise<MappedRange | undefined> {
    return this.#read(() => mappedRange(this.#state, range));
  }

  /** Unmaps the range. */
  removeRange(range: VirtualRange): Promise<void> {
    return this.#write(() => removeMappings(this.#state, range));
  }

  /** Highest mapped virtual block, or undefined. */
  highestMapped(id: number): Promise<number | undefined> {
    return this.#read(() => highestMapped(this.#state, id));
  }

  /** Gives back data blocks [begin, end) that were allocated and not inserted. */
  releaseData(begin: number, end: number): Promise<void> {
    return this.#write(() => this.#state.data.decrement(begin, end));
  }

  /** Number of holders of a data block. */
  dataCount(block: number): Promise<number> {
    return this.#read(() => this.#state.data.count(block));
  }
  // #endregion
  // #region Transactions

  /** Makes all changes durable; the data they point to must be so already. Does nothing when nothing changed. */
  async commit(): Promise<void> {
    if (!this.isDirty) return;
    await this.#write(() => writeDetails(this.#state));
    await this.#state.store.commit((block) => this.#fill(block));
    this.#state.superblock = thinSuperblock.decode(this.#state.store.superblock.bytes);
    this.#touched = false;
  }

  #fill({ view }: Block): void {
    const { superblock, mappingRoot, detailsRoot, data } = this.#state;
    superblock.mappingRoot = mappingRoot;
    superblock.detailsRoot = detailsRoot;
    superblock.dataSpaceMap = spaceMapRoot.decode(data.rootRecord());
    thinSuperblock.set(view, 0, superblock);
  }

  /** Drops the open transaction; with `needsCheck` records that the metadata must be checked. */
  async abort(needsCheck: boolean): Promise<void> {
    const { store } = this.#state;
    await store.abort();
    Object.assign(this.#state, committedState(store));
    this.#touched = false;
    if (!needsCheck || this.needsCheck) return;
    this.#state.superblock.flags |= NEEDS_CHECK;
    this.#touched = true;
    await this.commit();
  }

  /** Keeps the present state readable for others until {@link releaseSnapshot}. Commits before and after. Throws `VDO_THIN_BUSY`. */
  async reserveSnapshot(): Promise<number> {
    await this.commit();
    if (this.heldRoot !== 0) {
      const message = `a metadata snapshot is held at block ${this.heldRoot}: release it first`;
      throw new VdoError("VDO_THIN_BUSY", message, { object: "metadata snapshot" });
    }
    await this.#write(() => holdSnapshot(this.#state));
    await this.commit();
    return this.heldRoot;
  }

  /** Throws `VDO_THIN_MISMATCH` when none is held. */
  async releaseSnapshot(): Promise<void> {
    if (this.heldRoot === 0) {
      const message = "no metadata snapshot is held: there is nothing to release";
      throw mismatch(message, "metadata snapshot", { expected: "one", actual: "none" });
    }
    await this.#write(() => dropSnapshot(this.#state));
    await this.commit();
  }

  /** Describes data blocks up to `count`; seen after the commit. */
  growData(count: number): Promise<void> {
    const { data } = this.#state;
    this.#touched = true;
    return this.#write(() => data.extend(count - data.blockCount));
  }

  /** Uses metadata blocks up to `count`; commit afterwards. */
  growMetadata(count: number): Promise<void> {
    this.#touched = true;
    return this.#write(() => this.#state.store.grow(count));
  }

  /** Forgets what is not committed. */
  close(): Promise<void> {
    return this.#state.store.close();
  }
  // #endregion

  #read<T>(make: () => Steps<T>): Promise<T> {
    return this.#state.store.read(make);
  }

  #write<T>(make: () => Steps<T>): Promise<T> {
    return this.#state.store.write(make);
  }
}

/** An empty pool, not committed. */
export async function formatState(store: Store, device: BlockDevice, blockSectors: number): Promise<PoolState> {
  const bytes = device.blockCount * device.blockSize;
  const superblock: ThinSuperblock = {
    ...thinSuperblock.decode(new Uint8Array(thinSuperblock.size)),
    magic: SUPERBLOCK_MAGIC,
    version: SUPERBLOCK_VERSION,
    dataBlockSectors: blockSectors,
    metadataBlockSectors: 8,
    metadataBlockCount: Math.min(Math.floor(bytes / METADATA_BLOCK_BYTES), METADATA_BLOCKS_MAX),
  };
  return store.write(function* (): Steps<PoolState> {
    const data = yield* DiskSpaceMap.create(store, { blockCount: 0, ...DATA_MAP });
    const trees = makeTrees(store, data);
    const mappingRoot = yield* trees.mappings.empty();
    const detailsRoot = yield* trees.details.empty();
    return { store, data, trees, superblock, mappingRoot, detailsRoot, devices: new Map() };
  });
}

/** The state that the last commit left. */
function committedState(store: Store): PoolState {
  const { bytes } = store.superblock;
  const superblock = decodeSuperblock(bytes);
  const data = DiskSpaceMap.open(store, bytes.subarray(thinSuperblock.at.dataSpaceMap.offset), DATA_MAP);
  const { mappingRoot, detailsRoot } = superblock;
  return { store, data, trees: makeTrees(store, data), superblock, mappingRoot, detailsRoot, devices: new Map() };
}

function checkOpened(superblock: ThinSuperblock, blockSectors: number, readOnly: boolean): void {
  const { dataBlockSectors, incompatFlags, compatReadOnlyFlags } = superblock;
  if (dataBlockSectors !== blockSectors) {
    const message = `changing the data block size (from ${dataBlockSectors} to ${blockSectors}) is not supported: give the size it was made with`;
    throw mismatch(message, "data block size", { expected: dataBlockSectors, actual: blockSectors });
  }
  const features = incompatFlags !== 0 ? incompatFlags : readOnly ? 0 : compatReadOnlyFlags;
  if (features === 0) return;
  const message = `could not access metadata due to unsupported optional features (${features.toString(16)}): a newer program wrote it`;
  throw mismatch(message, "features", { expected: 0, actual: features });
}
