import { Random } from "@vdo/base";
import { expect, test } from "vitest";
import { PackerModel } from "./packer-model.ts";
import { SavingsEstimator } from "./savings-estimator.ts";

const BLOCK = 4096;
const INDEX = { memory: 0.25, sparse: false } as const;

/** `count` different blocks, of whose 4096 bytes the first `random` do not compress. */
function blocks(seed: number, count: number, random = BLOCK): Uint8Array {
  const data = new Uint8Array(count * BLOCK);
  const source = new Random(seed);
  for (let i = 0; i < count; i++) source.fill(data.subarray(i * BLOCK, i * BLOCK + random));
  return data;
}

test("zeros, duplicates and what compresses are counted apart", async () => {
  const estimator = await SavingsEstimator.open({ ...INDEX, compression: true, deduplication: true });
  await estimator.add(new Uint8Array(50 * BLOCK));
  await estimator.add(blocks(1, 300));
  await estimator.add(blocks(1, 300));
  // Fragments of about 300 bytes: 13 in a block.
  await estimator.add(blocks(2, 130, 280));
  const { dataBlocks, ...counts } = await estimator.finish();
  expect(counts).toEqual({
    blocks: 780,
    zeroBlocks: 50,
    duplicateBlocks: 300,
    compressedFragments: 130,
    compressedBlocks: 10,
  });
  expect(dataBlocks).toBe(310);
});

test("without compression and without deduplication every block that is not zeros counts", async () => {
  const estimator = await SavingsEstimator.open({ ...INDEX, compression: false, deduplication: false });
  await estimator.add(blocks(2, 20, 100));
  await estimator.add(blocks(2, 20, 100));
  await estimator.add(new Uint8Array(BLOCK));
  expect(await estimator.finish()).toMatchObject({ blocks: 41, zeroBlocks: 1, duplicateBlocks: 0, dataBlocks: 40 });
});

test("the packer's rules: company is needed, and a fragment as large as what is parked goes alone", () => {
  const packer = new PackerModel();
  for (let i = 0; i < 14; i++) packer.add(100);
  expect(packer).toMatchObject({ compressedBlocks: 1, fragments: 14, plainBlocks: 0 });
  packer.add(2000);
  packer.flush();
  expect(packer).toMatchObject({ compressedBlocks: 1, plainBlocks: 1 });
  for (let i = 0; i < 17; i++) packer.add(2100);
  packer.flush();
  expect(packer).toMatchObject({ compressedBlocks: 1, plainBlocks: 18 });
});
