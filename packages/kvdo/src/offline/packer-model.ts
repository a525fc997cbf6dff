/** How many blocks the packer makes of a stream of fragments, by their sizes alone. Rules as in `packer/packer.ts`. */
import { COMPRESSED_BLOCK_DATA_SIZE, COMPRESSED_BLOCK_SLOTS, PACKER_BINS } from "../constants.ts";

interface Bin {
  free: number;
  fragments: number;
}

export class PackerModel {
  readonly #bins: Bin[] = Array.from({ length: PACKER_BINS }, () => ({
    free: COMPRESSED_BLOCK_DATA_SIZE,
    fragments: 0,
  }));
  /** Blocks written that hold several fragments each. */
  compressedBlocks = 0;
  /** Fragments in those. */
  fragments = 0;
  /** Blocks that compress but found no company. */
  plainBlocks = 0;

  /** A block that was compressed to `size` bytes. */
  add(size: number): void {
    const bin = this.#chooseBin(size);
    if (bin === null) {
      this.plainBlocks++;
      return;
    }
    if (bin.free < size) this.#writeOut(bin);
    bin.free -= size;
    bin.fragments++;
    if (bin.fragments === COMPRESSED_BLOCK_SLOTS || bin.free === 0) this.#writeOut(bin);
    this.#sort(bin);
  }

  #chooseBin(size: number): Bin | null {
    for (const bin of this.#bins) if (bin.free >= size) return bin;
    const fullest = this.#bins[0] as Bin;
    return size >= COMPRESSED_BLOCK_DATA_SIZE - fullest.free ? null : fullest;
  }

  #sort(bin: Bin): void {
    const bins = this.#bins;
    let at = bins.indexOf(bin);
    for (; at > 0 && (bins[at - 1] as Bin).free > bin.free; at--) bins[at] = bins[at - 1] as Bin;
    for (; at < bins.length - 1 && (bins[at + 1] as Bin).free <= bin.free; at++) bins[at] = bins[at + 1] as Bin;
    bins[at] = bin;
  }

  #writeOut(bin: Bin): void {
    if (bin.fragments === 1) this.plainBlocks++;
    else if (bin.fragments > 1) {
      this.compressedBlocks++;
      this.fragments += bin.fragments;
    }
    bin.free = COMPRESSED_BLOCK_DATA_SIZE;
    bin.fragments = 0;
  }

  /** Writes out everything, as a flush does. */
  flush(): void {
    for (const bin of this.#bins) this.#writeOut(bin);
  }
}
