/** Arrays and bitsets against plain lists, with snapshots; counts are exact after every commit. */
import { u64le, viewOf } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ARRAY_KIND, Bitset, BTree, DiskSpaceMap, forRuns, PersistentArray, type Steps } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { toyStore } from "./support/toy-store.ts";

const step = fc.record({
  kind: fc.constantFrom("set", "set", "resize", "snapshot", "drop", "commit"),
  index: fc.nat(2500),
  value: fc.nat(500),
});

test("an array of counted values holds what a list holds", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const store = await toyStore(2000);
      const data = await store.write(() => DiskSpaceMap.create(store, { blockCount: 501 }));
      const array = new PersistentArray(store, {
        type: {
          codec: u64le,
          increment: (values) => forRuns(values, (begin, end) => data.increment(begin, end)),
          decrement: (values) => forRuns(values, (begin, end) => data.decrement(begin, end)),
        },
      });
      let list: number[] = [];
      let root = await store.write(() => array.empty());
      let saved: { root: number; list: number[] } | undefined;
      const blocks = new BTree(store, { type: { codec: u64le } });
      const check = async (): Promise<void> => {
        const holders = new Map<number, number>();
        const entries = [{ root, list }, ...(saved === undefined ? [] : [saved])];
        const extra = function* (point: (number: number) => boolean): Steps<void> {
          const leaves = new Set<string>();
          for (const one of entries) {
            for (const { key, value } of yield* blocks.range(one.root)) {
              const leaf = `${one.root === root ? "now" : "saved"} ${key}`;
              if (!leaves.has(leaf)) leaves.add(leaf);
              holders.set(value, key);
            }
          }
          for (const number of holders.keys()) {
            yield* store.load(number, ARRAY_KIND);
            expect(yield* store.count(number)).toBeGreaterThan(0);
            for (let i = yield* store.count(number); i > 0; i--) point(number);
          }
        };
        await recount(
          store,
          entries.map((one) => ({ tree: blocks, root: one.root })),
          [data],
          extra,
        );
        // The count of a value is the number of places in distinct array blocks that hold it.
        const expected = new Map<number, number>();
        await store.read(function* () {
          for (const number of holders.keys()) {
            const block = yield* store.load(number, ARRAY_KIND);
            for (let i = 0; i < block.view.getUint32(8, true); i++) {
              const value = u64le.get(viewOf(block.bytes), 24 + 8 * i);
              expected.set(value, (expected.get(value) ?? 0) + 1);
            }
          }
          for (let value = 0; value <= 500; value++) expect(yield* data.count(value)).toBe(expected.get(value) ?? 0);
        });
      };
      for (const { kind, index, value } of steps) {
        await store.write(function* () {
          if (kind === "set" && list.length > 0) {
            yield* data.increment(value, value + 1);
            root = yield* array.set(root, index % list.length, value);
            list[index % list.length] = value;
          } else if (kind === "resize") {
            root = yield* array.resize(root, { from: list.length, to: index, value });
            list = [...list.slice(0, index), ...new Array<number>(Math.max(0, index - list.length)).fill(value)];
          } else if (kind === "snapshot" && saved === undefined) {
            yield* store.increment(root, root + 1);
            saved = { root, list: [...list] };
          } else if (kind === "drop" && saved !== undefined) {
            yield* array.drop(saved.root);
            saved = undefined;
          }
        });
        if (kind !== "commit") continue;
        await store.commit((block) => block.bytes.set(data.rootRecord(), 192));
        await check();
      }
      await store.commit((block) => block.bytes.set(data.rootRecord(), 192));
      await check();
      expect(await store.read(() => array.range(root, { to: list.length + 1 }))).toEqual(list);
      expect(await store.read(() => array.get(root, list.length))).toBe(undefined);
      const old = saved as { root: number; list: number[] } | undefined;
      if (old !== undefined) expect(await store.read(() => array.range(old.root, { to: 3000 }))).toEqual(old.list);
    }),
    { numRuns: 40 },
  );
});

test("1200 values of 8 bytes are three blocks", async () => {
  const store = await toyStore();
  const array = new PersistentArray(store, { type: { codec: u64le } });
  const blocks = new BTree(store, { type: { codec: u64le } });
  const counts = await store.write(function* () {
    const root = yield* array.resize(yield* array.empty(), { from: 0, to: 1200, value: 9 });
    const found: number[] = [];
    for (const { value } of yield* blocks.range(root)) {
      found.push((yield* store.load(value, ARRAY_KIND)).view.getUint32(8, true));
    }
    return found;
  });
  expect(array.perBlock).toBe(509);
  expect(counts).toEqual([509, 509, 182]);
});

test("a bitset holds what a list of booleans holds", async () => {
  const change = fc.record({ index: fc.nat(70_000), value: fc.boolean(), resize: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 60 }), async (changes) => {
      const store = await toyStore(2000);
      const bits = new Bitset(store);
      let list: boolean[] = [];
      await store.write(function* () {
        let root = yield* bits.empty();
        for (const { index, value, resize } of changes) {
          if (resize) {
            // Whole words: bits past the length in the last word are nobody's.
            const to = index - (index % 64);
            root = yield* bits.resize(root, { from: list.length, to, value });
            list = [...list.slice(0, to), ...new Array<boolean>(Math.max(0, to - list.length)).fill(value)];
          } else if (index < list.length) {
            root = yield* bits.put(root, index, value);
            list[index] = value;
          } else expect(yield* bits.test(root, index)).toBe(undefined);
        }
        for (const { index } of changes) expect(yield* bits.test(root, index)).toBe(list[index]);
        expect(yield* bits.countSet(root, list.length)).toBe(list.filter((bit) => bit).length);
        yield* bits.drop(root);
      });
      await store.commit(() => undefined);
      expect(store.allocatedCount).toBe(4);
    }),
    { numRuns: 25 },
  );
});
