/** The cache stays near its size while dirty blocks outnumber it, and nothing is lost when they are written early. */
import { Random, u64le } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { addressType, BTree, SAFE_POINT, Store } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { putRoots, TOY } from "./support/toy-store.ts";

test("a transaction much larger than the cache", async () => {
  const device = new MemoryDevice({ blockCount: 4000 });
  const store = await Store.create({ device, superblock: TOY, cacheBlocks: 32 });
  const bottom = new BTree(store, { type: { codec: u64le }, name: "map" });
  // A value dropped from the upper tree drops a whole tree, while the removal that did it is under way.
  const top = new BTree<number>(store, {
    name: "top",
    type: {
      ...addressType(store),
      *decrement({ view, at, count }) {
        for (let i = 0; i < count; i++) yield* bottom.drop(u64le.get(view, at + 8 * i));
      },
    },
  });
  const random = new Random(3);
  let root = await store.write(() => top.empty());
  const keys = new Set<number>();
  for (let id = 0; id < 300; id++) {
    await store.write(function* () {
      let map = yield* bottom.load(Array.from({ length: 600 + random.below(900) }, (_, i) => [i * 3, id] as const));
      for (let i = 0; i < 30; i++) map = (yield* bottom.insert(map, [random.below(5000)], id)).root;
      root = (yield* top.insert(root, [id], map)).root;
      yield SAFE_POINT;
    });
    keys.add(id);
    expect(store.cacheUse().blocks).toBeLessThan(150);
    if (id % 3 === 2) {
      const gone = random.pick([...keys]);
      keys.delete(gone);
      await store.write(function* () {
        const result = yield* top.remove(root, [gone]);
        expect(result.removed).toBe(true);
        root = result.root;
      });
    }
  }
  await store.commit((block) => putRoots(block, [root]));
  const again = await Store.open({ device, superblock: TOY, cacheBlocks: 32 });
  const tree = new BTree(again, { levels: 2, type: { codec: u64le } });
  await recount(again, [{ tree, root }]);
  const ids = await again.read(() => new BTree(again, { type: { codec: u64le } }).range(root));
  expect(ids.map(({ key }) => key)).toEqual([...keys].sort((a, b) => a - b));
  for (const { key, value } of ids) {
    const entries = await again.read(() => new BTree(again, { type: { codec: u64le } }).range(value));
    expect(entries.every((entry) => entry.value === key)).toBe(true);
  }
});

test("operations on cached blocks finish before anything else runs", async () => {
  const device = new MemoryDevice({ blockCount: 400 });
  const store = await Store.create({ device, superblock: TOY });
  const tree = new BTree(store, { type: { codec: u64le } });
  let root = await store.write(() => tree.empty());
  let done = false;
  const work = store.write(function* () {
    for (let key = 0; key < 2000; key++) root = (yield* tree.insert(root, [key], key)).root;
    done = true;
  });
  expect(done).toBe(true);
  await work;
  expect(tree.peek(root, [77])).toBe(77);
  expect(tree.peek(root, [5000])).toBe(undefined);
});

test("writers queue, readers see no half-done change", async () => {
  const device = new MemoryDevice({ blockCount: 4000 });
  const first = await Store.create({ device, superblock: TOY });
  const made = new BTree(first, { type: { codec: u64le } });
  let root = await first.write(() => made.load(Array.from({ length: 20_000 }, (_, i) => [i, 0] as const)));
  await first.commit((block) => putRoots(block, [root]));

  const store = await Store.open({ device, superblock: TOY, cacheBlocks: 16 });
  const tree = new BTree(store, { type: { codec: u64le } });
  const writes = Array.from({ length: 20 }, (_, round) =>
    store.write(function* () {
      for (let key = round; key < 20_000; key += 1999) root = (yield* tree.insert(root, [key], round + 1)).root;
    }),
  );
  const reads = Array.from({ length: 20 }, () =>
    store.read(function* () {
      const at = root;
      const entries = yield* tree.range(at);
      expect(entries.length).toBe(20_000);
      return entries.reduce((sum, { value }) => sum + value, 0);
    }),
  );
  await Promise.all(writes);
  const sums = await Promise.all(reads);
  expect(new Set(sums).size).toBe(1);
  await store.commit((block) => putRoots(block, [root]));
  await recount(store, [{ tree, root }]);
});
