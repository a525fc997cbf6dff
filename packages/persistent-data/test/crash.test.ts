/**
 * The power goes at any write. What is found is the last commit that was acknowledged, or the one after it, whole; every
 * count is exact, and the store goes on from there.
 */
import { Random, u64le } from "@vdo/base";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import { BTree, DiskSpaceMap, forRuns, Store } from "../src/index.ts";
import { recount } from "./support/recount.ts";
import { TOY } from "./support/toy-store.ts";

const SEEDS = 120;
const BLOCKS = 1200;
const KEYS = 2000;

/** One tree with snapshots in it, and a map of what its values point at. */
class Subject {
  readonly store: Store;
  readonly data: DiskSpaceMap;
  readonly tree: BTree<number>;
  root: number;
  old = 0;

  constructor(store: Store, data: DiskSpaceMap, root: number) {
    this.store = store;
    this.data = data;
    this.root = root;
    this.tree = new BTree(store, {
      type: {
        codec: u64le,
        increment: (values) => forRuns(values, (begin, end) => data.increment(begin, end)),
        decrement: (values) => forRuns(values, (begin, end) => data.decrement(begin, end)),
      },
    });
  }

  static async create(disk: SimulatedDisk): Promise<Subject> {
    const store = await Store.create({ device: disk, superblock: TOY, cacheBlocks: 24 });
    const data = await store.write(() => DiskSpaceMap.create(store, { blockCount: 30_000 }));
    const subject = new Subject(store, data, 0);
    subject.root = await store.write(() => subject.tree.empty());
    await subject.commit(0);
    return subject;
  }

  static async open(disk: SimulatedDisk): Promise<{ subject: Subject; round: number }> {
    const store = await Store.open({ device: disk, superblock: TOY, cacheBlocks: 24 });
    const { view, bytes } = store.superblock;
    const subject = new Subject(store, DiskSpaceMap.open(store, bytes.subarray(192, 320)), u64le.get(view, 320));
    subject.old = u64le.get(view, 328);
    return { subject, round: u64le.get(view, 336) };
  }

  commit(round: number): Promise<void> {
    return this.store.commit(({ view, bytes }) => {
      bytes.set(this.data.rootRecord(), 192);
      u64le.set(view, 320, this.root);
      u64le.set(view, 328, this.old);
      u64le.set(view, 336, round);
    });
  }

  /** The work of a round is a function of its number. */
  async play(round: number): Promise<void> {
    const random = new Random(round);
    await this.store.write(() => this.#steps(random));
  }

  *#steps(random: Random) {
    if (random.chance(0.3)) {
      if (this.old !== 0) yield* this.tree.drop(this.old);
      this.old = this.root;
      yield* this.tree.clone(this.root);
    }
    for (let i = random.below(150); i >= 0; i--) {
      const key = random.below(KEYS);
      if (random.chance(0.3)) this.root = (yield* this.tree.remove(this.root, [key])).root;
      else {
        const block = yield* this.data.allocate();
        if (block === undefined) return;
        this.root = (yield* this.tree.insert(this.root, [key], block)).root;
      }
    }
  }

  async contents(): Promise<number[][]> {
    return this.store.read(() => this.#entries());
  }

  *#entries() {
    const pairs: number[][] = [];
    for (const root of [this.root, this.old]) {
      if (root === 0) continue;
      for (const { key, value } of yield* this.tree.range(root)) pairs.push([key, value]);
      pairs.push([-1, -1]);
    }
    return pairs;
  }
}

/** Plays until the disk's power is cut; returns the rounds acknowledged and what each left behind. */
async function playUntilCut(disk: SimulatedDisk, after: number) {
  const states: number[][][] = [];
  let acknowledged = -1;
  const work = async (): Promise<void> => {
    const subject = await Subject.create(disk);
    states.push(await subject.contents());
    acknowledged = 0;
    void disk.cutAfter(disk.completed + after);
    for (let round = 1; ; round++) {
      await subject.play(round);
      states.push(await subject.contents());
      await subject.commit(round);
      acknowledged = round;
    }
  };
  await expect(disk.run(work())).rejects.toMatchObject({ code: "VDO_IO" });
  return { states, acknowledged };
}

test(`a crash at any write leaves the last commit or the next one (${SEEDS} seeds)`, async () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const disk = new SimulatedDisk({ blockCount: BLOCKS, seed });
    const { states, acknowledged } = await playUntilCut(disk, 1 + new Random(seed).below(120));
    const crashed = disk.crash(seed);
    const check = async (): Promise<void> => {
      const { subject, round } = await Subject.open(crashed);
      expect([acknowledged, acknowledged + 1], `seed ${seed}`).toContain(round);
      expect(await subject.contents(), `seed ${seed}`).toEqual(states[round]);
      const roots = [subject.root, subject.old].filter((root) => root !== 0);
      const trees = roots.map((root) => ({ tree: subject.tree, root }));
      await recount(subject.store, trees, [subject.data]);
      await subject.play(round + 1);
      await subject.commit(round + 1);
      const after = [subject.root, subject.old].filter((root) => root !== 0);
      await recount(
        subject.store,
        after.map((root) => ({ tree: subject.tree, root })),
        [subject.data],
      );
    };
    await crashed.run(check());
  }
});

test("a failed write or flush poisons, abort returns to the last commit, and work goes on", async () => {
  for (let seed = 0; seed < 30; seed++) {
    const disk = new SimulatedDisk({ blockCount: BLOCKS, seed });
    const work = async (): Promise<void> => {
      const subject = await Subject.create(disk);
      await subject.play(1);
      await subject.commit(1);
      const before = await subject.contents();
      disk.setFaults(seed % 2 === 0 ? { writeErrors: 1 } : { flushErrors: 1 });
      const failing = (async () => {
        await subject.play(2);
        await subject.commit(2);
      })();
      await expect(failing, `seed ${seed}`).rejects.toMatchObject({ code: "VDO_IO" });
      await expect(subject.play(3)).rejects.toMatchObject({ code: "PD_POISONED" });
      expect(subject.store.poisoned).toBeDefined();
      disk.setFaults({ writeErrors: 0, flushErrors: 0 });
      await subject.store.abort();
      const { subject: again, round } = await Subject.open(disk);
      expect(round).toBe(1);
      expect(await again.contents()).toEqual(before);
      await again.play(4);
      await again.commit(4);
      await recount(
        again.store,
        [again.root, again.old].filter((root) => root !== 0).map((root) => ({ tree: again.tree, root })),
        [again.data],
      );
    };
    await disk.run(work());
  }
});

test("running out of metadata blocks at any moment fails cleanly and is taken back by abort", async () => {
  for (let blocks = 14; blocks < 20; blocks++) {
    const disk = new SimulatedDisk({ blockCount: blocks, seed: blocks });
    const work = async (): Promise<void> => {
      const subject = await Subject.create(disk);
      const before = await subject.contents();
      let rounds = 0;
      try {
        for (;;) {
          await subject.play(++rounds);
          if (rounds > 200) break;
        }
      } catch (error) {
        expect(error).toMatchObject({ code: "VDO_NO_SPACE" });
      }
      expect(rounds).toBeLessThan(200);
      await subject.store.abort();
      const { subject: again } = await Subject.open(disk);
      expect(await again.contents()).toEqual(before);
      await recount(again.store, [{ tree: again.tree, root: again.root }], [again.data]);
    };
    await disk.run(work());
  }
});
