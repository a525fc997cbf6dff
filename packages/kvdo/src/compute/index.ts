/** Arithmetic on the bytes of blocks: names, compression, comparison. */
export { equalBlocks, isZeroBlock } from "./block-compare.ts";
export { BlockCompressor } from "./block-compressor.ts";
export { BlockHasher, HASH_BATCH_MAX } from "./block-hasher.ts";
