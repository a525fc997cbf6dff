/**
 * What a volume would save on given data, through the same hash, index, compressor and packing rules that a volume uses, in
 * memory that is fixed when it begins. Not modelled: that one block is shared at most 254 times, and that hashes are believed
 * only after a comparison.
 */
import { invariant, isZero } from "@vdo/base";
import { UdsIndex, type UdsIndexOptions } from "@vdo/uds";
import { BlockCompressor, BlockHasher, HASH_BATCH_MAX } from "../compute/index.ts";
import { BLOCK_SIZE, RECORD_NAME_SIZE } from "../constants.ts";
import { PackerModel } from "./packer-model.ts";

/** Counts are of blocks of 4096 bytes. */
export interface SavingsEstimate {
  /** Blocks looked at: what a volume counts as logical blocks used. */
  blocks: number;
  zeroBlocks: number;
  /** Blocks that are not zeros and equal to an earlier one that the index still knew. */
  duplicateBlocks: number;
  /** Blocks that share a block with others when compressed, and the blocks that they share. */
  compressedFragments: number;
  compressedBlocks: number;
  /** Blocks that the data takes on a volume. */
  dataBlocks: number;
}

export interface EstimatorOptions extends Pick<UdsIndexOptions, "memory" | "sparse" | "device"> {
  compression: boolean;
  deduplication: boolean;
}

export class SavingsEstimator {
  readonly #hasher = new BlockHasher();
  readonly #compressor = new BlockCompressor();
  readonly #index: UdsIndex | undefined;
  readonly #compression: boolean;
  readonly #packer = new PackerModel();
  readonly #names = new Uint8Array(HASH_BATCH_MAX * RECORD_NAME_SIZE);
  readonly #values = new Uint8Array(HASH_BATCH_MAX * RECORD_NAME_SIZE);
  readonly #fragment = new Uint8Array(2 * BLOCK_SIZE);
  #blocks = 0;
  #zeroBlocks = 0;
  #duplicateBlocks = 0;
  #plainBlocks = 0;

  private constructor(index: UdsIndex | undefined, compression: boolean) {
    this.#index = index;
    this.#compression = compression;
  }

  /** The index is made anew on `device`, or in memory. Throws as `UdsIndex.create` does. */
  static async open({ compression, deduplication, ...index }: EstimatorOptions): Promise<SavingsEstimator> {
    return new SavingsEstimator(deduplication ? await UdsIndex.create(index) : undefined, compression);
  }

  /** Takes the next blocks: a multiple of 4096 bytes. Not to be called again before it resolves. */
  async add(data: Uint8Array): Promise<void> {
    invariant(data.length % BLOCK_SIZE === 0, "an estimate takes whole blocks");
    const batch: Uint8Array[] = [];
    for (let at = 0; at < data.length; at += BLOCK_SIZE) {
      const block = data.subarray(at, at + BLOCK_SIZE);
      this.#blocks++;
      if (isZero(block)) this.#zeroBlocks++;
      else batch.push(block);
      if (batch.length === HASH_BATCH_MAX) await this.#takeBatch(batch.splice(0));
    }
    if (batch.length > 0) await this.#takeBatch(batch);
  }

  async #takeBatch(batch: readonly Uint8Array[]): Promise<void> {
    const found = await this.#lookUp(batch);
    for (const [i, block] of batch.entries()) {
      if (found !== undefined && found[i] === 1) this.#duplicateBlocks++;
      else this.#takeUnique(block);
    }
  }

  /** For each block 1 when the index knew its name; undefined without an index. */
  async #lookUp(batch: readonly Uint8Array[]): Promise<Uint8Array | undefined> {
    if (this.#index === undefined) return undefined;
    for (const [i, block] of batch.entries()) this.#hasher.slot(i).set(block);
    this.#hasher.run(batch.length);
    for (let i = 0; i < batch.length; i++) this.#hasher.copyName(i, this.#names, i * RECORD_NAME_SIZE);
    const bytes = batch.length * RECORD_NAME_SIZE;
    return (await this.#index.postBatch(this.#names.subarray(0, bytes), this.#values.subarray(0, bytes))).found;
  }

  #takeUnique(block: Uint8Array): void {
    const size = this.#compression ? this.#compressor.compress(block, this.#fragment, 0) : 0;
    if (size === 0) this.#plainBlocks++;
    else this.#packer.add(size);
  }

  /** The result; the estimator is closed. */
  async finish(): Promise<SavingsEstimate> {
    await this.#index?.close();
    const packer = this.#packer;
    packer.flush();
    return {
      blocks: this.#blocks,
      zeroBlocks: this.#zeroBlocks,
      duplicateBlocks: this.#duplicateBlocks,
      compressedFragments: packer.fragments,
      compressedBlocks: packer.compressedBlocks,
      dataBlocks: this.#plainBlocks + packer.plainBlocks + packer.compressedBlocks,
    };
  }
}
