/** The same operations give the same trees as the kernel's library: leaf sizes from runs of the kernel and its model. */
import { bytes, type Field, u32le, u64le } from "@vdo/base";
import { expect, test } from "vitest";
import { BTree } from "../src/index.ts";
import { shapeOf, toyStore } from "./support/toy-store.ts";

type Step = ["insert" | "remove", number];

function up(count: number): Step[] {
  return Array.from({ length: count }, (_, i) => ["insert", i]);
}

/** Leaf sizes and root keys after `steps`. */
async function build(steps: readonly Step[], codec: Field<number> = u64le, run?: [number, number]) {
  const store = await toyStore();
  const tree = new BTree(store, { type: { codec } });
  const root = await store.write(function* () {
    let at = yield* tree.empty();
    for (const [what, key] of steps) {
      if (what === "insert") at = (yield* tree.insert(at, [key], key)).root;
      else {
        const { root, removed } = yield* tree.remove(at, [key]);
        expect(removed).toBe(true);
        at = root;
      }
    }
    if (run !== undefined) {
      for (let from = run[0]; ; ) {
        const next = yield* tree.lookupNext(at, [from]);
        if (next === undefined || next.key >= run[1]) break;
        const result = yield* tree.removeRun(at, [next.key], run[1]);
        at = result.root;
        from = result.next;
      }
    }
    return at;
  });
  return shapeOf(store, root);
}

const scattered: Step[] = Array.from({ length: 5000 }, (_, i) => ["insert", (i * 7919) % 10007]);
const keys = scattered.map(([, key]) => key).sort((a, b) => a - b);
const thirds = keys.filter((key) => key % 3 === 0).map((key): Step => ["remove", key]);

function wide(size: number): Field<number> {
  const field = bytes(size);
  return {
    size,
    kind: `wide[${size}]`,
    get: (view, at) => u32le.get(view, at),
    set: (view, at, value) => {
      field.set(view, at, new Uint8Array(size));
      u32le.set(view, at, value);
    },
  };
}

test("ascending inserts split as the kernel splits", async () => {
  expect((await build(up(252))).leaves).toEqual([252]);
  expect((await build([...up(252), ["insert", 100]])).leaves).toEqual([252]);
  expect(await build(up(253))).toEqual({ leaves: [126, 127], keys: [0, 126] });
  expect(await build(up(379))).toEqual({ leaves: [189, 190], keys: [0, 189] });
  expect((await build(up(380))).leaves).toEqual([189, 191]);
  expect(await build(up(1100))).toEqual({ leaves: [248, 248, 248, 126, 230], keys: [0, 248, 496, 744, 870] });
});

test("descending inserts", async () => {
  expect(await build(up(1100).reverse())).toEqual({ leaves: [239, 126, 245, 245, 245], keys: [0, 239, 365, 610, 855] });
});

test("a run of removals", async () => {
  expect(await build(up(1100), u64le, [200, 800])).toEqual({ leaves: [167, 167, 166], keys: [0, 167, 934] });
});

test("scattered inserts, then the removal of every third key", async () => {
  const expected = "236 237 213 248 248 188 188 243 245 248 248 248 251 172 174 214 215 246 246 236 229 227"
    .split(" ")
    .map(Number);
  expect((await build(scattered)).leaves).toEqual(expected);
  expect(thirds.length).toBe(1666);
  const after = "187 180 164 151 156 158 160 162 163 164 149 139 138 142 149 153 155 154 153 135 111 111"
    .split(" ")
    .map(Number);
  expect((await build([...scattered, ...thirds])).leaves).toEqual(after);
});

test("other value sizes", async () => {
  expect((await build(up(1100), wide(24))).leaves).toEqual([122, 122, 122, 122, 122, 122, 122, 122, 124]);
  expect((await build(up(1100), u32le)).leaves).toEqual([330, 330, 168, 272]);
  expect((await build(up(1100), wide(16))).leaves).toEqual([162, 162, 162, 162, 162, 126, 164]);
});

test("a tree three nodes deep", async () => {
  const { leaves, keys: rootKeys } = await build(up(100_000));
  expect(leaves).toEqual([...new Array<number>(402).fill(248), 126, 178]);
  expect(rootKeys).toEqual([0, 46872]);
});
