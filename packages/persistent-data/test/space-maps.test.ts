/** Space maps against a plain list of counts, through commits, aborts and growth; and where the kernel puts their blocks. */
import { u64le } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import fc from "fast-check";
import { expect, test } from "vitest";
import { BTree, DiskSpaceMap, INDEX_KIND, Store, spaceMapRoot } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { TOY, toyStore } from "./support/toy-store.ts";

const command = fc.record({
  kind: fc.constantFrom("allocate", "allocate", "increment", "decrement", "set", "extend", "commit", "abort"),
  block: fc.nat(40_000),
  count: fc.integer({ min: 1, max: 600 }),
});

test("a disk space map counts as a list does, and hands no block out twice", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 50 }), async (commands) => {
      const store = await toyStore(3000);
      let map = await store.write(() => DiskSpaceMap.create(store, { blockCount: 500 }));
      const save = () => store.commit((block) => block.bytes.set(map.rootRecord(), 192));
      await save();
      let counts = new Array<number>(500).fill(0);
      let committed = [...counts];
      for (const { kind, block, count } of [...commands, { kind: "commit", block: 0, count: 1 }]) {
        const begin = block % counts.length;
        const end = Math.min(counts.length, begin + count);
        if (kind === "commit") {
          await save();
          committed = [...counts];
          expect(map.blockCount).toBe(counts.length);
          expect(map.freeCount).toBe(counts.filter((one) => one === 0).length);
          await recount(store, [], [map]);
          continue;
        }
        if (kind === "abort") {
          await store.abort();
          map = DiskSpaceMap.open(store, store.superblock.bytes.subarray(192, 320));
          counts = [...committed];
          continue;
        }
        await store.write(function* () {
          if (kind === "allocate") {
            for (let i = 0; i < count; i++) {
              const got = yield* map.allocate();
              if (got === undefined) {
                expect(counts.some((one, at) => one === 0 && (committed[at] ?? 0) === 0)).toBe(false);
                break;
              }
              expect(counts[got]).toBe(0);
              expect(committed[got] ?? 0).toBe(0);
              counts[got] = 1;
            }
          } else if (kind === "increment") {
            yield* map.increment(begin, end);
            for (let at = begin; at < end; at++) counts[at] = (counts[at] as number) + 1;
          } else if (kind === "decrement") {
            for (let at = begin; at < end && (counts[at] as number) > 0; at++) {
              yield* map.decrement(at, at + 1);
              counts[at] = (counts[at] as number) - 1;
            }
          } else if (kind === "set") {
            yield* map.set(begin, count % 7);
            counts[begin] = count % 7;
          } else if (kind === "extend" && counts.length < 40_000) {
            yield* map.extend(count * 30);
            counts.push(...new Array<number>(count * 30).fill(0));
          }
        });
        expect(map.allocatedCount).toBe(counts.filter((one) => one > 0).length);
      }
      const found = await store.read(function* () {
        const all: number[] = [];
        for (let at = 0; at < counts.length; at++) all.push(yield* map.count(at));
        return all;
      });
      expect(found).toEqual(counts);
    }),
    { numRuns: 25 },
  );
});

test("a count below zero or outside the map is refused, and says so", async () => {
  const store = await toyStore();
  const map = await store.write(() => DiskSpaceMap.create(store, { blockCount: 10, name: "data space map" }));
  await store.commit((block) => block.bytes.set(map.rootRecord(), 192));
  await expect(store.read(() => map.count(10))).rejects.toMatchObject({ code: "PD_BAD_COUNT", data: { block: 10 } });
  const lower = store.write(() => map.decrement(3, 4));
  await expect(lower).rejects.toThrow("data space map: block 3 is free, its count cannot be lowered");
  await expect(store.write(() => map.increment(0, 1))).rejects.toMatchObject({ code: "PD_POISONED" });
  await expect(store.commit(() => undefined)).rejects.toMatchObject({ code: "PD_POISONED" });
});

test("growth of the metadata takes the blocks that the kernel takes", async () => {
  const device = new MemoryDevice({ blockCount: 33_280 });
  const first = await Store.create({ device: new MemoryDevice({ blockCount: 2048 }), superblock: TOY });
  expect(first.blockCount).toBe(2048);
  const { SliceDevice } = await import("@vdo/block-device");
  const small = new SliceDevice(device, { start: 0, blockCount: 2048 });
  const store = await Store.create({ device: small, superblock: TOY });
  await store.commit(() => undefined);
  const grown = await Store.open({ device, superblock: TOY });
  await grown.write(() => grown.grow(33_280));
  await grown.commit(() => undefined);
  const root = spaceMapRoot.get(grown.superblock.view, TOY.spaceMapRootOffset);
  expect(root).toMatchObject({ blockCount: 33_280, bitmapRoot: 2051 });
  const index = await grown.read(() => grown.load(2051, INDEX_KIND));
  expect([0, 1, 2].map((i) => u64le.get(index.view, 16 + 16 * i))).toEqual([2050, 2048, 2049]);
  await recount(grown, []);
  await expect(grown.write(() => grown.grow(33_281))).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
  expect(grown.poisoned).toBeUndefined();
});

test("a device larger than a map can describe is used in part", async () => {
  const store = await Store.create({ device: new MemoryDevice({ blockCount: 5_000_000 }), superblock: TOY });
  expect(store.blockCount).toBe(4_161_600);
  await store.commit(() => undefined);
  // Superblock, index, overflow root, 255 bitmaps.
  expect(store.allocatedCount).toBe(258);
});

test("low space is told once each time it is reached", async () => {
  const store = await toyStore(60);
  await store.commit(() => undefined);
  let told = 0;
  store.onLowSpace(40, () => told++);
  const tree = new BTree(store, { type: { codec: u64le } });
  const roots: number[] = [];
  const make = (count: number) =>
    store.write(function* () {
      for (let i = 0; i < count; i++) roots.push(yield* tree.empty());
    });
  await make(10);
  expect(told).toBe(0);
  await make(10);
  expect(told).toBe(1);
  await make(5);
  expect(told).toBe(1);
  await store.write(function* () {
    for (const root of roots.splice(0)) yield* tree.drop(root);
  });
  await store.commit(() => undefined);
  await make(2);
  await make(20);
  expect(told).toBe(2);
});
