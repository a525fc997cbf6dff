/**
 * Speed of trees: operations a second and blocks written per operation.
 *
 *     npx tsx --conditions=@vdo/source packages/persistent-data/bench/tree-speed.ts [inserts, default 1000000]
 *
 * A commit follows every 1000 operations, as with a program that stores something; the device is memory, so the figures are
 * the library's. CPU time is the figure to compare on a busy machine.
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

/** Runs `step` `count` times in batches with a commit each, and prints the figures. */
async function measure(name: string, count: number, step: (i: number) => Steps<void>): Promise<void> {
  await report(name, count, async () => {
    for (let at = 0; at < count; at += PER_COMMIT) {
      await store.write(function* () {
        for (let i = at; i < Math.min(count, at + PER_COMMIT); i++) yield* step(i);
      });
      await store.commit(() => undefined);
    }
  });
}

async function report(name: string, count: number, work: () => Promise<void>): Promise<void> {
  const before = store.traffic.blocksWritten;
  const start = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  await work();
  const used = process.cpuUsage(cpu);
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const cpuSeconds = (used.user + used.system) / 1e6;
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  const rate = (time: number): string =>
    Math.round(count / time)
      .toLocaleString("en")
      .padStart(10);
  const blocks = ((store.traffic.blocksWritten - before) / count).toFixed(3);
  console.log(
    `${name.padEnd(30)} ${seconds.toFixed(1).padStart(6)} s ${rate(seconds)} /s, ${rate(cpuSeconds)} /s of CPU, ` +
      `${blocks} blocks written each, ${memory} MiB`,
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
let missed = 0;
await report("random lookups (peek)", COUNT, async () => {
  for (let i = 0; i < COUNT; i++) if (tree.peek(root, [keys[i] as number]) === NOT_CACHED) missed++;
});
if (missed > 0) console.log(`  ${missed} of them met a block that was not cached`);
await measure("random removals", COUNT / 10, function* (i) {
  root = (yield* tree.remove(root, [keys[i] as number])).root;
});
let ordered = await store.write(() => tree.empty());
await measure("inserts in order", COUNT, function* (i) {
  ordered = (yield* tree.insert(ordered, [i], i)).root;
});
await report("bulk load", COUNT, async () => {
  await store.write(() =>
    tree.load(
      (function* () {
        for (let i = 0; i < COUNT; i++) yield [i, i] as const;
      })(),
    ),
  );
  await store.commit(() => undefined);
});
