/** A block map page in memory: a leaf in the cache, or a page of a tree. */
import { BLOCK_SIZE } from "../constants.ts";
import { VioQueue } from "../data-path/data-vio.ts";
import { mappingAt, readMappingPbn, readMappingState, writeMapping } from "../format/index.ts";

export const PAGE_FREE = 0;
export const PAGE_LOADING = 1;
export const PAGE_RESIDENT = 2;

export class BlockMapPage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly isLeaf: boolean;
  pbn = 0;
  state: number = PAGE_FREE;
  /** Oldest recovery journal block with a change that is not on the storage; 0 when clean. */
  dirtySequence = 0;
  /** A copy of the page is being written. */
  isWriting = false;
  /** Taken into a batch of writes that has not begun with it. */
  isQueued = false;
  /** Vios that wait until the page is loaded. */
  readonly waiters = new VioQueue();
  /** Vios that wait for a page below this one to be allocated, by slot. Trees only. */
  allocating: Map<number, VioQueue> | null = null;
  // Neighbours in the order of use. Leaves only.
  previous: BlockMapPage | null = null;
  next: BlockMapPage | null = null;

  constructor(isLeaf: boolean, bytes = new Uint8Array(BLOCK_SIZE)) {
    this.isLeaf = isLeaf;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_SIZE);
  }

  mappedPbn(slot: number): number {
    return readMappingPbn(this.bytes, mappingAt(slot));
  }

  mappedState(slot: number): number {
    return readMappingState(this.bytes, mappingAt(slot));
  }

  map(slot: number, pbn: number, state: number): void {
    writeMapping(this.bytes, mappingAt(slot), pbn, state);
  }
}
