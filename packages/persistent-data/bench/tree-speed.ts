/**
 * Speed of trees: operations a second and blocks written per operation. Run: npx tsx --conditions=@vdo/source bench/tree-speed.ts [inserts]
 *
 * A commit follows every 1000 operations, as a program would do that stores something; the device is memory, so that the
 * figures are the library's.
 */
import { Random, u64le } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { BTree, NOT_CACHED, type Steps, Store } from "../src/index.ts";

const COUNT = Number(process.argv[2] ?? 1_000_000);
const PER_COMMIT = 1000;
const device = new MemoryDevice({ blockCount: 65_536 });
const superblock = { kind: { name: "bench superblock", salt: 1, addressOffset: 8 }, spaceMapRootOffset: 64 };
const store = await Store.create({ device, superblock });
const tree = new BTree(store, { type: { codec: u64le } });
let root = await store.write(() => tree.empty());

/** Runs `step` COUNT times in batches with a commit each, and prints the figures. */
async function measure(name: string, count: number, step: (i: number) => Steps<void>): Promise<void> {
  const written = store.traffic.blocksWritten;
  const start = process.hrtime.bigint();
  for (let at = 0; at < count; at += PER_COMMIT) {
    await store.write(function* () {
      for (let i = at; i < Math.min(count, at + PER_COMMIT); i++) yield* step(i);
    });
    await store.commit(() => undefined);
  }
  report(name, count, { start, blocks: store.traffic.blocksWritten - written });
}

function report(name: string, count: number, { start, blocks }: { start: bigint; blocks: number }): void {
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  console.log(
    `${name.padEnd(34)} ${seconds.toFixed(2).padStart(7)} s ${Math.round(count / seconds)
      .toLocaleString("en")
      .padStart(11)} /s ${(blocks / count).toFixed(3).padStart(8)} blocks written each, ${memory} MiB`,
  );
}

const random = new Random(1);
const keys = Float64Array.from({ length: COUNT }, () => random.below(2 ** 30) * 64 + random.below(64));

await measure("random inserts", COUNT, function* (i) {
  root = (yield* tree.insert(root, [keys[i] as number], i)).root;
});
await measure("random lookups (steps)", COUNT, function* (i) {
  yield* tree.lookup(root, [keys[i] as number]);
});
const start = process.hrtime.bigint();
let missed = 0;
for (let i = 0; i < COUNT; i++) if (tree.peek(root, [keys[i] as number]) === NOT_CACHED) missed++;
report(`peeks (${missed} not cached)`, COUNT, { start, blocks: 0 });
await measure("random removals of a tenth", COUNT / 10, function* (i) {
  root = (yield* tree.remove(root, [keys[i] as number])).root;
});
let ordered = await store.write(() => tree.empty());
await measure("inserts in order", COUNT, function* (i) {
  ordered = (yield* tree.insert(ordered, [i], i)).root;
});
