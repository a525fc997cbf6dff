/** Where a space map keeps the addresses of its bitmaps: in one block (metadata kind) or in a tree (disk kind). */
import { type Field, setU64 } from "@vdo/base";
import { BTree } from "../btree/btree.ts";
import type { BlockStore } from "../btree/tree-context.ts";
import { corrupt } from "../errors.ts";
import { INDEX_KIND, indexBlockHeader, indexEntry, METADATA_BITMAPS_MAX } from "../format/bitmap.ts";
import type { Steps } from "../store/steps.ts";

/** One bitmap's place and hints. */
export interface IndexEntry {
  blockNumber: number;
  freeCount: number;
  noneFreeBefore: number;
}

/** `get` returns an entry that the caller may change and must then hand to `set`. */
export interface BitmapIndex {
  readonly bitmapsMax: number;
  /** Root as of the last `commit`. */
  readonly root: number;
  get(bitmap: number): Steps<IndexEntry>;
  /** Without waiting; undefined if something must be read. */
  cached(bitmap: number): IndexEntry | undefined;
  set(bitmap: number, entry: IndexEntry): Steps<void>;
  /** Makes `root` hold all entries. */
  commit(): Steps<void>;
  /** The same index, unaffected by later changes of this one. */
  copy(): BitmapIndex;
}

/** All entries in memory; on disk one block. */
export class MetadataIndex implements BitmapIndex {
  readonly bitmapsMax = METADATA_BITMAPS_MAX;
  root: number;
  readonly #store: BlockStore;
  readonly #entries: IndexEntry[];

  constructor(store: BlockStore, root: number, entries: IndexEntry[] = []) {
    this.#store = store;
    this.root = root;
    this.#entries = entries;
  }

  /** Reads `count` entries of the index block. */
  static *load(store: BlockStore, root: number, count: number): Steps<MetadataIndex> {
    const block = yield* store.load(root, INDEX_KIND, "metadata space map");
    const entries: IndexEntry[] = [];
    for (let i = 0; i < count; i++) {
      entries.push(indexEntry.get(block.view, indexBlockHeader.size + i * indexEntry.size));
    }
    return new MetadataIndex(store, root, entries);
  }

  // biome-ignore lint/correctness/useYield: the entries are in memory; the disk kind has to read.
  *get(bitmap: number): Steps<IndexEntry> {
    return this.#entries[bitmap] as IndexEntry;
  }

  cached(bitmap: number): IndexEntry | undefined {
    return this.#entries[bitmap];
  }

  // biome-ignore lint/correctness/useYield: as above.
  *set(bitmap: number, entry: IndexEntry): Steps<void> {
    this.#entries[bitmap] = entry;
  }

  *commit(): Steps<void> {
    // Shadowing may change counts and so entries: all that is done before the copy.
    const { block } = yield* this.#store.shadow(this.root, INDEX_KIND, "metadata space map");
    this.root = block.number;
    this.#entries.forEach((entry, i) => {
      const at = indexBlockHeader.size + i * indexEntry.size;
      setU64(block.view, at, entry.blockNumber, true);
      block.view.setUint32(at + 8, entry.freeCount, true);
      block.view.setUint32(at + 12, entry.noneFreeBefore, true);
    });
  }

  copy(): MetadataIndex {
    const entries = this.#entries.map((entry) => ({ ...entry }));
    return new MetadataIndex(this.#store, this.root, entries);
  }
}

/** Slots of the cache of entries in front of the tree; the figure and the hash are the kernel's, and fix the order of writes. */
const CACHE_SLOTS = 64;

interface CacheSlot {
  bitmap: number;
  entry: IndexEntry;
  dirty: boolean;
}

/** A tree from bitmap number to entry, with a small write-back cache. */
export class DiskIndex implements BitmapIndex {
  readonly bitmapsMax = Number.MAX_SAFE_INTEGER;
  root: number;
  readonly #store: BlockStore;
  readonly #tree: BTree<IndexEntry>;
  readonly #slots: (CacheSlot | undefined)[] = new Array<CacheSlot | undefined>(CACHE_SLOTS).fill(undefined);
  readonly #name: string;

  constructor(store: BlockStore, root: number, name: string) {
    this.#store = store;
    this.#name = name;
    this.root = root;
    this.#tree = new BTree(store, { type: { codec: indexEntry as Field<IndexEntry> }, name: `${name}, index` });
  }

  static *create(store: BlockStore, name: string): Steps<DiskIndex> {
    const index = new DiskIndex(store, 0, name);
    index.root = yield* index.#tree.empty();
    return index;
  }

  *get(bitmap: number): Steps<IndexEntry> {
    const held = this.cached(bitmap);
    if (held !== undefined) return held;
    const slot = slotOf(bitmap);
    yield* this.#writeBack(slot);
    const entry = yield* this.#tree.lookup(this.root, [bitmap]);
    if (entry === undefined) {
      throw corrupt(`${this.#name}, index`, `entry ${bitmap}`, { expected: "present", actual: "missing" });
    }
    this.#slots[slot] = { bitmap, entry, dirty: false };
    return entry;
  }

  cached(bitmap: number): IndexEntry | undefined {
    const held = this.#slots[slotOf(bitmap)];
    return held?.bitmap === bitmap ? held.entry : undefined;
  }

  *set(bitmap: number, entry: IndexEntry): Steps<void> {
    const slot = slotOf(bitmap);
    const held = this.#slots[slot];
    if (held !== undefined && held.bitmap === bitmap) {
      held.entry = entry;
      held.dirty = true;
      return;
    }
    yield* this.#writeBack(slot);
    this.#slots[slot] = { bitmap, entry, dirty: true };
  }

  *commit(): Steps<void> {
    for (let slot = 0; slot < CACHE_SLOTS; slot++) yield* this.#writeBack(slot);
  }

  copy(): DiskIndex {
    const index = new DiskIndex(this.#store, this.root, this.#name);
    this.#slots.forEach((held, i) => {
      if (held !== undefined) index.#slots[i] = { ...held, entry: { ...held.entry } };
    });
    return index;
  }

  *#writeBack(slot: number): Steps<void> {
    const held = this.#slots[slot];
    if (held === undefined || !held.dirty) return;
    this.root = (yield* this.#tree.insert(this.root, [held.bitmap], held.entry)).root;
    held.dirty = false;
  }
}

/** The kernel's hash of 32-bit arithmetic, as a slot. */
function slotOf(bitmap: number): number {
  return Math.imul(-5, bitmap) & (CACHE_SLOTS - 1);
}
