/**
 * The state of an open transaction, and the operations on it: devices, mappings, the metadata snapshot.
 *
 * Operations are steps for `Store.read` and `Store.write`; roots are read and set inside. (Linux 6.12, thin metadata.)
 */
import { VdoError } from "@vdo/base";
import { BTree, type DiskSpaceMap, type Steps, type Store } from "@vdo/persistent-data";
import { type DeviceDetails, deviceDetails } from "../format/device-details.ts";
import type { Mapping } from "../format/mapping.ts";
import { type ThinSuperblock, thinSuperblock } from "../format/superblock.ts";
import { deviceRootType, mappingType } from "./mapping-type.ts";
import { SUPERBLOCK_KIND } from "./superblock-kind.ts";

/** Details of a device that are in memory. */
export interface DeviceEntry {
  details: DeviceDetails;
  changed: boolean;
}

export interface Trees {
  /** device → virtual block → mapping. */
  mappings: BTree<Mapping>;
  /** device → root. */
  roots: BTree<number>;
  /** virtual block → mapping. */
  bottom: BTree<Mapping>;
  details: BTree<DeviceDetails>;
}

/** What a transaction changes. */
export interface PoolState {
  readonly store: Store;
  data: DiskSpaceMap;
  trees: Trees;
  /** Fields as the next commit writes them. */
  superblock: ThinSuperblock;
  mappingRoot: number;
  detailsRoot: number;
  devices: Map<number, DeviceEntry>;
}

/** A run of virtual blocks mapped to consecutive data blocks, all shared or all not. */
export interface MappedRange {
  begin: number;
  length: number;
  data: number;
  isShared: boolean;
}

/** [begin, end) of device `id`. */
export interface VirtualRange {
  id: number;
  begin: number;
  end: number;
}

const NO_ROOT = { blockCount: 0, allocatedCount: 0, bitmapRoot: 0, overflowRoot: 0 };

export function makeTrees(store: Store, data: DiskSpaceMap): Trees {
  const type = mappingType(data);
  const bottom = new BTree(store, { type, name: "mappings" });
  return {
    mappings: new BTree(store, { type, levels: 2, name: "mapping tree" }),
    roots: new BTree(store, { type: deviceRootType(store, bottom), name: "devices" }),
    bottom,
    details: new BTree(store, { type: { codec: deviceDetails }, name: "device details" }),
  };
}

export function mismatch(
  message: string,
  field: string,
  { expected, actual }: { expected: unknown; actual: unknown },
): VdoError {
  return new VdoError("VDO_THIN_MISMATCH", message, { field, expected, actual });
}

export function notFound(id: number): VdoError {
  return new VdoError("VDO_THIN_NOT_FOUND", `there is no thin device ${id}: create it with create_thin ${id}`, {
    device: id,
  });
}

function exists(id: number): VdoError {
  return new VdoError("VDO_THIN_EXISTS", `thin device ${id} exists already: choose another id`, { device: id });
}

export function* findDevice(state: PoolState, id: number): Steps<DeviceEntry | undefined> {
  const known = state.devices.get(id);
  if (known !== undefined) return known;
  const details = yield* state.trees.details.lookup(state.detailsRoot, [id]);
  if (details === undefined) return undefined;
  const entry = state.devices.get(id) ?? { details, changed: false };
  state.devices.set(id, entry);
  return entry;
}

export function* mustFindDevice(state: PoolState, id: number): Steps<DeviceEntry> {
  const entry = yield* findDevice(state, id);
  if (entry === undefined) throw notFound(id);
  return entry;
}

function* deviceRoot(state: PoolState, id: number): Steps<number> {
  const root = yield* state.trees.roots.lookup(state.mappingRoot, [id]);
  if (root === undefined) throw notFound(id);
  return root;
}

export function* createThin(state: PoolState, id: number): Steps<void> {
  if ((yield* findDevice(state, id)) !== undefined) throw exists(id);
  const leaf = yield* state.trees.bottom.empty();
  ({ root: state.mappingRoot } = yield* state.trees.roots.insert(state.mappingRoot, [id], leaf));
  const { time, transactionId } = state.superblock;
  const details = { mappedBlocks: 0, transactionId, creationTime: time, snapshottedTime: time };
  state.devices.set(id, { details, changed: true });
}

export function* createSnapshot(state: PoolState, id: number, origin: number): Steps<void> {
  if ((yield* findDevice(state, id)) !== undefined) throw exists(id);
  const root = yield* deviceRoot(state, origin);
  const from = yield* mustFindDevice(state, origin);
  yield* state.store.increment(root, root + 1);
  ({ root: state.mappingRoot } = yield* state.trees.roots.insert(state.mappingRoot, [id], root));
  const time = state.superblock.time + 1;
  state.superblock.time = time;
  const { transactionId } = state.superblock;
  const { mappedBlocks } = from.details;
  const details = { mappedBlocks, transactionId, creationTime: time, snapshottedTime: time };
  state.devices.set(id, { details, changed: true });
  from.details.snapshottedTime = time;
  from.changed = true;
}

export function* deleteDevice(state: PoolState, id: number): Steps<void> {
  yield* mustFindDevice(state, id);
  state.devices.delete(id);
  ({ root: state.detailsRoot } = yield* state.trees.details.remove(state.detailsRoot, [id]));
  ({ root: state.mappingRoot } = yield* state.trees.roots.remove(state.mappingRoot, [id]));
}

/** Allocates until `blocks` holds `count`, or nothing is free. */
export function* allocateData(state: PoolState, blocks: number[], count: number): Steps<void> {
  while (blocks.length < count) {
    const block = yield* state.data.allocate();
    if (block === undefined) return;
    blocks.push(block);
  }
}

export function* insertMappings(
  state: PoolState,
  id: number,
  pairs: readonly (readonly [virtual: number, data: number])[],
): Steps<void> {
  const entry = yield* mustFindDevice(state, id);
  for (const [virtual, block] of pairs) {
    const value = { block, time: state.superblock.time };
    const { root, inserted } = yield* state.trees.mappings.insert(state.mappingRoot, [id, virtual], value);
    state.mappingRoot = root;
    entry.changed = true;
    if (inserted) entry.details.mappedBlocks++;
  }
}

/** The first mapped run in the range, or undefined. */
export function* mappedRange(state: PoolState, { id, begin, end }: VirtualRange): Steps<MappedRange | undefined> {
  const { snapshottedTime } = (yield* mustFindDevice(state, id)).details;
  const cursor = state.trees.bottom.cursor(yield* deviceRoot(state, id));
  if (!(yield* cursor.seek(begin)) || cursor.key >= end) return undefined;
  const { block, time } = cursor.value;
  const range = { begin: cursor.key, length: 1, data: block, isShared: time < snapshottedTime };
  while (range.begin + range.length < end && (cursor.nextInLeaf() || (yield* cursor.next()))) {
    const next = cursor.value;
    if (cursor.key !== range.begin + range.length || next.block !== range.data + range.length) break;
    if (next.time < snapshottedTime !== range.isShared) break;
    range.length++;
  }
  return range;
}

export function* removeMappings(state: PoolState, { id, begin, end }: VirtualRange): Steps<void> {
  const { roots, bottom } = state.trees;
  const entry = yield* mustFindDevice(state, id);
  let root: number = yield* deviceRoot(state, id);
  // Out of the top level the tree would be dropped: one more reference keeps it.
  yield* state.store.increment(root, root + 1);
  ({ root: state.mappingRoot } = yield* roots.remove(state.mappingRoot, [id]));
  let next = begin;
  while (next < end) {
    const found = yield* bottom.lookupNext(root, [next]);
    if (found === undefined || found.key >= end) break;
    const run: { root: number; removed: number; next: number } = yield* bottom.removeRun(root, [found.key], end);
    root = run.root;
    next = run.next;
    entry.details.mappedBlocks -= run.removed;
    entry.changed ||= run.removed > 0;
  }
  ({ root: state.mappingRoot } = yield* roots.insert(state.mappingRoot, [id], root));
}

export function* highestMapped(state: PoolState, id: number): Steps<number | undefined> {
  return yield* state.trees.bottom.highest(yield* deviceRoot(state, id));
}

/** Details that changed go into their tree. */
export function* writeDetails(state: PoolState): Steps<void> {
  for (const [id, entry] of state.devices) {
    if (!entry.changed) continue;
    ({ root: state.detailsRoot } = yield* state.trees.details.insert(state.detailsRoot, [id], entry.details));
    entry.changed = false;
  }
}

/** A copy of the superblock that holds both trees. */
export function* holdSnapshot(state: PoolState): Steps<void> {
  const { store, mappingRoot, detailsRoot } = state;
  // The superblock's count is raised and lowered as by a copy-on-write of it: so the same blocks are allocated.
  yield* store.increment(0, 1);
  const copy = yield* store.newBlock(SUPERBLOCK_KIND);
  yield* store.decrement(0, 1);
  const { superblock } = state;
  thinSuperblock.set(copy.view, 0, {
    ...superblock,
    heldRoot: 0,
    dataSpaceMap: NO_ROOT,
    metadataSpaceMap: NO_ROOT,
  });
  yield* store.increment(mappingRoot, mappingRoot + 1);
  yield* store.increment(detailsRoot, detailsRoot + 1);
  superblock.heldRoot = copy.number;
}

/** Lets go of what {@link holdSnapshot} held. */
export function* dropSnapshot(state: PoolState): Steps<void> {
  const held = state.superblock.heldRoot;
  const { view } = yield* state.store.load(held, SUPERBLOCK_KIND, "metadata snapshot");
  const mappingRoot = thinSuperblock.at.mappingRoot.get(view, 0);
  const detailsRoot = thinSuperblock.at.detailsRoot.get(view, 0);
  state.superblock.heldRoot = 0;
  yield* state.trees.mappings.drop(mappingRoot);
  yield* state.trees.details.drop(detailsRoot);
  yield* state.store.decrement(held, held + 1);
}
