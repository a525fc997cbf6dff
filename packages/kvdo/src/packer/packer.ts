/**
 * The packer: gathers compressed blocks in bins until they fill a physical block (Linux 6.12).
 *
 * Bins are kept in ascending order of free space. A fragment goes into the fullest bin that has room; where none has, the
 * fullest bin is written out, unless the fragment is larger than what that bin holds. A bin is emptied from its end: the
 * fragment that came last is slot 0, and its vio's allocation becomes the compressed block. There is no timer: fragments
 * leave when a bin fills, at a flush, when somebody needs their vio, or when compression is switched off.
 */
import { BLOCK_SIZE, COMPRESSED_BLOCK_DATA_SIZE, COMPRESSED_BLOCK_SLOTS, PACKER_BINS } from "../constants.ts";
import { type DataVio, STAGE_PACKING, STAGE_POST_PACKER, type VioStep } from "../data-path/data-vio.ts";
import { setFragmentSize, startCompressedBlock } from "../format/index.ts";
import type { VdoStatistics } from "../statistics/index.ts";

const COMPRESSED_DATA_AT = BLOCK_SIZE - COMPRESSED_BLOCK_DATA_SIZE;

export class PackerBin {
  readonly vios: DataVio[] = [];
  free = COMPRESSED_BLOCK_DATA_SIZE;
}

export interface PackerActions {
  /** Write this vio's block uncompressed. */
  writePlain: VioStep;
  /** Write `vio.ioBytes`, a compressed block of the fragments of `vio.packed`, to the vio's allocation. */
  writePacked: VioStep;
}

export class Packer {
  readonly #statistics: VdoStatistics;
  readonly #actions: PackerActions;
  readonly #bins: PackerBin[] = Array.from({ length: PACKER_BINS }, () => new PackerBin());
  readonly #blocks: Buffer[] = [];
  #generation = 0;
  #isOpen = true;

  constructor(statistics: VdoStatistics, actions: PackerActions) {
    this.#statistics = statistics;
    this.#actions = actions;
  }

  /** Adds the fragment of `vio` (`scratch`, `compressedSize` bytes); it may be written at once, packed or plain. */
  add(vio: DataVio): void {
    const size = vio.compressedSize;
    const { packer } = this.#statistics;
    packer.compressedFragmentsInPacker++;
    const bin = this.#chooseBin(size);
    if (!this.#isOpen || vio.generation < this.#generation || bin === null || vio.mayNotCompress) {
      this.#abort(vio);
      return;
    }
    vio.stage = STAGE_PACKING;
    if (bin.free < size) this.#writeOut(bin);
    bin.vios.push(vio);
    bin.free -= size;
    vio.bin = bin;
    if (bin.vios.length === COMPRESSED_BLOCK_SLOTS || bin.free === 0) this.#writeOut(bin);
    this.#sort(bin);
  }

  #chooseBin(size: number): PackerBin | null {
    for (const bin of this.#bins) if (bin.free >= size) return bin;
    const fullest = this.#bins[0] as PackerBin;
    return size >= COMPRESSED_BLOCK_DATA_SIZE - fullest.free ? null : fullest;
  }

  /** Moves `bin` to its place in the order of free space, behind those with as much. */
  #sort(bin: PackerBin): void {
    const bins = this.#bins;
    let at = bins.indexOf(bin);
    for (; at > 0 && (bins[at - 1] as PackerBin).free > bin.free; at--) bins[at] = bins[at - 1] as PackerBin;
    for (; at < bins.length - 1 && (bins[at + 1] as PackerBin).free <= bin.free; at++)
      bins[at] = bins[at + 1] as PackerBin;
    bins[at] = bin;
  }

  #leave(vio: DataVio): void {
    vio.stage = STAGE_POST_PACKER;
    vio.bin = null;
    vio.mayNotCompress = true;
  }

  #abort(vio: DataVio): void {
    this.#statistics.packer.compressedFragmentsInPacker--;
    this.#leave(vio);
    this.#actions.writePlain(vio);
  }

  #writeOut(bin: PackerBin): void {
    if (bin.vios.length === 0) return;
    const vios = bin.vios.splice(0).reverse();
    bin.free = COMPRESSED_BLOCK_DATA_SIZE;
    for (const vio of vios) this.#leave(vio);
    const writer = vios[0] as DataVio;
    if (vios.length === 1) {
      this.#abort(writer);
      return;
    }
    const block = this.#blocks.pop() ?? Buffer.alloc(BLOCK_SIZE);
    startCompressedBlock(block);
    let at = COMPRESSED_DATA_AT;
    for (let slot = 0; slot < vios.length; slot++) {
      const vio = vios[slot] as DataVio;
      setFragmentSize(block, slot, vio.compressedSize);
      vio.scratch.copy(block, at, 0, vio.compressedSize);
      at += vio.compressedSize;
    }
    block.fill(0, at);
    const { packer } = this.#statistics;
    packer.compressedFragmentsInPacker -= vios.length;
    packer.compressedFragmentsWritten += vios.length;
    packer.compressedBlocksWritten++;
    writer.ioBytes = block;
    writer.packed = vios;
    this.#actions.writePacked(writer);
  }

  /** The compressed block that was `writer.ioBytes` is written: its buffer is used again. */
  recycle(block: Buffer): void {
    if (this.#blocks.length < PACKER_BINS) this.#blocks.push(block);
  }

  /** Takes one vio out, to be written plainly: somebody waits for it. */
  remove(vio: DataVio): void {
    const bin = vio.bin;
    if (bin === null) return;
    const last = bin.vios.pop() as DataVio;
    if (last !== vio) bin.vios[bin.vios.indexOf(vio)] = last;
    bin.free += vio.compressedSize;
    this.#sort(bin);
    this.#abort(vio);
  }

  /** Writes out all bins; vios of generations before `generation` that come later are not parked any more. */
  flush(generation: number): void {
    this.#generation = generation;
    for (const bin of [...this.#bins]) {
      this.#writeOut(bin);
    }
    this.#bins.sort((a, b) => a.free - b.free);
  }

  /** Opens or closes the packer; a closed one writes everything plainly. */
  setOpen(isOpen: boolean): void {
    this.#isOpen = isOpen;
    if (!isOpen) this.flush(this.#generation);
  }
}
