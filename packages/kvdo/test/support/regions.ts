/** Where the parts of a volume lie on its device, for tests that break them. Blocks of 4096 bytes. */
import type { BlockDevice } from "@vdo/block-device";
import {
  type BlockRange,
  decodeGeometryBlock,
  decodeSuperBlock,
  findPartition,
  leafOfBlock,
  mappingAt,
  PARTITION,
  readMappingPbn,
  type SuperBlock,
  slotInPage,
  treeOfLeaf,
} from "../../src/format/index.ts";

export interface Regions {
  superBlock: BlockRange;
  index: BlockRange;
  roots: BlockRange;
  slabs: BlockRange;
  journal: BlockRange;
  summary: BlockRange;
  decoded: SuperBlock;
  /** Parts of slab `number`. */
  slab(number: number): { data: BlockRange; counts: BlockRange; journal: BlockRange };
}

export async function readBlock(device: BlockDevice, block: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(4096);
  await device.read(block, bytes);
  return bytes;
}

/** Reads geometry and super block of the volume on `device`. */
export async function regionsOf(device: BlockDevice): Promise<Regions> {
  const geometry = decodeGeometryBlock(await readBlock(device, 0));
  const decoded = decodeSuperBlock(await readBlock(device, geometry.dataStart));
  const range = (id: (typeof PARTITION)[keyof typeof PARTITION]): BlockRange => {
    const { start, count } = findPartition(decoded.layout, id);
    return { start, count };
  };
  const { slabConfig, firstBlock } = decoded.slabDepot;
  return {
    superBlock: { start: geometry.dataStart, count: 1 },
    index: { start: geometry.indexStart, count: geometry.dataStart - geometry.indexStart },
    roots: range(PARTITION.blockMap),
    slabs: range(PARTITION.slabDepot),
    journal: range(PARTITION.recoveryJournal),
    summary: range(PARTITION.slabSummary),
    decoded,
    slab(number) {
      const start = firstBlock + number * slabConfig.slabBlocks;
      const counts = start + slabConfig.dataBlocks;
      return {
        data: { start, count: slabConfig.dataBlocks },
        counts: { start: counts, count: slabConfig.referenceCountBlocks },
        journal: { start: counts + slabConfig.referenceCountBlocks, count: slabConfig.slabJournalBlocks },
      };
    },
  };
}

/** Blocks of the pages that lead to logical block `lbn`, by height: the leaf is 0, the root 4. 0 where there is none. */
export async function pagesOf(device: BlockDevice, lbn: number): Promise<number[]> {
  const { roots } = await regionsOf(device);
  const leaf = leafOfBlock(lbn);
  const pages = [0, 0, 0, 0, roots.start + treeOfLeaf(leaf)];
  for (let height = 4; height > 0 && pages[height] !== 0; height--) {
    const page = await readBlock(device, pages[height] as number);
    pages[height - 1] = readMappingPbn(page, mappingAt(slotInPage(leaf, height)));
  }
  return pages;
}
