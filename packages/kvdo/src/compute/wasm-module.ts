/** Compiled WebAssembly, embedded or from an installed package. (The type definitions of the runtime do not cover it.) */

type WasmFunction = (...values: (number | bigint)[]) => number;

export interface WasmMemory {
  /** Replaced by another buffer when the memory grows. */
  readonly buffer: ArrayBuffer;
}

export interface WasmExports {
  readonly memory: WasmMemory;
  readonly [name: string]: WasmFunction | WasmMemory;
}

export interface WasmModule {
  instantiate(imports?: Record<string, Record<string, (...values: number[]) => number>>): WasmExports;
}

interface Runtime {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: WasmExports };
}

/** Compiles `bytes` at once: a few kilobytes take about a millisecond. */
export function compileWasm(bytes: Uint8Array): WasmModule {
  const { Module, Instance } = (globalThis as unknown as { WebAssembly: Runtime }).WebAssembly;
  const module = new Module(bytes);
  return { instantiate: (imports = {}) => new Instance(module, imports).exports };
}

/** Compiles bytes that are embedded as base64. */
export function compileEmbedded(base64: string): WasmModule {
  return compileWasm(Buffer.from(base64, "base64"));
}
