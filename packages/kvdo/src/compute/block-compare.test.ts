import { expect, test } from "vitest";
import { workloadBlock } from "../../test/support/workload-block.ts";
import { equalBlocks, isZeroBlock } from "./block-compare.ts";

test("a block is zero only when no byte is set", () => {
  const block = new Uint8Array(4096);
  expect(isZeroBlock(block)).toBe(true);
  for (let at = 0; at < 4096; at++) {
    block[at] = 1;
    expect(isZeroBlock(block), `byte ${at}`).toBe(false);
    block[at] = 0;
  }
});

test("blocks are equal only when no byte differs", () => {
  const block = workloadBlock(3);
  const copy = block.slice();
  expect(equalBlocks(block, copy)).toBe(true);
  for (let at = 0; at < 4096; at++) {
    copy[at] = copy[at]! ^ 0x80;
    expect(equalBlocks(block, copy), `byte ${at}`).toBe(false);
    copy[at] = copy[at]! ^ 0x80;
  }
});
