/** Volumes with small slabs and journals, so that a short test goes around every ring and over every threshold. */
import type { BlockDevice } from "@vdo/block-device";
import { newSuperBlock } from "../admin/new-super-block.ts";
import { computeLayout, encodeGeometryBlock, encodeSuperBlock, indexMemoryFromGib } from "../format/index.ts";

export interface TinyOptions {
  slabBits: number;
  slabs: number;
  recoveryJournalBlocks: number;
  slabJournalBlocks: number;
  logicalBlocks: number;
}

const INDEX = { memory: indexMemoryFromGib(0.25), unused: 0, sparse: 0 };
const NONCE = 0x1234_5678_9abcn;

/** Blocks of a device that holds exactly the slabs asked for. */
export function tinyBlocks(options: TinyOptions): number {
  const fixed = 679_127 + 2 + 60 + 64 + options.recoveryJournalBlocks;
  return fixed + options.slabs * 2 ** options.slabBits;
}

/** Writes a NEW volume of `options` to a zeroed device of {@link tinyBlocks} blocks. */
export async function formatTiny(device: BlockDevice, options: TinyOptions): Promise<void> {
  const layout = computeLayout({
    physicalBlocks: device.blockCount,
    slabBits: options.slabBits,
    index: INDEX,
    recoveryJournalBlocks: options.recoveryJournalBlocks,
    slabJournalBlocks: options.slabJournalBlocks,
  });
  const superBlock = newSuperBlock({ layout, logicalBlocks: options.logicalBlocks, nonce: NONCE });
  await device.write(layout.dataStart, encodeSuperBlock(superBlock));
  const geometry = encodeGeometryBlock({
    version: 5,
    releaseNumber: 0,
    nonce: NONCE,
    uuid: new Uint8Array(16),
    bioOffset: 0,
    indexStart: layout.index.start,
    dataStart: layout.dataStart,
    index: INDEX,
  });
  await device.write(0, geometry);
}
