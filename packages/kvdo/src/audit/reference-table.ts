/**
 * References as an audit counts them: one byte for each data block of a volume, taken slab by slab when first needed, so
 * that a volume costs a byte for each block of its used slabs.
 */
import type { SlabDepotComponent } from "../format/index.ts";
import { slabCount } from "../format/index.ts";

/** Most references of a data block. */
export const REFERENCES_MAX = 254;
/** The byte of a block that is a page of the block map, and of one with more references than it can have. */
export const TREE_PAGE = 255;

export class ReferenceTable {
  readonly slabs: number;
  readonly dataBlocks: number;
  readonly #firstBlock: number;
  readonly #slabBlocks: number;
  readonly #counts: (Uint8Array | undefined)[];

  constructor(depot: SlabDepotComponent) {
    this.slabs = slabCount(depot);
    this.dataBlocks = depot.slabConfig.dataBlocks;
    this.#firstBlock = depot.firstBlock;
    this.#slabBlocks = depot.slabConfig.slabBlocks;
    this.#counts = Array.from({ length: this.slabs }, () => undefined);
  }

  /** PBN of the first block of slab `slab`. */
  startOf(slab: number): number {
    return this.#firstBlock + slab * this.#slabBlocks;
  }

  /** Number of the slab in which block `pbn` lies; -1 for none. */
  slabOf(pbn: number): number {
    const slab = Math.floor((pbn - this.#firstBlock) / this.#slabBlocks);
    return slab >= 0 && slab < this.slabs ? slab : -1;
  }

  /** True when `pbn` is a block that holds data or block map pages. */
  isDataBlock(pbn: number): boolean {
    const slab = this.slabOf(pbn);
    return slab >= 0 && pbn - this.startOf(slab) < this.dataBlocks;
  }

  /** References of data block `pbn`: 0 to 254, or {@link TREE_PAGE}. */
  get(pbn: number): number {
    const slab = this.slabOf(pbn);
    return this.#counts[slab]?.[pbn - this.startOf(slab)] ?? 0;
  }

  set(pbn: number, count: number): void {
    const slab = this.slabOf(pbn);
    this.#counts[slab] ??= new Uint8Array(this.dataBlocks);
    this.#counts[slab][pbn - this.startOf(slab)] = count;
  }

  /** Counts of a slab; undefined when nothing in it is referenced. */
  ofSlab(slab: number): Uint8Array | undefined {
    return this.#counts[slab];
  }
}
