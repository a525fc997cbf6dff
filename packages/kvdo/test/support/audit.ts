/**
 * An audit of a volume that is not running, independent of the engine: the block map is walked, references are counted
 * again, and compared with what the slabs and the super block say (the properties a)-f) of the format's description).
 */
import type { BlockDevice } from "@vdo/block-device";
import {
  decodeGeometryBlock,
  decodeSuperBlock,
  findPartition,
  isPageInitialised,
  judgeBlockMapPage,
  mappingAt,
  PARTITION,
  readMappingPbn,
  readMappingState,
  VOLUME_STATE,
} from "../../src/format/index.ts";

const BLOCK = 4096;

export interface Audit {
  problems: string[];
  logicalBlocks: number;
  pages: number;
  /** Mapped logical blocks by number: [pbn, state]. */
  mappings: Map<number, [pbn: number, state: number]>;
}

export async function audit(device: BlockDevice): Promise<Audit> {
  const problems: string[] = [];
  const read = async (pbn: number): Promise<Uint8Array> => {
    const block = new Uint8Array(BLOCK);
    await device.read(pbn, block);
    return block;
  };
  const geometry = decodeGeometryBlock(await read(0));
  const superBlock = decodeSuperBlock(await read(geometry.dataStart));
  const { vdo, slabDepot, blockMap, layout, recoveryJournal } = superBlock;
  if (vdo.state !== VOLUME_STATE.clean) problems.push(`state is ${vdo.state}`);
  const { slabConfig, firstBlock, lastBlock } = slabDepot;
  const slabs = Math.floor((lastBlock - firstBlock) / slabConfig.slabBlocks);
  const counts = Array.from({ length: slabs }, () => new Uint16Array(slabConfig.dataBlocks));
  const mappings = new Map<number, [number, number]>();
  let pages = 0;

  const reference = (pbn: number, what: string, isPage: boolean): void => {
    const slab = Math.floor((pbn - firstBlock) / slabConfig.slabBlocks);
    const sbn = pbn - firstBlock - slab * slabConfig.slabBlocks;
    const slabCounts = counts[slab];
    if (slabCounts === undefined || sbn < 0 || sbn >= slabConfig.dataBlocks) {
      problems.push(`${what}: block ${pbn} is not a data block`);
      return;
    }
    if (isPage) {
      if (slabCounts[sbn] !== 0) problems.push(`${what}: page ${pbn} is referenced elsewhere`);
      slabCounts[sbn] = 254;
    } else slabCounts[sbn] = slabCounts[sbn]! + 1;
  };

  const walk = async (pbn: number, height: number, index: number, tree: number): Promise<void> => {
    const page = await read(pbn);
    const verdict = judgeBlockMapPage(new DataView(page.buffer), vdo.nonce, pbn);
    if (verdict !== "valid") {
      if (height < 4 || verdict === "bad") problems.push(`page ${pbn} of height ${height} is ${verdict}`);
      return;
    }
    if (!isPageInitialised(page)) problems.push(`page ${pbn} is not initialised`);
    for (let slot = 0; slot < 812; slot++) {
      const child = readMappingPbn(page, mappingAt(slot));
      const state = readMappingState(page, mappingAt(slot));
      if (child === 0 && state === 0) continue;
      if (height === 0) {
        const lbn = ((index * 60 + tree) * 812 + slot) | 0;
        mappings.set(lbn, [child, state]);
        if (child !== 0) reference(child, `logical block ${lbn}`, false);
        continue;
      }
      pages++;
      reference(child, `page ${pbn} slot ${slot}`, true);
      await walk(child, height - 1, index * 812 + slot, tree);
    }
  };
  for (let tree = 0; tree < 60; tree++) await walk(blockMap.rootOrigin + tree, 4, 0, tree);

  if (mappings.size !== recoveryJournal.logicalBlocksUsed) {
    problems.push(
      `${mappings.size} logical blocks are mapped, the super block says ${recoveryJournal.logicalBlocksUsed}`,
    );
  }
  if (pages !== recoveryJournal.blockMapDataBlocks) {
    problems.push(`${pages} pages are allocated, the super block says ${recoveryJournal.blockMapDataBlocks}`);
  }
  const summaryStart = findPartition(layout, PARTITION.slabSummary).start;
  for (let slab = 0; slab < slabs; slab++) {
    await auditSlab(slab);
  }

  async function auditSlab(slab: number): Promise<void> {
    const summary = await read(summaryStart + Math.floor((slab * 2) / BLOCK));
    const word = summary[(slab * 2) % BLOCK]! | (summary[((slab * 2) % BLOCK) + 1]! << 8);
    const expected = counts[slab]!;
    const free = expected.reduce((sum, count) => sum + (count === 0 ? 1 : 0), 0);
    if ((word & 0x8000) !== 0) problems.push(`slab ${slab} is dirty in the summary`);
    const shift = Math.max(0, Math.log2(slabConfig.slabBlocks) - 6);
    const hint = free === 0 ? 0 : Math.max(1, free >> shift);
    if (((word >> 8) & 0x3f) !== hint) problems.push(`slab ${slab}: hint ${(word >> 8) & 0x3f}, expected ${hint}`);
    const countsStart = firstBlock + slab * slabConfig.slabBlocks + slabConfig.dataBlocks;
    const loads = (word & 0x4000) !== 0;
    for (let sbn = 0; sbn < slabConfig.dataBlocks; sbn += 4032) {
      const block = loads ? await read(countsStart + sbn / 4032) : new Uint8Array(BLOCK);
      for (let i = 0; i < 4032 && sbn + i < slabConfig.dataBlocks; i++) {
        const stored = block[Math.floor(i / 504) * 512 + 8 + (i % 504)]!;
        if (stored !== expected[sbn + i]) {
          problems.push(`slab ${slab} block ${sbn + i}: count ${stored}, counted ${expected[sbn + i]}`);
          if (problems.length > 20) return;
        }
      }
    }
  }
  return { problems, logicalBlocks: mappings.size, pages, mappings };
}
