/** Damaged metadata: an error that names the way to it, whatever was hit; nothing hangs, nothing goes round in circles. */
import { isVdoError, Random, u64le } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { beforeAll, describe, expect, test } from "vitest";
import { addressAt, entryCount, setAddress, setEntryCount, setKey } from "../src/format/node.ts";
import { BLOCK_BYTES, Block, BTree, blockChecksum, NODE_KIND, type Steps, Store, spaceMapRoot } from "../src/index.ts";
import { getRoots, putRoots, TOY, toyStore } from "./support/toy-store.ts";

const BLOCKS = 64;
let image: Uint8Array;
let root = 0;
/** Children of the root. */
let children: number[] = [];

beforeAll(async () => {
  const device = new MemoryDevice({ blockCount: BLOCKS });
  const store = await toyStore(BLOCKS, device);
  const tree = new BTree(store, { type: { codec: u64le } });
  await store.write(function* () {
    root = yield* tree.empty();
    for (let i = 0; i < 2000; i++) root = (yield* tree.insert(root, [((i * 7919) % 10_007) + 1], i)).root;
    const top = yield* store.load(root, NODE_KIND);
    children = Array.from({ length: entryCount(top) }, (_, i) => addressAt(top, i));
  });
  await store.commit((block) => putRoots(block, [root]));
  image = new Uint8Array(BLOCKS * BLOCK_BYTES);
  await device.read(0, image);
});

/** A copy of the image with block `number` changed; `seal` makes the checksum right again. */
function damaged(number: number, change: (block: Block) => void, seal = true): Uint8Array {
  const copy = image.slice();
  const block = new Block(number, NODE_KIND);
  const at = number * BLOCK_BYTES;
  block.bytes.set(copy.subarray(at, at + BLOCK_BYTES));
  change(block);
  if (seal) block.view.setUint32(0, blockChecksum(block.bytes, NODE_KIND.salt), true);
  copy.set(block.bytes, at);
  return copy;
}

const OPERATIONS: Record<string, (tree: BTree<number>, at: number) => Steps<unknown>> = {
  *lookups(tree, at) {
    for (let key = 0; key < 10_100; key += 400) yield* tree.lookup(at, [key]);
  },
  range: (tree, at) => tree.range(at),
  *back(tree, at) {
    const cursor = tree.cursor(at);
    for (let more = yield* cursor.last(); more; more = yield* cursor.previous()) expect(cursor.valid).toBe(true);
  },
  walk: (tree, at) => tree.walk(at, {}),
  *inserts(tree, at) {
    let now = at;
    for (let key = 1; key < 10_100; key += 400) now = (yield* tree.insert(now, [key], key)).root;
  },
  *removals(tree, at) {
    let now = at;
    for (let key = 1; key < 10_100; key += 400) now = (yield* tree.remove(now, [key])).root;
  },
  drop: (tree, at) => tree.drop(at),
};

/** What each operation came to: its error, or undefined. */
async function outcomes(bytes: Uint8Array, names = Object.keys(OPERATIONS)): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>();
  // Nothing is committed, so nothing is written.
  const device = MemoryDevice.from(bytes);
  for (const name of names) {
    const store = await Store.open({ device, superblock: TOY });
    const tree = new BTree(store, { type: { codec: u64le }, name: "toy tree" });
    const run = store.write(() =>
      (OPERATIONS[name] as (tree: BTree<number>, at: number) => Steps<unknown>)(tree, root),
    );
    found.set(
      name,
      await run.then(
        () => undefined,
        (error: unknown) => error,
      ),
    );
  }
  return found;
}

/** Every failure is damage that is told with the way to it. */
function expectToldWell(found: ReadonlyMap<string, unknown>, what: string): void {
  for (const [name, error] of found) {
    if (error === undefined) continue;
    expect(
      isVdoError(error, "VDO_CORRUPT") || isVdoError(error, "PD_BAD_COUNT"),
      `${what}, ${name}: ${String(error)}`,
    ).toBe(true);
  }
}

describe("a node", () => {
  test("with any one bit flipped under its checksum is refused by everything that reads it", async () => {
    const random = new Random(1);
    for (const number of [root, children[3] as number]) {
      for (let i = 0; i < 40; i++) {
        const bit = random.below(BLOCK_BYTES * 8);
        const bytes = damaged(number, ({ bytes: all }) => flip(all, bit), false);
        const found = await outcomes(bytes, ["range", "walk", "drop"]);
        for (const [name, error] of found) {
          expect(isVdoError(error, "VDO_CORRUPT"), `bit ${bit}, ${name}`).toBe(true);
          expect(String(error)).toContain(`B-tree node at block ${number}`);
          if (number !== root) expect(String(error)).toContain(`toy tree, block ${root} entry 3`);
        }
      }
    }
  });

  test("with any bit of its head flipped and a right checksum is refused, or is a legal node still", async () => {
    for (const number of [root, children[3] as number]) {
      for (let bit = 32; bit < 256; bit++) {
        const found = await outcomes(damaged(number, ({ bytes }) => flip(bytes, bit)));
        expectToldWell(found, `block ${number} bit ${bit}`);
        const isCount = bit >= 128 && bit < 160;
        if (!isCount)
          expect(
            [...found.values()].every((error) => error !== undefined),
            `bit ${bit}`,
          ).toBe(true);
      }
    }
  });

  test("with any bits of keys and values changed and a right checksum never harms the reader", async () => {
    const random = new Random(2);
    for (let i = 0; i < 80; i++) {
      const number = random.chance(0.7) ? root : random.pick(children);
      const bits = Array.from({ length: 1 + random.below(3) }, () =>
        random.chance(0.5) ? 256 + random.below(64 * 12) : 2048 * 8 + random.below(64 * 12),
      );
      const found = await outcomes(damaged(number, ({ bytes }) => flipAll(bytes, bits)));
      expectToldWell(found, `block ${number} bits ${bits}`);
    }
  });

  test("that is its own ancestor, out of the device, or another node's child is told", async () => {
    const cases: [string, number, (block: Block) => void, string][] = [
      ["itself", root, (block) => setAddress(block, 1, root), "child 1"],
      ["out of the device", root, (block) => setAddress(block, 1, BLOCKS + 1), "address"],
      ["far out of the device", root, (block) => setAddress(block, 1, 2 ** 52), "address"],
      ["nothing", root, (block) => setAddress(block, 1, 0), "child 1"],
      ["the superblock's map", root, (block) => setAddress(block, 1, 1), "block 1: kind"],
      ["a sibling", root, (block) => setAddress(block, 1, children[2] as number), "key"],
      ["keys out of order", root, (block) => setKey(block, 2, 1), "key 2"],
      ["too many entries", root, (block) => setEntryCount(block, 253), "entry count"],
      ["no entries", root, (block) => setEntryCount(block, 0), "entry count"],
      ["a key below its range", children[2] as number, (block) => setKey(block, 0, 1), "key 0"],
      ["a wrong value size", children[2] as number, (block) => block.view.setUint32(24, 16, true), "entries max"],
    ];
    for (const [what, number, change, text] of cases) {
      const error = (await outcomes(damaged(number, change), ["range"])).get("range");
      expect(isVdoError(error, "VDO_CORRUPT"), what).toBe(true);
      expect(String(error), what).toContain(text);
    }
  });

  test("in a circle of two is told by everything", async () => {
    const child = children[1] as number;
    // The leaf becomes an internal node that points back at the root.
    const bytes = damaged(child, (block) => {
      block.view.setUint32(4, 1, true);
      for (let i = 0; i < entryCount(block); i++) setAddress(block, i, root);
    });
    const found = await outcomes(bytes);
    for (const [name, error] of found) expect(isVdoError(error, "VDO_CORRUPT"), `${name}: ${String(error)}`).toBe(true);
    expect(String(found.get("range"))).toContain(`block ${root} entry 1, block ${child} entry 0`);
  });
});

test("siblings of different sorts never exchange entries", async () => {
  // A leaf in the middle says that it is internal: its values are small numbers, some of them addresses.
  const child = children[2] as number;
  const bytes = damaged(child, (block) => {
    block.view.setUint32(4, 1, true);
    for (let i = 0; i < entryCount(block); i++) setAddress(block, i, children[0] as number);
  });
  const store = await Store.open({ device: MemoryDevice.from(bytes), superblock: TOY });
  const tree = new BTree(store, { type: { codec: u64le }, name: "toy tree" });
  const top = await store.read(() => store.load(root, NODE_KIND));
  const low = u64le.get(top.view, 32 + 8);
  const filling = store.write(function* () {
    let at = root;
    for (let key = low; key < low + 2000; key++) at = (yield* tree.insert(at, [key], 1)).root;
  });
  await expect(filling).rejects.toMatchObject({ code: "VDO_CORRUPT" });
});

test("a walk reports damage with the keys that are lost, and goes on beside it", async () => {
  const lost: [number, number][] = [];
  let copy = image;
  for (const index of [0, 3]) {
    copy = copy.slice();
    copy.fill(0xff, (children[index] as number) * BLOCK_BYTES + 100, (children[index] as number) * BLOCK_BYTES + 200);
  }
  const store = await Store.open({ device: MemoryDevice.from(copy), superblock: TOY });
  const tree = new BTree(store, { type: { codec: u64le } });
  const keys: number[] = [];
  await store.read(() =>
    tree.walk(root, {
      entry: (key) => keys.push(key),
      damage: (error, { from, to }) => {
        expect(error.code).toBe("VDO_CORRUPT");
        lost.push([from, to]);
      },
    }),
  );
  const top = await store.read(() => store.load(root, NODE_KIND));
  const keyOf = (i: number): number => u64le.get(top.view, 32 + 8 * i);
  expect(lost).toEqual([
    [keyOf(0), keyOf(1) - 1],
    [keyOf(3), keyOf(4) - 1],
  ]);
  const all = Array.from({ length: 2000 }, (_, i) => ((i * 7919) % 10_007) + 1).sort((a, b) => a - b);
  expect(keys).toEqual(all.filter((key) => !lost.some(([from, to]) => key >= from && key <= to)));
});

describe("the metadata space map", () => {
  const rootAt = TOY.spaceMapRootOffset;

  test("with a root that cannot be is refused when the store is opened", async () => {
    for (const [offset, value] of [
      [rootAt, 0],
      [rootAt, BLOCKS + 1],
      [rootAt + 16, 0],
      [rootAt + 16, BLOCKS],
      [rootAt + 24, 0],
      [rootAt + 24, 2 ** 40],
    ] as const) {
      const copy = image.slice();
      const block = new Block(0, TOY.kind);
      block.bytes.set(copy.subarray(0, BLOCK_BYTES));
      u64le.set(block.view, offset, value);
      block.view.setUint32(0, blockChecksum(block.bytes, TOY.kind.salt), true);
      copy.set(block.bytes, 0);
      const opening = Store.open({ device: MemoryDevice.from(copy), superblock: TOY });
      await expect(opening, `${offset} ${value}`).rejects.toMatchObject({ code: "VDO_CORRUPT" });
    }
  });

  test("with a bitmap that is damaged lets reading go on and refuses changes", async () => {
    const store = await Store.open({ device: MemoryDevice.from(image), superblock: TOY });
    const index = spaceMapRoot.get(store.superblock.view, rootAt).bitmapRoot;
    const bitmap = new DataView(image.buffer, index * BLOCK_BYTES, BLOCK_BYTES).getUint32(16, true);
    const copy = image.slice();
    copy[bitmap * BLOCK_BYTES + 20] = 0x55;
    const hurt = await Store.open({ device: MemoryDevice.from(copy), superblock: TOY });
    const tree = new BTree(hurt, { type: { codec: u64le } });
    const [at] = getRoots(hurt.superblock, 1) as [number];
    expect((await hurt.read(() => tree.range(at))).length).toBe(2000);
    const change = hurt.write(() => tree.insert(at, [1], 1));
    await expect(change).rejects.toThrow(`metadata space map, bitmap 0: space-map bitmap at block ${bitmap}`);
    expect(hurt.poisoned).toBeDefined();
    await hurt.abort();
    expect(hurt.poisoned).toBeUndefined();
  });
});

function flip(bytes: Uint8Array, bit: number): void {
  bytes[bit >>> 3] = (bytes[bit >>> 3] as number) ^ (1 << (bit & 7));
}

function flipAll(bytes: Uint8Array, bits: readonly number[]): void {
  for (const bit of bits) flip(bytes, bit);
}
