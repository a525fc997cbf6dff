/**
 * Record names: MurmurHash3 x64-128 of 4096 bytes, seed 0x62ea60be, in WebAssembly.
 *
 * Blocks are copied into the hasher's slots and hashed in batches; two at a time go side by side, so a batch of two or more
 * costs little more than half as much per block as a single one.
 */
import { invariant } from "@vdo/base";
import { BLOCK_SIZE, RECORD_NAME_SEED, RECORD_NAME_SIZE } from "../constants.ts";
import { MURMUR3_WASM } from "./wasm/murmur3.ts";
import { compileEmbedded, type WasmModule } from "./wasm-module.ts";

/** Slots of a hasher: 1 MiB of blocks. */
export const HASH_BATCH_MAX = 256;
/** Where the WebAssembly puts the names. */
const NAMES_AT = HASH_BATCH_MAX * BLOCK_SIZE;

let compiled: WasmModule | undefined;

/**
 * Each hasher has memory of its own, 1.06 MiB. Not for use by two threads.
 *
 * @example
 * hasher.slot(0).set(first);
 * hasher.slot(1).set(second);
 * hasher.run(2);
 * hasher.name(0); // 16 bytes, until the next run
 */
export class BlockHasher {
  readonly #hash: (count: number, seed: bigint) => number;
  readonly #seed: bigint;
  readonly #slots: readonly Uint8Array[];
  readonly #names: readonly Uint8Array[];

  constructor({ seed = RECORD_NAME_SEED }: { seed?: number } = {}) {
    compiled ??= compileEmbedded(MURMUR3_WASM);
    const { memory, hash } = compiled.instantiate();
    this.#hash = hash as (count: number, seed: bigint) => number;
    this.#seed = BigInt(seed);
    const all = (at: number, size: number): Uint8Array[] =>
      Array.from({ length: HASH_BATCH_MAX }, (_, i) => new Uint8Array(memory.buffer, at + i * size, size));
    this.#slots = all(0, BLOCK_SIZE);
    this.#names = all(NAMES_AT, RECORD_NAME_SIZE);
  }

  /** The 4096 bytes of slot `index` (0 to 255): copy a block into them. */
  slot(index: number): Uint8Array {
    return this.#slots[index]!;
  }

  /** Hashes slots 0 to `count` - 1. `count` is 0 to 256. */
  run(count: number): void {
    invariant(count <= HASH_BATCH_MAX, "a batch has at most as many blocks as the hasher has slots");
    this.#hash(count, this.#seed);
  }

  /** The 16-byte name of slot `index`; overwritten by the next run. */
  name(index: number): Uint8Array {
    return this.#names[index]!;
  }

  /** Copies the name of slot `index` to `names` at byte `nameAt`. */
  copyName(index: number, names: Uint8Array, nameAt: number): void {
    const name = this.#names[index]!;
    for (let i = 0; i < RECORD_NAME_SIZE; i++) names[nameAt + i] = name[i]!;
  }

  /** Hashes the 4096 bytes of `source` from byte `at`; the name goes to `names` at byte `nameAt`. Uses slot 0. */
  hash(source: Uint8Array, at: number, names: Uint8Array, nameAt: number): void {
    const block = at === 0 && source.length === BLOCK_SIZE ? source : source.subarray(at, at + BLOCK_SIZE);
    this.#slots[0]!.set(block);
    this.#hash(1, this.#seed);
    this.copyName(0, names, nameAt);
  }
}
