/**
 * Takes single blocks out of a volume that the kernel wrote, as golden data for tests.
 *
 *     npx tsx --conditions=@vdo/source packages/kvdo/test/support/extract-golden.ts IMAGE
 *
 * What is in test/golden was taken from a volume of 4 GiB (64 GiB logical, slab bits 13, dense index of 0.25 GiB) that
 * vdoformat 8.3.0.71 made and Linux 6.12.95 dm-vdo wrote: unique, duplicate, compressible and zero blocks, an overwrite
 * and discards, then a clean stop.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { invariant } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { BLOCK_MAP_ENTRIES_PER_PAGE } from "../../src/constants.ts";
import {
  decodeGeometryBlock,
  decodeSuperBlock,
  findPartition,
  isCompressedState,
  mappingAt,
  PARTITION,
  readMappingPbn,
  readMappingState,
} from "../../src/format/index.ts";

export const GOLDEN_FOLDER = fileURLToPath(new URL("../golden/", import.meta.url));

async function extract(path: string): Promise<void> {
  const device = await FileDevice.open({ path, readOnly: true });
  const places: Record<string, number> = {};
  const take = async (name: string, pbn: number): Promise<Uint8Array> => {
    const block = new Uint8Array(4096);
    await device.read(pbn, block);
    writeFileSync(`${GOLDEN_FOLDER}${name}.bin`, block);
    places[name] = pbn;
    return block;
  };
  const follow = (page: Uint8Array, slot: number): number => readMappingPbn(page, mappingAt(slot));

  const geometry = decodeGeometryBlock(await take("geometry-block", 0));
  const superBlock = decodeSuperBlock(await take("super-block", geometry.dataStart));
  const { slabConfig, firstBlock } = superBlock.slabDepot;
  const root = await take("block-map-root", superBlock.blockMap.rootOrigin);
  const upper = new Uint8Array(4096);
  await device.read(follow(root, 0), upper);
  const middle = new Uint8Array(4096);
  await device.read(follow(upper, 0), middle);
  const interior = await take("block-map-interior", follow(middle, 0));
  const leaf = await take("block-map-leaf", follow(interior, 0));
  let compressed = 0;
  for (let slot = 0; slot < BLOCK_MAP_ENTRIES_PER_PAGE && compressed === 0; slot++) {
    if (isCompressedState(readMappingState(leaf, mappingAt(slot)))) compressed = follow(leaf, slot);
  }
  invariant(compressed !== 0, "the first leaf maps a compressed block");
  await take("compressed-block", compressed);
  const journal = findPartition(superBlock.layout, PARTITION.recoveryJournal);
  await take("recovery-journal-block", journal.start + superBlock.recoveryJournal.journalStart - 1);
  const countsAt = firstBlock + slabConfig.dataBlocks;
  await take("reference-block", countsAt);
  await take("slab-journal-block", countsAt + slabConfig.referenceCountBlocks + 1);
  await take("slab-summary-block", findPartition(superBlock.layout, PARTITION.slabSummary).start);
  writeFileSync(`${GOLDEN_FOLDER}places.json`, `${JSON.stringify(places, undefined, 2)}\n`);
  await device.close();
}

const [, script, image] = process.argv;
if (script === fileURLToPath(import.meta.url)) {
  invariant(image !== undefined, "the image is named");
  mkdirSync(GOLDEN_FOLDER, { recursive: true });
  await extract(image);
}
