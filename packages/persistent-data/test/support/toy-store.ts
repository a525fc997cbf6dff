/** A store with the smallest superblock that will do: a root or two besides the space maps. */
import { u64le } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { addressAt, entryCount, isLeaf, keyAt } from "../../src/format/node.ts";
import { type Block, type BlockKind, NODE_KIND, type Steps, Store, type SuperblockFormat } from "../../src/index.ts";

const TOY_KIND: BlockKind = { name: "toy superblock", salt: 4711, addressOffset: 8 };
export const TOY: SuperblockFormat = { kind: TOY_KIND, spaceMapRootOffset: 64 };
/** Where toy superblocks keep roots. All that changes is in the first 512 bytes, the only part that is sure to be written whole. */
const ROOTS_AT = 320;

export function putRoots(block: Block, roots: readonly number[]): void {
  roots.forEach((root, i) => {
    u64le.set(block.view, ROOTS_AT + 8 * i, root);
  });
}

export function getRoots(block: Block, count: number): number[] {
  return Array.from({ length: count }, (_, i) => u64le.get(block.view, ROOTS_AT + 8 * i));
}

export async function toyStore(
  blockCount = 4096,
  device: BlockDevice = new MemoryDevice({ blockCount }),
): Promise<Store> {
  return Store.create({ device, superblock: TOY });
}

/** Entry counts of the leaves from left to right, and the keys of the root. */
export async function shapeOf(store: Store, root: number): Promise<{ leaves: number[]; keys: number[] }> {
  return store.read(function* () {
    const leaves: number[] = [];
    const top = yield* store.load(root, NODE_KIND);
    const keys = Array.from({ length: entryCount(top) }, (_, i) => keyAt(top, i));
    const visit = function* (node: Block): Steps<void> {
      if (isLeaf(node)) {
        leaves.push(entryCount(node));
        return;
      }
      for (let i = 0; i < entryCount(node); i++) yield* visit(yield* store.load(addressAt(node, i), NODE_KIND));
    };
    yield* visit(top);
    return { leaves, keys };
  });
}
