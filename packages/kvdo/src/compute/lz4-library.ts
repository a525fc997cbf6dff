/**
 * The compressor of the `lz4-wasm` package, called through its WebAssembly exports: its JavaScript needs a bundler, and
 * copies more than once.
 *
 * The calling convention is the package's (version 0.9): the input lies in memory that the library takes over and frees;
 * the result, four bytes of length and then a raw LZ4 block, lies in memory that the caller frees; where it lies is
 * written to a place on the library's stack.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { invariant } from "@vdo/base";
import { compileWasm, type WasmExports, type WasmModule } from "./wasm-module.ts";

const PREFIX_SIZE = 4;

let compiled: WasmModule | undefined;

function library(): WasmModule {
  if (compiled !== undefined) return compiled;
  const folder = dirname(createRequire(import.meta.url).resolve("lz4-wasm/package.json"));
  compiled = compileWasm(readFileSync(join(folder, "lz4_wasm_bg.wasm")));
  return compiled;
}

export class Lz4Library {
  #exports: WasmExports | undefined;
  #allocate!: (size: number) => number;
  #free!: (at: number, size: number) => number;
  #compress!: (result: number, at: number, size: number) => number;
  #bytes = new Uint8Array(0);
  #words = new Uint32Array(0);
  /** Word on the library's stack where a call leaves its result. */
  #resultWord = 0;

  /** Makes a fresh instance: at first use, and after one failed in the middle of a call. */
  #instantiate(): void {
    const exports = library().instantiate({
      // Called for the text of a decompression error only, which is not used here.
      "./lz4_wasm_bg.js": { __wbindgen_string_new: () => 0 },
    });
    const call = (name: string) => exports[name] as (...values: number[]) => number;
    this.#allocate = call("__wbindgen_malloc");
    this.#free = call("__wbindgen_free");
    this.#compress = call("compress");
    this.#resultWord = call("__wbindgen_add_to_stack_pointer")(-16) / 4;
    this.#exports = exports;
    this.#refresh();
  }

  /** Views become empty when the memory grows. */
  #refresh(): void {
    const buffer = this.#exports!.memory.buffer;
    if (this.#bytes.buffer === buffer) return;
    this.#bytes = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
  }

  /**
   * Compresses `source` into a raw LZ4 block at byte `at` of `target` and returns its size; 0, with nothing written, when
   * it is larger than `limit`.
   */
  compress(source: Uint8Array, target: Uint8Array, at: number, limit: number): number {
    if (this.#exports === undefined) this.#instantiate();
    try {
      const input = this.#allocate(source.length);
      this.#refresh();
      this.#bytes.set(source, input);
      this.#compress(this.#resultWord * 4, input, source.length);
      this.#refresh();
    } catch (error) {
      this.#exports = undefined;
      throw error;
    }
    const result = this.#words[this.#resultWord]!;
    const total = this.#words[this.#resultWord + 1]!;
    const size = total - PREFIX_SIZE;
    invariant(size > 0, "the compressor gives a length and a block");
    if (size > limit) {
      this.#free(result, total);
      return 0;
    }
    target.set(this.#bytes.subarray(result + PREFIX_SIZE, result + total), at);
    this.#free(result, total);
    return size;
  }
}
