import { firstDifference, toHex } from "@vdo/base";
import { expect, test } from "vitest";
import { type GoldenBlock, goldenBlock, goldenPlace } from "../../test/support/golden.ts";
import { BLOCK_MAP_ENTRIES_PER_PAGE } from "../constants.ts";
import { leafOfBlock, leavesOfTree, pageIndex, slotInLeaf, slotInPage, treeOfLeaf } from "./block-map-address.ts";
import {
  blockMapPageHeader,
  formatBlockMapPage,
  isPageInitialised,
  judgeBlockMapPage,
  mappingAt,
  setPageInitialised,
} from "./block-map-page.ts";
import { decodeGeometryBlock } from "./geometry-block.ts";
import { isValidMapping, readMappingPbn, readMappingState, writeMapping } from "./mapping.ts";

const { nonce } = decodeGeometryBlock(goldenBlock("geometry-block"));
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer);

test.each<[GoldenBlock, number]>([
  ["block-map-root", 1],
  ["block-map-interior", 1],
  ["block-map-leaf", 700],
])("the kernel's %s page is read and written byte for byte", (name, atLeast) => {
  const golden = goldenBlock(name);
  const pbn = goldenPlace(name);
  expect(judgeBlockMapPage(viewOf(golden), nonce, pbn)).toBe("valid");
  const page = new Uint8Array(4096).fill(0xee);
  formatBlockMapPage(page, viewOf(page), nonce, pbn);
  expect(judgeBlockMapPage(viewOf(page), nonce, pbn)).toBe("uninitialised");
  setPageInitialised(page, true);
  let mapped = 0;
  for (let slot = 0; slot < BLOCK_MAP_ENTRIES_PER_PAGE; slot++) {
    const at = mappingAt(slot);
    const state = readMappingState(golden, at);
    expect(isValidMapping(readMappingPbn(golden, at), state)).toBe(true);
    writeMapping(page, at, readMappingPbn(golden, at), state);
    if (state !== 0) mapped++;
  }
  expect(mapped).toBeGreaterThanOrEqual(atLeast);
  expect(firstDifference(page, golden)).toBe(-1);
});

test("the pages on the way to the first leaf are those that the addressing names", () => {
  const root = goldenBlock("block-map-root");
  expect(readMappingState(root, mappingAt(slotInPage(0, 4)))).toBe(1);
  const interior = goldenBlock("block-map-interior");
  expect(readMappingPbn(interior, mappingAt(slotInPage(0, 1)))).toBe(goldenPlace("block-map-leaf"));
});

test("a page of another version, nonce or half-written is uninitialised, one with another number is bad", () => {
  const at = blockMapPageHeader.at;
  const pbn = goldenPlace("block-map-leaf");
  const judge = (change: (view: DataView, page: Uint8Array) => void): string => {
    const page = goldenBlock("block-map-leaf");
    change(viewOf(page), page);
    return judgeBlockMapPage(viewOf(page), nonce, pbn);
  };
  expect(judge(() => {})).toBe("valid");
  expect(judge((view) => at.versionMajor.set(view, 0, 3))).toBe("uninitialised");
  expect(judge((view) => at.versionMinor.set(view, 0, 0))).toBe("uninitialised");
  expect(judge((view) => at.nonce.set(view, 0, nonce + 1n))).toBe("uninitialised");
  expect(judge((_, page) => setPageInitialised(page, false))).toBe("uninitialised");
  expect(judge((view) => at.pbn.set(view, 0, pbn + 1))).toBe("bad");
  expect(judge((view) => view.setUint32(at.pbn.offset + 4, 0xffffffff, true))).toBe("bad");
  expect(judge((_, page) => page.fill(0))).toBe("uninitialised");
  const page = goldenBlock("block-map-leaf");
  setPageInitialised(page, false);
  expect(isPageInitialised(page)).toBe(false);
});

test("a new page is all zero but version, nonce and its own number", () => {
  const page = new Uint8Array(4096).fill(0xee);
  formatBlockMapPage(page, viewOf(page), 0x000660b3e7f1f198n, 679192);
  expect(toHex(page.subarray(0, 36))).toBe(
    "040000000100000098f1f1e7b3600600185d0a000000000000000000000000000000000000000000".slice(0, 72),
  );
  expect(page.subarray(24).every((byte) => byte === 0)).toBe(true);
});

/** lbn, leaf, tree, slots and indices from leaf to root: all but the last confirmed by walking a real volume. */
test.each([
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [811, 0, 0, 811, 0, 0, 0, 0, 0, 0],
  [812, 1, 1, 0, 0, 0, 0, 0, 0, 0],
  [48719, 59, 59, 811, 0, 0, 0, 0, 0, 0],
  [48720, 60, 0, 0, 1, 1, 0, 0, 0, 0],
  [3000000, 3694, 34, 472, 61, 61, 0, 0, 0, 0],
  [5242879, 6456, 36, 607, 107, 107, 0, 0, 0, 0],
  [39560640, 48720, 0, 0, 812, 0, 1, 1, 0, 0],
  [268435455, 330585, 45, 435, 5509, 637, 6, 6, 0, 0],
  [32123239680, 39560640, 0, 0, 659344, 0, 812, 0, 1, 1],
  [53687091199, 66117107, 47, 315, 1101951, 67, 1357, 545, 1, 1],
  [2 ** 40 - 1, 1354078359, 39, 267, 22567972, 56, 27793, 185, 34, 34],
])("logical block %i is found in leaf %i", (lbn, leaf, tree, slot0, index0, slot1, index1, slot2, index2, slot3) => {
  expect(leafOfBlock(lbn)).toBe(leaf);
  expect(treeOfLeaf(leaf)).toBe(tree);
  expect(slotInLeaf(lbn)).toBe(slot0);
  expect([0, 1, 2].map((height) => pageIndex(leaf, height))).toEqual([index0, index1, index2]);
  expect([1, 2, 3, 4].map((height) => slotInPage(leaf, height))).toEqual([slot1, slot2, slot3, 0]);
});

test("the leaves of all trees together are all leaves", () => {
  for (const leaves of [1, 59, 60, 61, 6457]) {
    let sum = 0;
    for (let tree = 0; tree < 60; tree++) sum += leavesOfTree(leaves, tree);
    expect(sum).toBe(leaves);
  }
});
