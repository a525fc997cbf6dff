/** Commit, reopen, abort, growth. After every commit both maps are recounted from the trees. */
import { u64le } from "@vdo/base";
import { MemoryDevice, SliceDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { BTree, DiskSpaceMap, Store } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { getRoots, putRoots, TOY, toyStore } from "./support/toy-store.ts";

test("a fresh store uses the blocks the kernel uses", async () => {
  const device = new MemoryDevice({ blockCount: 2048 });
  const store = await toyStore(2048, device);
  expect(await Store.isBlank(device)).toBe(true);
  await store.commit(() => undefined);
  expect(await Store.isBlank(device)).toBe(false);
  expect(store.allocatedCount).toBe(4);
  const again = await Store.open({ device, superblock: TOY });
  expect(again.blockCount).toBe(2048);
  expect(await again.read(() => again.count(3))).toBe(1);
  expect(await again.read(() => again.count(4))).toBe(0);
});

test("what was committed is there after reopening, what was not is gone after abort", async () => {
  const device = new MemoryDevice({ blockCount: 2048 });
  const store = await toyStore(2048, device);
  const tree = new BTree(store, { type: { codec: u64le } });
  let root = await store.write(() => tree.empty());
  const fill = (from: number, to: number) =>
    store.write(function* () {
      for (let key = from; key < to; key++) root = (yield* tree.insert(root, [key], key * 2)).root;
    });
  await fill(0, 2000);
  await store.commit((block) => putRoots(block, [root]));
  await fill(2000, 3000);
  expect(store.dirty).toBe(true);
  await store.abort();
  expect(store.dirty).toBe(false);
  [root] = getRoots(store.superblock, 1) as [number];
  expect(await store.read(() => tree.highest(root))).toBe(1999);
  await fill(5000, 6000);
  await store.commit((block) => putRoots(block, [root]));
  const again = await Store.open({ device, superblock: TOY, cacheBlocks: 16 });
  const same = new BTree(again, { type: { codec: u64le } });
  const entries = await again.read(() => same.range(root));
  expect(entries.length).toBe(3000);
  expect(entries.every(({ key, value }) => value === key * 2)).toBe(true);
  await recount(again, [{ tree: same, root }]);
});

test("a snapshot is unaffected by later changes, and dropping either frees what only it had", async () => {
  const store = await toyStore();
  const tree = new BTree(store, { type: { codec: u64le } });
  let root = 0;
  let old = 0;
  await store.write(function* () {
    root = yield* tree.empty();
    for (let key = 0; key < 5000; key++) root = (yield* tree.insert(root, [key], 1)).root;
    old = root;
    yield* tree.clone(root);
    for (let key = 0; key < 5000; key += 7) root = (yield* tree.insert(root, [key], 2)).root;
    for (let key = 1; key < 5000; key += 5) root = (yield* tree.remove(root, [key])).root;
  });
  await store.commit((block) => putRoots(block, [root, old]));
  await recount(store, [
    { tree, root },
    { tree, root: old },
  ]);
  const kept = await store.read(() => tree.range(old));
  expect(kept.length).toBe(5000);
  expect(kept.every(({ value }) => value === 1)).toBe(true);
  await store.write(() => tree.drop(old));
  await store.commit((block) => putRoots(block, [root]));
  await recount(store, [{ tree, root }]);
  await store.write(() => tree.drop(root));
  await store.commit(() => undefined);
  expect(store.allocatedCount).toBe(4);
});

test("both maps grow, and everything is found again", async () => {
  const whole = new MemoryDevice({ blockCount: 40_000 });
  const small = new SliceDevice(whole, { start: 0, blockCount: 300 });
  const first = await toyStore(300, small);
  const map = await first.write(() => DiskSpaceMap.create(first, { blockCount: 100, name: "data space map" }));
  await first.write(function* () {
    for (let i = 0; i < 100; i++) expect(yield* map.allocate()).toBe(i);
    expect(yield* map.allocate()).toBe(undefined);
    yield* map.extend(50_000);
  });
  await first.commit((block) => block.bytes.set(map.rootRecord(), 192));
  expect(map.blockCount).toBe(50_100);
  await first.close();

  const store = await Store.open({ device: whole, superblock: TOY });
  expect(store.blockCount).toBe(300);
  const reopened = DiskSpaceMap.open(store, store.superblock.bytes.subarray(192, 320), { name: "data space map" });
  await store.write(() => store.grow(40_000));
  await store.write(function* () {
    expect(yield* reopened.allocate()).toBe(100);
    yield* reopened.increment(0, 20_000);
    yield* reopened.increment(0, 10);
    yield* reopened.increment(0, 10);
  });
  await store.commit((block) => block.bytes.set(reopened.rootRecord(), 192));
  expect(store.blockCount).toBe(40_000);
  expect(reopened.allocatedCount).toBe(20_000);
  const counts = await store.read(function* () {
    return [yield* reopened.count(5), yield* reopened.count(50), yield* reopened.count(19_999)];
  });
  expect(counts).toEqual([4, 2, 1]);
  await recount(store, [], [reopened]);
});
