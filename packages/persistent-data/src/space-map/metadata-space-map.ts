/**
 * The space map of the metadata blocks, which lives in metadata blocks itself.
 *
 * Changing a count shadows a bitmap, which allocates a block and frees one, which changes two more counts. So while a change
 * is being applied, further ones wait in a queue and are applied after it, and questions about counts take the queue into
 * account. It ends because nothing is shadowed twice in a transaction. (Linux 6.12, dm-space-map-metadata.)
 */
import { VdoError } from "@vdo/base";
import { newLeaf } from "../btree/insert.ts";
import type { BlockStore } from "../btree/tree-context.ts";
import { corrupt } from "../errors.ts";
import { INDEX_KIND, METADATA_BLOCKS_MAX, OVERFLOW_COUNT } from "../format/bitmap.ts";
import { spaceMapRoot } from "../format/space-map-root.ts";
import type { Steps } from "../store/steps.ts";
import { MetadataIndex } from "./bitmap-index.ts";
import { bitmapCount, CountMap } from "./count-map.ts";

const NAME = "metadata space map";
/** More changes waiting than this are a sign of a bug: four were the most ever seen. */
const QUEUE_MAX = 1024;

interface QueuedChange {
  by: 1 | -1;
  begin: number;
  end: number;
}

export class MetadataSpaceMap {
  #current: CountMap;
  #committed: CountMap;
  #depth = 0;
  #queue: QueuedChange[] = [];
  /** Search begins here: what was handed out is behind it, also while its count still waits in the queue. */
  #rotor = 0;
  #allocatedNow = 0;
  /** While the map is being made or grown: blocks are taken one after the other from the rotor. */
  #bootstrapping = false;
  /** Where bootstrapping runs out of blocks. */
  #end = 0;
  #low: { threshold: number; notify: () => void; previous: number } | undefined;

  private constructor(current: CountMap) {
    this.#current = current;
    this.#committed = current.copy();
  }

  /** Makes a map for a device of `deviceBlocks` blocks, the part from 16 GiB on unused. */
  static *create(
    { store, deviceBlocks, superblock }: { store: BlockStore; deviceBlocks: number; superblock: number },
    publish: (map: MetadataSpaceMap) => void,
  ): Steps<void> {
    const blockCount = Math.min(deviceBlocks, METADATA_BLOCKS_MAX);
    const parts = { store, blockCount: 0, allocatedCount: 0, name: NAME };
    const empty = new CountMap({ ...parts, index: new MetadataIndex(store, 0), overflowRoot: 0 });
    const map = new MetadataSpaceMap(empty);
    map.#bootstrapping = true;
    map.#rotor = superblock + 1;
    map.#end = blockCount;
    publish(map);
    const indexBlock = yield* store.newBlock(INDEX_KIND);
    const overflowRoot = yield* newLeaf(store, 4);
    map.#current = new CountMap({ ...parts, index: new MetadataIndex(store, indexBlock.number), overflowRoot });
    yield* map.#current.extend(blockCount);
    map.#bootstrapping = false;
    map.#queue.push({ by: 1, begin: superblock, end: map.#rotor });
    yield* map.#drainAll();
    yield* map.commit();
  }

  /** Opens the map whose root record is at `at`. */
  static *open(
    store: BlockStore,
    { view, at }: { view: DataView; at: number },
    publish: (map: MetadataSpaceMap) => void,
  ): Steps<void> {
    const root = spaceMapRoot.get(view, at);
    if (root.blockCount === 0 || root.blockCount > METADATA_BLOCKS_MAX) {
      throw corrupt(NAME, "block count", { expected: `1 to ${METADATA_BLOCKS_MAX}`, actual: root.blockCount });
    }
    for (const [field, number] of [
      ["bitmap root", root.bitmapRoot],
      ["overflow root", root.overflowRoot],
    ] as const) {
      if (number === 0 || number >= root.blockCount) {
        throw corrupt(NAME, field, { expected: `1 to ${root.blockCount - 1}`, actual: number });
      }
    }
    const index = yield* MetadataIndex.load(store, root.bitmapRoot, bitmapCount(root.blockCount));
    publish(new MetadataSpaceMap(new CountMap({ ...root, store, index, name: NAME })));
  }

  /** Blocks managed. */
  get blockCount(): number {
    return this.#bootstrapping ? Math.max(this.#end, this.#current.blockCount) : this.#current.blockCount;
  }

  /** Blocks that can still be allocated in this transaction. Blocks freed in it do not count. */
  get freeCount(): number {
    return this.#committed.blockCount - this.#committed.allocatedCount - this.#allocatedNow;
  }

  get allocatedCount(): number {
    return this.#current.allocatedCount;
  }

  /** The root record, 32 bytes; true after `commit`. */
  rootRecord(): Uint8Array {
    return this.#current.rootRecord();
  }

  /** Calls `notify` once whenever the free blocks fall to `threshold` or below. */
  onLow(threshold: number, notify: () => void): void {
    this.#low = { threshold, notify, previous: Number.POSITIVE_INFINITY };
  }

  /** Allocates a block; its count is 1. Throws `VDO_NO_SPACE`. */
  *allocate(): Steps<number> {
    if (this.#bootstrapping) {
      if (this.#rotor >= this.#end) throw this.#full();
      return this.#rotor++;
    }
    const { blockCount } = this.#current;
    let block = yield* this.#current.findCommonFree(this.#committed, this.#rotor, blockCount);
    if (block < 0) block = yield* this.#current.findCommonFree(this.#committed, 0, blockCount);
    if (block < 0) throw this.#full();
    this.#rotor = block + 1;
    this.#allocatedNow++;
    yield* this.#change({ by: 1, begin: block, end: block + 1 });
    this.#checkLow();
    return block;
  }

  *increment(begin: number, end: number): Steps<void> {
    yield* this.#change({ by: 1, begin, end });
  }

  *decrement(begin: number, end: number): Steps<void> {
    yield* this.#change({ by: -1, begin, end });
  }

  /** The count, with what waits in the queue. */
  *count(block: number): Steps<number> {
    if (this.#bootstrapping) return block < this.#rotor ? 1 : 0;
    return (yield* this.#current.count(block)) + this.#waiting(block);
  }

  /** Cautious: true too when a count of three or more will have fallen to one when the queue is done. */
  *isShared(block: number): Steps<boolean> {
    if (this.#bootstrapping) return false;
    const waiting = this.#waiting(block);
    if (waiting > 1) return true;
    const pair = yield* this.#current.pair(block);
    return pair === OVERFLOW_COUNT || pair + waiting > 1;
  }

  /** `isShared` without waiting; undefined if something must be read first. */
  isSharedCached(block: number): boolean | undefined {
    if (this.#bootstrapping) return false;
    const waiting = this.#queue.length === 0 ? 0 : this.#waiting(block);
    if (waiting > 1) return true;
    const pair = this.#current.cachedPair(block);
    return pair < 0 ? undefined : pair === OVERFLOW_COUNT || pair + waiting > 1;
  }

  /** Describes `extra` more blocks: everything that this needs is taken from them. Commit afterwards. */
  *extend(extra: number): Steps<void> {
    let mark = this.#current.blockCount;
    this.#rotor = mark;
    this.#end = mark + extra;
    this.#bootstrapping = true;
    yield* this.#current.extend(extra);
    do {
      this.#queue.push({ by: 1, begin: mark, end: this.#rotor });
      mark = this.#rotor;
      yield* this.#drainAll();
      yield* this.#current.commit();
    } while (mark !== this.#rotor);
    this.#bootstrapping = false;
  }

  /** Makes `rootRecord` true and the present state the one that allocation spares. */
  *commit(): Steps<void> {
    yield* this.#current.commit();
    this.#committed = this.#current.copy();
    this.#allocatedNow = 0;
  }

  *#change(change: QueuedChange): Steps<void> {
    if (this.#depth > 0 || this.#bootstrapping) {
      this.#queue.push(change);
      if (this.#queue.length <= QUEUE_MAX) return;
      throw new VdoError("VDO_INVARIANT", `bug: more than ${QUEUE_MAX} changes of the ${NAME} wait`, {});
    }
    this.#depth++;
    yield* this.#apply(change);
    yield* this.#drain();
    this.#depth--;
  }

  *#apply({ by, begin, end }: QueuedChange): Steps<void> {
    if (by === 1) yield* this.#current.increment(begin, end);
    else yield* this.#current.decrement(begin, end);
  }

  /** Applies what waits. A change stays in the queue while it is applied: the counts of others depend on it. */
  *#drain(): Steps<void> {
    for (let change = this.#queue[0]; change !== undefined; change = this.#queue[0]) {
      yield* this.#apply(change);
      this.#queue.shift();
    }
  }

  /** Applies what waits, as a change of its own. */
  *#drainAll(): Steps<void> {
    this.#depth++;
    yield* this.#drain();
    this.#depth--;
  }

  #waiting(block: number): number {
    let sum = 0;
    for (const { by, begin, end } of this.#queue) if (block >= begin && block < end) sum += by;
    return sum;
  }

  #checkLow(): void {
    const low = this.#low;
    if (low === undefined) return;
    const free = this.freeCount;
    const wasHigh = low.previous > low.threshold;
    low.previous = free;
    if (free <= low.threshold && wasHigh) low.notify();
  }

  #full(): VdoError<"VDO_NO_SPACE"> {
    const text = `${NAME}: no free block is left of ${this.blockCount}; abort, then grow the metadata device`;
    return new VdoError("VDO_NO_SPACE", text, { blocksFree: 0 });
  }
}
