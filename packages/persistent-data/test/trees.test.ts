/** Random histories of trees against maps: values are blocks of a counted device, snapshots are taken and dropped. */
import { u64le } from "@vdo/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BTree, DiskSpaceMap, forRuns, Store, type ValueType } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { TOY, toyStore } from "./support/toy-store.ts";

type Command =
  | { kind: "insert" | "remove" | "removeRun"; device: number; key: number; count: number }
  | { kind: "snapshot" | "drop" | "commit" | "abort"; device: number };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constantFrom("insert", "insert", "remove", "removeRun"),
      device: fc.nat(2),
      key: fc.nat(3000),
      count: fc.integer({ min: 1, max: 400 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("snapshot", "drop", "commit", "abort"), device: fc.nat(2) }),
  },
);

/** Trees of a two-level map, as a thin pool has them: device → key → block of a counted device. */
class Pool {
  readonly store: Store;
  readonly data: DiskSpaceMap;
  readonly maps: BTree<number>;
  readonly top: BTree<number>;
  root = 0;

  constructor(store: Store, data: DiskSpaceMap) {
    this.store = store;
    this.data = data;
    const value: ValueType<number> = {
      codec: u64le,
      increment: (values) => forRuns(values, (begin, end) => data.increment(begin, end)),
      decrement: (values) => forRuns(values, (begin, end) => data.decrement(begin, end)),
      equal: (a, b) => a === b,
    };
    this.maps = new BTree(store, { levels: 2, type: value, name: "maps" });
    const bottom = new BTree(store, { type: value, name: "map" });
    this.top = new BTree(store, {
      name: "top",
      type: {
        codec: u64le,
        increment: (values) => forRuns(values, (begin, end) => store.increment(begin, end)),
        *decrement({ view, at, count }) {
          for (let i = 0; i < count; i++) yield* bottom.drop(u64le.get(view, at + 8 * i));
        },
        equal: (a, b) => a === b,
      },
    });
  }

  commit(): Promise<void> {
    return this.store.commit((block) => {
      block.bytes.set(this.data.rootRecord(), 192);
      u64le.set(block.view, 320, this.root);
    });
  }

  static reopen(store: Store): Pool {
    const pool = new Pool(store, DiskSpaceMap.open(store, store.superblock.bytes.subarray(192, 320)));
    pool.root = u64le.get(store.superblock.view, 320);
    return pool;
  }

  /** The whole map, and a count of leaf entries per data block. */
  async contents(): Promise<Model> {
    const model: Model = new Map();
    await this.store.read(() => this.#readInto(model));
    return model;
  }

  *#readInto(model: Model) {
    for (const { key: device, value } of yield* this.top.range(this.root)) {
      const bottom = new BTree(this.store, { type: { codec: u64le } });
      const entries = yield* bottom.range(value);
      model.set(device, new Map(entries.map(({ key, value: block }) => [key, block])));
    }
  }
}

type Model = Map<number, Map<number, number>>;

function clone(model: Model): Model {
  return new Map([...model].map(([device, map]) => [device, new Map(map)]));
}

async function apply(pool: Pool, model: Model, step: Exclude<Command, { kind: "commit" | "abort" }>): Promise<void> {
  const map = model.get(step.device) ?? new Map<number, number>();
  await pool.store.write(function* () {
    if (step.kind === "snapshot") {
      const root = yield* pool.top.lookup(pool.root, [step.device]);
      const target = step.device + 100;
      if (root === undefined) return;
      if (model.has(target)) pool.root = (yield* pool.top.remove(pool.root, [target])).root;
      yield* pool.store.increment(root, root + 1);
      pool.root = (yield* pool.top.insert(pool.root, [target], root)).root;
      model.set(target, new Map(map));
    } else if (step.kind === "drop") {
      const result = yield* pool.top.remove(pool.root, [step.device]);
      pool.root = result.root;
      expect(result.removed).toBe(model.delete(step.device));
    } else if ("key" in step) {
      if (step.kind !== "insert" && !model.has(step.device)) return;
      if (step.kind === "removeRun") {
        const end = step.key + step.count;
        for (let from = step.key; ; ) {
          const next = yield* pool.maps.lookupNext(pool.root, [step.device, from]);
          if (next === undefined || next.key >= end) break;
          const result = yield* pool.maps.removeRun(pool.root, [step.device, next.key], end);
          pool.root = result.root;
          from = result.next;
        }
        for (let key = step.key; key < end; key++) map.delete(key);
        return;
      }
      model.set(step.device, map);
      for (let i = 0; i < step.count; i++) {
        const key = (step.key + i * 7) % 3000;
        if (step.kind === "insert") {
          const block = yield* pool.data.allocate();
          if (block === undefined) break;
          const result = yield* pool.maps.insert(pool.root, [step.device, key], block);
          expect(result.inserted).toBe(!map.has(key));
          pool.root = result.root;
          map.set(key, block);
        } else {
          const result = yield* pool.maps.remove(pool.root, [step.device, key]);
          expect(result.removed).toBe(map.delete(key));
          pool.root = result.root;
        }
      }
    }
  });
}

describe("a map of maps with snapshots", () => {
  test("holds what a model holds, and every count is exact after each commit", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40 }), async (steps) => {
        const store = await toyStore(3000);
        let pool = new Pool(store, await store.write(() => DiskSpaceMap.create(store, { blockCount: 40_000 })));
        pool.root = await store.write(() => pool.maps.empty());
        await pool.commit();
        let model: Model = new Map();
        let committed: Model = new Map();
        for (const step of [...steps, { kind: "commit", device: 0 } as const]) {
          if (step.kind === "abort") {
            await store.abort();
            pool = Pool.reopen(store);
            model = clone(committed);
          } else if (step.kind === "commit") {
            await pool.commit();
            committed = clone(model);
            await recount(store, [{ tree: pool.maps, root: pool.root }], [pool.data]);
          } else await apply(pool, model, step as Exclude<Command, { kind: "commit" | "abort" }>);
        }
        expect(await pool.contents()).toEqual(model);
      }),
      { numRuns: 40 },
    );
  });

  test("is read with a cache of a few blocks", async () => {
    const { MemoryDevice } = await import("@vdo/block-device");
    const device = new MemoryDevice({ blockCount: 3000 });
    const store = await Store.create({ device, superblock: TOY, cacheBlocks: 16 });
    const pool = new Pool(store, await store.write(() => DiskSpaceMap.create(store, { blockCount: 40_000 })));
    pool.root = await store.write(() => pool.maps.empty());
    const model: Model = new Map();
    for (let i = 0; i < 30; i++) {
      await apply(pool, model, { kind: "insert", device: i % 5, key: (i * 997) % 3000, count: 300 });
      expect(store.cacheUse().blocks).toBeLessThan(200);
    }
    await pool.commit();
    expect(await pool.contents()).toEqual(model);
    expect(store.traffic.blocksRead).toBeGreaterThan(0);
    await recount(store, [{ tree: pool.maps, root: pool.root }], [pool.data]);
  });
});

describe("a cursor", () => {
  test("moves forward and back as over a sorted list", async () => {
    const store = await toyStore(3000);
    const tree = new BTree(store, { type: { codec: u64le } });
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(20_000), { maxLength: 1500 }), fc.nat(20_000), async (keys, from) => {
        const sorted = keys.toSorted((a, b) => a - b);
        await store.write(function* () {
          let root = yield* tree.empty();
          for (const key of keys) root = (yield* tree.insert(root, [key], key + 1)).root;
          const cursor = tree.cursor(root);
          const seen: number[] = [];
          for (let more = yield* cursor.first(); more; more = yield* cursor.next()) {
            expect(cursor.value).toBe(cursor.key + 1);
            seen.push(cursor.key);
          }
          expect(seen).toEqual(sorted);
          const back: number[] = [];
          for (let more = yield* cursor.last(); more; more = yield* cursor.previous()) back.push(cursor.key);
          expect(back).toEqual(sorted.toReversed());
          expect((yield* cursor.seek(from)) ? cursor.key : undefined).toBe(sorted.find((key) => key >= from));
          expect((yield* cursor.seekBack(from)) ? cursor.key : undefined).toBe(sorted.findLast((key) => key <= from));
          yield* cursor.first();
          expect((yield* cursor.skip(from % 1000)) ? cursor.key : undefined).toBe(sorted[from % 1000]);
          expect(yield* tree.lowest(root)).toBe(sorted[0]);
          expect(yield* tree.highest(root)).toBe(sorted.at(-1));
          yield* tree.drop(root);
        });
        await store.commit(() => undefined);
      }),
      { numRuns: 25 },
    );
    expect(store.allocatedCount).toBe(4);
  });
});
