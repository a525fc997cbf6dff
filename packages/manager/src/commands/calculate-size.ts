/** `vdo calculateSize`: what a volume of given sizes takes, without a device. */
import { planFormat } from "@vdo/kvdo";
import { indexMemory } from "@vdo/uds";
import type { Engine } from "../engine.ts";
import { humanSize } from "../stats/human-size.ts";

const BLOCK = 4096;
const MIB = 1024 ** 2;
const ENTRIES_PER_PAGE = 812;
const ROOTS = 60;

export interface SizeQuestion {
  /** Bytes. */
  physicalSize: number;
  logicalSize: number;
  slabBits: number;
  /** GiB. */
  indexMemory: number;
  sparse: boolean;
  blockMapCacheBlocks: number;
  humanReadable: boolean;
}

/** Lines of the answer. Throws as `planFormat` does for a volume that cannot be. */
export function sizeLines(question: SizeQuestion, engine: Pick<Engine, "memoryNeeded">): string[] {
  const { physicalSize, logicalSize, slabBits, sparse, blockMapCacheBlocks, humanReadable } = question;
  const size = (bytes: number): string => (humanReadable ? humanSize(bytes, 1024) : `${Math.ceil(bytes / MIB)}`);
  const plan = planFormat(Math.floor(physicalSize / BLOCK), {
    logicalSize,
    slabBits,
    indexMemory: question.indexMemory,
    sparse,
  });
  const { physicalBlocks, logicalBlocks, slabBlocks, slabCount } = plan;
  const index = indexMemory({ memory: question.indexMemory, sparse });
  const need = engine.memoryNeeded({ indexMemory: question.indexMemory, indexSparse: sparse }, { blockMapCacheBlocks });
  const leaves = Math.ceil(logicalBlocks / ENTRIES_PER_PAGE);
  const map = leaves + interiorPages(leaves);
  const window = index.records * BLOCK;
  const sections: readonly (readonly [string, readonly (readonly [string, string | number])[]])[] = [
    [
      "Input parameters",
      [
        ["Physical size", size(physicalSize)],
        ["Logical size", size(logicalBlocks * BLOCK)],
        ["Slab size", size(slabBlocks * BLOCK)],
        ["Index memory size", `${question.indexMemory} GB`],
        ["Sparse index", sparse ? "yes" : "no"],
        ["Block map cache size", size(blockMapCacheBlocks * BLOCK)],
      ],
    ],
    [
      "Storage usage",
      [
        ["Usable size", size(slabCount * slabBlocks * BLOCK)],
        ["Index size", size(index.storage)],
        ["Deduplication window", size(window)],
      ],
    ],
    [
      "VDO in memory usage",
      [...need.parts.map(([what, bytes]) => [what, size(bytes)] as const), ["total", size(need.total)]],
    ],
    [
      "Volume characteristics in blocks",
      [
        ["Physical blocks", physicalBlocks],
        ["Logical blocks", logicalBlocks],
        ["Slabs", slabCount],
        ["Blocks per slab", slabBlocks],
      ],
    ],
    [
      "VDO metadata",
      [
        ["Block map pages when all logical blocks are mapped", map],
        ["Block map size", size(map * BLOCK)],
        ["Index blocks", index.storage / BLOCK],
      ],
    ],
  ];
  return sections.flatMap(([title, lines]) => [`${title}:`, ...lines.map(([label, value]) => `  ${label}: ${value}`)]);
}

/** Pages above the leaves. */
function interiorPages(leaves: number): number {
  let total = 0;
  for (let pages = Math.ceil(leaves / ROOTS), height = 1; height <= 4; height++) {
    pages = Math.ceil(pages / ENTRIES_PER_PAGE);
    total += pages * ROOTS;
  }
  return total;
}
