/**
 * The default record name for standalone use: XXH64 of the block with two seeds, 128 bits.
 *
 * VDO volumes use MurmurHash3-128 instead, as their format demands; an index does not care what a name is made of, but
 * all names of one index must be made the same way.
 */
import xxhash from "xxhash-wasm";

/** Writes the 16-byte name of `block` into `target` (a new array by default) and returns it. */
export type RecordNamer = (block: Uint8Array, target?: Uint8Array) => Uint8Array;

const LOW_SEED = 0n;
/** 2^64 divided by the golden ratio: an arbitrary second seed, part of the names' definition. */
const HIGH_SEED = 0x9e3779b97f4a7c15n;

let loaded: Promise<RecordNamer> | undefined;

/** Loads the hash function once; later calls return the same function. */
export function loadRecordNamer(): Promise<RecordNamer> {
  loaded ??= xxhash().then(({ h64Raw }) => (block, target = new Uint8Array(16)) => {
    const view = new DataView(target.buffer, target.byteOffset, 16);
    view.setBigUint64(0, h64Raw(block, LOW_SEED), false);
    view.setBigUint64(8, h64Raw(block, HIGH_SEED), false);
    return target;
  });
  return loaded;
}
