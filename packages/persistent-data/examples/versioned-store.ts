/** A key-value store whose versions cost one count each, in thirty lines of `@vdo/persistent-data`. */
import { u64le } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { addressType, BTree, Store } from "@vdo/persistent-data";

// Block 0 is ours: any kind of block with room for the space map's root (at 64 here) and our own root (at 192).
const superblock = { kind: { name: "versions superblock", salt: 2026, addressOffset: 8 }, spaceMapRootOffset: 64 };
const device = new MemoryDevice({ blockCount: 1024 }); // or a FileDevice
const store = await Store.create({ device, superblock });

// version → key → value: two levels. Seen from above, a version is the root of a tree that may be shared.
const versions = new BTree(store, { levels: 2, type: { codec: u64le }, name: "versions" });
const roots = new BTree(store, { type: addressType(store), name: "versions" });
let root = await store.write(() => versions.empty());

async function put(version: number, key: number, value: number): Promise<void> {
  await store.write(function* () {
    root = (yield* versions.insert(root, [version, key], value)).root;
  });
}

/** O(1), however large the version is. */
async function snapshot(from: number, to: number): Promise<void> {
  await store.write(function* () {
    const shared = (yield* roots.lookup(root, [from])) as number;
    yield* store.increment(shared, shared + 1);
    root = (yield* roots.insert(root, [to], shared)).root;
  });
}

for (let key = 0; key < 1000; key++) await put(1, key, key * key);
await snapshot(1, 2);
await put(2, 30, 7);
await store.commit(({ view }) => u64le.set(view, 192, root));

const again = await Store.open({ device, superblock });
const found = new BTree(again, { levels: 2, type: { codec: u64le }, name: "versions" });
root = u64le.get(again.superblock.view, 192);
console.log(await again.read(() => found.lookup(root, [1, 30]))); // 900
console.log(await again.read(() => found.lookup(root, [2, 30]))); // 7
console.log(`${again.allocatedCount} blocks hold both versions`); // 13 blocks hold both versions
