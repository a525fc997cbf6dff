/** The rules of the house as data; ARCHITECTURE.md gives the reasons. */

/** Arrows: a package may import these workspace packages and no others. Rooms that do not exist yet are ready. */
export const ARROWS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  "block-device": ["base"],
  nbd: ["block-device", "base"],
  uds: ["block-device", "base"],
  "persistent-data": ["block-device", "base"],
  ploop: ["block-device", "base"],
  kvdo: ["uds", "block-device", "base"],
  thin: ["persistent-data", "block-device", "base"],
  // uds: to count the memory of an index before it is taken.
  manager: ["kvdo", "thin", "ploop", "nbd", "uds", "block-device", "base"],
};

/** Run-time dependencies outside the workspace, of the libraries. manager, apps and tools are free. */
export const OUTSIDE: Readonly<Record<string, readonly string[]>> = {
  base: [],
  "block-device": [],
  nbd: [],
  uds: ["xxhash-wasm"],
  "persistent-data": [],
  ploop: ["fast-xml-parser"],
  kvdo: ["lz4-wasm"],
  thin: ["sax"],
};

/** node: modules of the libraries. What is not here does no I/O of its own. */
export const NODE_MODULES: Readonly<Record<string, readonly string[]>> = {
  base: [],
  "block-device": ["node:fs", "node:fs/promises"],
  nbd: ["node:net", "node:events", "node:fs", "node:fs/promises"],
  uds: [],
  "persistent-data": [],
  // crypto: the checksum of the format extension.
  ploop: ["node:path", "node:fs", "node:fs/promises", "node:crypto"],
  kvdo: ["node:worker_threads"],
  // Digests of streams: a function of its bytes alone.
  thin: ["node:crypto"],
};

/** Files that may use node: modules beyond their package's list, each with its reason. */
export const NODE_FILES: Readonly<Record<string, string>> = {
  "packages/nbd/src/server/busy-poll.ts": "asks for the number of processors",
  "packages/kvdo/src/compute/lz4-library.ts": "reads the WebAssembly module that the lz4-wasm package carries",
  "packages/kvdo/src/admin/format.ts": "draws the uuid and nonce of a new volume that the caller did not choose",
  "packages/block-device/src/testing/requirements.ts": "looks for system programs that tests need",
};

/** Packages whose code has no hidden inputs: clock, timers, randomness and environment come in as arguments. */
export const PURE: readonly string[] = [
  "base",
  "block-device",
  "uds",
  "kvdo",
  "nbd",
  "persistent-data",
  "thin",
  "ploop",
];

/** The places where the outside comes in, each with its reason. */
export const IMPURE_FILES: Readonly<Record<string, string>> = {
  "packages/base/src/clock.ts": "the clock of the machine, which everything else is given as an argument",
  "packages/block-device/src/testing/requirements.ts": "which system programs a test run may use",
};

/**
 * Folders and files on the way of every 4 KiB block or index record: no BigInt there. Formats (cold) may use it for opaque
 * 64-bit fields, so src/format is not in the list.
 */
export const HOT_PATHS: readonly string[] = [
  "packages/nbd/src/server/",
  "packages/uds/src/delta/",
  "packages/uds/src/volume-index.ts",
  "packages/ploop/src/device/",
  "packages/kvdo/src/data-path/",
  "packages/kvdo/src/dedupe/",
  "packages/kvdo/src/packer/",
  "packages/kvdo/src/recovery-journal/",
];

/** Hot-path files that may use BigInt off the hot path, with the reason. */
export const BIGINT_FILES: Readonly<Record<string, string>> = {
  "packages/nbd/src/server/handshake.ts": "the export's size, once a connection",
  "packages/uds/src/delta/delta-code.ts": "the code's parameters, once an index",
};

export const FILE_LINES_MAX = 500;
