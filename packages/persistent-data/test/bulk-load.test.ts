/** Bulk loads: the tree is legal, full, and holds what was given. */
import { u32le, u64le } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { BTree } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { shapeOf, toyStore } from "./support/toy-store.ts";

test("a loaded tree holds its entries, and no node but the root is underfull", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(3000), fc.integer({ min: 1, max: 9 }), async (count, step) => {
      const store = await toyStore();
      const tree = new BTree(store, { type: { codec: u32le } });
      const entries = Array.from({ length: count }, (_, i) => [i * step, i] as const);
      const root = await store.write(() => tree.load(entries));
      const found = await store.read(() => tree.range(root));
      expect(found.map(({ key, value }) => [key, value])).toEqual(entries);
      await store.read(() => tree.walk(root, { underfull: () => expect.fail("a node is underfull") }));
      await store.commit(() => undefined);
      await recount(store, [{ tree, root }]);
    }),
    { numRuns: 30 },
  );
});

test("leaves are full, and the last two share", async () => {
  const store = await toyStore();
  const tree = new BTree(store, { type: { codec: u64le } });
  const leavesOf = async (count: number): Promise<number[]> => {
    const entries = Array.from({ length: count }, (_, i) => [i, i] as const);
    return (await shapeOf(store, await store.write(() => tree.load(entries)))).leaves;
  };
  expect(await leavesOf(0)).toEqual([0]);
  expect(await leavesOf(252)).toEqual([252]);
  expect(await leavesOf(253)).toEqual([126, 127]);
  expect(await leavesOf(504)).toEqual([252, 252]);
  expect(await leavesOf(600)).toEqual([252, 252, 96]);
});

test("keys that do not rise are refused before anything is lost", async () => {
  const store = await toyStore();
  const tree = new BTree(store, { type: { codec: u64le } });
  const load = store.write(() =>
    tree.load([
      [5, 1],
      [5, 2],
    ]),
  );
  await expect(load).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
});
