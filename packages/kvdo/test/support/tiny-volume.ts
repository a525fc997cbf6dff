/** Volumes with small slabs and journals, so that a short test goes around every ring and over every threshold. */
export { formatTiny, type TinyOptions, tinyBlocks } from "../../src/testing/index.ts";
