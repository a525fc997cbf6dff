/**
 * A space map of the blocks of another device, kept in metadata blocks. (Linux 6.12, dm-space-map-disk.)
 *
 * A block freed in the open transaction is not handed out before the commit: the last committed state may still be what
 * a crash leaves behind.
 */
import { newLeaf } from "../btree/insert.ts";
import type { BlockStore } from "../btree/tree-context.ts";
import { corrupt } from "../errors.ts";
import { SPACE_MAP_ROOT_BYTES, spaceMapRoot } from "../format/space-map-root.ts";
import type { Steps } from "../store/steps.ts";
import { DiskIndex } from "./bitmap-index.ts";
import { CountMap } from "./count-map.ts";

/** What is committed together with the store. */
export interface CommitsWithStore {
  commit(): Steps<void>;
}

/** A store that commits other maps before its own. */
export interface MapHost extends BlockStore {
  enlist(member: CommitsWithStore): void;
}

export class DiskSpaceMap implements CommitsWithStore {
  #current: CountMap;
  #committed: CountMap;
  #rotor = 0;
  /** Net allocations of the open transaction. */
  #taken = 0;

  private constructor(current: CountMap) {
    this.#current = current;
    this.#committed = current.copy();
  }

  /** A new map of `blockCount` blocks, all free. It is committed with the store from now on. */
  static *create(
    store: MapHost,
    { blockCount, name = "disk space map" }: { blockCount: number; name?: string },
  ): Steps<DiskSpaceMap> {
    const index = yield* DiskIndex.create(store, name);
    const overflowRoot = yield* newLeaf(store, 4);
    const counts = new CountMap({ store, index, overflowRoot, name, blockCount: 0, allocatedCount: 0 });
    const map = new DiskSpaceMap(counts);
    yield* map.extend(blockCount);
    yield* map.commit();
    store.enlist(map);
    return map;
  }

  /** The map of a root record (32 bytes or more). Nothing is read yet. Throws `VDO_CORRUPT`. */
  static open(store: MapHost, root: Uint8Array, { name = "disk space map" }: { name?: string } = {}): DiskSpaceMap {
    const { blockCount, allocatedCount, bitmapRoot, overflowRoot } = spaceMapRoot.decode(root);
    for (const [field, number] of [
      ["bitmap root", bitmapRoot],
      ["overflow root", overflowRoot],
    ] as const) {
      if (number === 0 || number >= store.blockCount) {
        throw corrupt(name, field, { expected: `1 to ${store.blockCount - 1}`, actual: number });
      }
    }
    const index = new DiskIndex(store, bitmapRoot, name);
    const map = new DiskSpaceMap(new CountMap({ store, index, blockCount, allocatedCount, overflowRoot, name }));
    store.enlist(map);
    return map;
  }

  /** Blocks described, as committed. */
  get blockCount(): number {
    return this.#committed.blockCount;
  }

  /** Free blocks, those included that were freed in this transaction and can be allocated after the commit only. */
  get freeCount(): number {
    return this.#committed.blockCount - this.#committed.allocatedCount - this.#taken;
  }

  get allocatedCount(): number {
    return this.#current.allocatedCount;
  }

  /** The record to keep in the superblock, 128 bytes of which 32 are used. True after `commit`. */
  rootRecord(): Uint8Array {
    const record = new Uint8Array(SPACE_MAP_ROOT_BYTES);
    record.set(this.#current.rootRecord());
    return record;
  }

  /** A free block, count 1 now; undefined if there is none (after a commit there may be). */
  *allocate(): Steps<number | undefined> {
    const { blockCount } = this.#current;
    let block = yield* this.#current.findCommonFree(this.#committed, this.#rotor, blockCount);
    if (block < 0) block = yield* this.#current.findCommonFree(this.#committed, 0, blockCount);
    if (block < 0) return undefined;
    this.#rotor = block + 1;
    yield* this.increment(block, block + 1);
    return block;
  }

  *count(block: number): Steps<number> {
    return yield* this.#current.count(block);
  }

  *isShared(block: number): Steps<boolean> {
    return (yield* this.#current.count(block)) > 1;
  }

  /** Raises the counts of blocks [begin, end). */
  *increment(begin: number, end: number): Steps<void> {
    this.#taken += yield* this.#current.increment(begin, end);
  }

  /** Lowers the counts of blocks [begin, end). Throws `PD_BAD_COUNT` below zero. */
  *decrement(begin: number, end: number): Steps<void> {
    this.#taken += yield* this.#current.decrement(begin, end);
  }

  /** Sets a count (0 to 2^32 - 1). */
  *set(block: number, count: number): Steps<void> {
    this.#taken += yield* this.#current.set(block, count);
  }

  /** Describes `extra` more blocks; seen after the commit. */
  *extend(extra: number): Steps<void> {
    yield* this.#current.extend(extra);
  }

  /** Called by the store's commit. */
  *commit(): Steps<void> {
    yield* this.#current.commit();
    this.#committed = this.#current.copy();
    this.#taken = 0;
  }
}
