/** The true counts of all metadata blocks, found by walking, compared with what the metadata space map says. */
import { viewOf } from "@vdo/base";
import { expect } from "vitest";
import { addressAt, entryCount, isLeaf, valueOffset } from "../../src/format/node.ts";
import {
  BITMAP_KIND,
  type BTree,
  type DiskSpaceMap,
  INDEX_KIND,
  NODE_KIND,
  type Steps,
  type Store,
  spaceMapRoot,
} from "../../src/index.ts";
import { bitmapCount } from "../../src/space-map/count-map.ts";
import { TOY } from "./toy-store.ts";

// biome-ignore lint/suspicious/noExplicitAny: trees of any values are walked alike.
type AnyTree = BTree<any>;

/** The store must just have been committed. Every block is visited; pointers to each are counted. */
export async function recount(
  store: Store,
  trees: readonly { tree: AnyTree; root: number }[],
  maps: readonly DiskSpaceMap[] = [],
  extra: (point: (number: number) => boolean) => Steps<void> = function* () {},
): Promise<void> {
  const counts = new Map<number, number>([[0, 1]]);
  /** True on the first visit. */
  const point = (number: number): boolean => {
    const count = (counts.get(number) ?? 0) + 1;
    counts.set(number, count);
    return count === 1;
  };
  const walk = function* (number: number, leaf: (view: DataView, at: number) => Steps<void>): Steps<void> {
    if (!point(number)) return;
    const node = yield* store.load(number, NODE_KIND);
    for (let i = 0; i < entryCount(node); i++) {
      if (isLeaf(node)) yield* leaf(node.view, valueOffset(node, i));
      else yield* walk(addressAt(node, i), leaf);
    }
  };
  const nothing = function* (): Steps<void> {};
  await store.read(function* () {
    for (const { tree, root } of trees) {
      const level = (depth: number) =>
        function* (view: DataView, at: number): Steps<void> {
          if (depth < tree.levels) yield* walk(Number(view.getBigUint64(at, true)), level(depth + 1));
        };
      yield* walk(root, level(1));
    }
    for (const map of maps) {
      const root = spaceMapRoot.decode(map.rootRecord());
      yield* walk(root.overflowRoot, nothing);
      yield* walk(root.bitmapRoot, function* (view, at) {
        if (point(Number(view.getBigUint64(at, true))))
          yield* store.load(Number(view.getBigUint64(at, true)), BITMAP_KIND);
      });
    }
    const root = spaceMapRoot.get(viewOf(store.superblock.bytes), TOY.spaceMapRootOffset);
    yield* walk(root.overflowRoot, nothing);
    point(root.bitmapRoot);
    const index = yield* store.load(root.bitmapRoot, INDEX_KIND);
    for (let i = 0; i < bitmapCount(root.blockCount); i++) {
      const bitmap = Number(index.view.getBigUint64(16 + 16 * i, true));
      point(bitmap);
      yield* store.load(bitmap, BITMAP_KIND);
    }
    yield* extra(point);
    const wrong: string[] = [];
    for (let number = 0; number < store.blockCount; number++) {
      const is = yield* store.count(number);
      const should = counts.get(number) ?? 0;
      if (is !== should) wrong.push(`block ${number}: count ${is}, ${should} pointers`);
    }
    expect(wrong).toEqual([]);
    expect(root.allocatedCount).toBe(counts.size);
    expect(store.allocatedCount).toBe(counts.size);
  });
}
