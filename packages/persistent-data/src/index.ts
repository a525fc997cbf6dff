export { Bitset } from "./array/bitset.ts";
export { PersistentArray, type ValuePlace } from "./array/persistent-array.ts";
export { BTree, type BTreeOptions, NOT_CACHED, type RangeOptions } from "./btree/btree.ts";
export type { Cursor } from "./btree/cursor.ts";
export {
  addressType,
  type BlockStore,
  forRuns,
  type Shadow,
  type ValueRun,
  type ValueType,
} from "./btree/tree-context.ts";
export type { KeyRange, TreeVisitor } from "./btree/walk.ts";
export { ARRAY_KIND } from "./format/array-block.ts";
export { BITMAP_KIND, ENTRIES_PER_BITMAP, INDEX_KIND, METADATA_BLOCKS_MAX } from "./format/bitmap.ts";
export { NODE_KIND, nodeCapacity } from "./format/node.ts";
export { SPACE_MAP_ROOT_BYTES, spaceMapRoot } from "./format/space-map-root.ts";
export { DiskSpaceMap } from "./space-map/disk-space-map.ts";
export { BLOCK_BYTES, Block, type BlockKind, blockChecksum, sealBlock, validateBlock } from "./store/block.ts";
export type { TrafficCounters } from "./store/block-manager.ts";
export { drive, type Provide, SAFE_POINT, type Steps } from "./store/steps.ts";
export { Store, type StoreOptions, type SuperblockFormat } from "./store/store.ts";
