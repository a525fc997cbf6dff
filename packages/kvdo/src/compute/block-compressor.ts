/**
 * Compression of single blocks as raw LZ4, as fragments of compressed blocks hold them.
 *
 * Compressing is the lz4-wasm package's; decoding is our own WebAssembly, which checks every length and distance, so that
 * no bytes, however made, do more than fail.
 */
import { VdoError } from "@vdo/base";
import { BLOCK_SIZE, MAXIMUM_FRAGMENT_SIZE } from "../constants.ts";
import type {} from "../errors.ts";
import { Lz4Library } from "./lz4-library.ts";
import { LZ4_DECODE_WASM } from "./wasm/lz4-decode.ts";
import { compileEmbedded, type WasmModule } from "./wasm-module.ts";

/** Places in the decoder's memory. */
const SOURCE_AT = 0;
const TARGET_AT = 8192;

let compiled: WasmModule | undefined;

export class BlockCompressor {
  readonly #library = new Lz4Library();
  readonly #decode: (size: number) => number;
  readonly #source: Uint8Array;
  readonly #target: Uint8Array;
  readonly #limit: number;

  /** `limit` is the largest size worth keeping: 4059, the largest fragment, by default. */
  constructor({ limit = MAXIMUM_FRAGMENT_SIZE }: { limit?: number } = {}) {
    compiled ??= compileEmbedded(LZ4_DECODE_WASM);
    const { memory, decode } = compiled.instantiate();
    this.#decode = decode as (size: number) => number;
    this.#source = new Uint8Array(memory.buffer, SOURCE_AT, BLOCK_SIZE);
    this.#target = new Uint8Array(memory.buffer, TARGET_AT, BLOCK_SIZE);
    this.#limit = limit;
  }

  /**
   * Compresses the 4096 bytes of `source` to `target` from byte `at`. Returns the number of bytes, or 0 when there would
   * be more than the limit; then nothing is written.
   */
  compress(source: Uint8Array, target: Uint8Array, at: number): number {
    return this.#library.compress(source, target, at, this.#limit);
  }

  /**
   * Decodes `size` bytes of `source` from byte `at` to the 4096 bytes of `target`; false, with `target` unchanged, when
   * they are not one LZ4 block of exactly 4096 bytes.
   */
  tryDecompress(source: Uint8Array, at: number, size: number, target: Uint8Array): boolean {
    if (size <= 0 || size > BLOCK_SIZE || at < 0 || at + size > source.length) return false;
    this.#source.set(source.subarray(at, at + size));
    if (this.#decode(size) === 0) return false;
    target.set(this.#target);
    return true;
  }

  /** As {@link tryDecompress}; throws `VDO_INVALID_FRAGMENT` instead of returning false. `slot` is named in the error. */
  decompress(source: Uint8Array, at: number, size: number, target: Uint8Array, slot = -1): void {
    if (this.tryDecompress(source, at, size, target)) return;
    throw new VdoError(
      "VDO_INVALID_FRAGMENT",
      `a compressed fragment of ${size} bytes at byte ${at} does not decode to a block`,
      { slot, reason: "not an LZ4 block of 4096 bytes" },
    );
  }
}
