/**
 * A device that returns errors: whatever fails, every request ends, what was made durable stays readable, and a failure
 * that endangers what was acknowledged makes the volume read-only, now and after it is opened again.
 */
import { isVdoError, Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { type FaultRule, FaultyDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { readVolumeInfo, VdoVolume, type VolumeEvent, type VolumeOptions } from "../src/index.ts";
import { pagesOf, type Regions, regionsOf } from "./support/regions.ts";
import { allSettle, settles } from "./support/settles.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const BLOCK = 4096;
const TINY: TinyOptions = {
  slabBits: 11,
  slabs: 4,
  recoveryJournalBlocks: 64,
  slabJournalBlocks: 4,
  logicalBlocks: 400_000,
};
const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, maximumAge: 2, dataVios: 512 };
/** Logical blocks in use, each in a leaf of its own, so that the cache of 128 pages is under pressure. */
const LEAVES = 220;
const lbnOf = (place: number): number => place * 812;
const content = (number: number): Uint8Array => workloadBlock(number, number % 2 === 0 ? 700 : BLOCK);

class Rig {
  readonly base = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  device = new FaultyDevice(this.base);
  regions!: Regions;
  leaves!: { start: number; count: number };
  volume!: VdoVolume;
  readonly events: VolumeEvent[] = [];
  readonly random: Random;
  /** Content numbers that each place may hold. */
  readonly allowed: Set<number>[] = Array.from({ length: LEAVES }, () => new Set<number>());
  #next = 1000;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  async start(options: VolumeOptions = {}): Promise<void> {
    await formatTiny(this.base, TINY);
    this.volume = await VdoVolume.open(this.base, OPTIONS);
    await Promise.all(
      this.allowed.map((set, place) => {
        set.add(place);
        return this.volume.write(lbnOf(place), content(place));
      }),
    );
    await this.volume.close();
    this.regions = await regionsOf(this.base);
    const leaves = await Promise.all(
      this.allowed.map(async (_, place) => (await pagesOf(this.base, lbnOf(place)))[0]!),
    );
    this.leaves = { start: Math.min(...leaves), count: Math.max(...leaves) - Math.min(...leaves) + 1 };
    await this.open(options);
  }

  async open(options: VolumeOptions = {}): Promise<void> {
    this.device = new FaultyDevice(this.base);
    this.volume = await VdoVolume.open(this.device, {
      ...OPTIONS,
      ...options,
      onChange: (event) => void this.events.push(event),
    });
  }

  /** A round of everything at once; returns the codes of what was refused. */
  async round(): Promise<string[]> {
    const works: Promise<void>[] = [];
    const busy = new Set<number>();
    for (let i = 0; i < 60; i++) {
      const place = this.random.below(LEAVES);
      if (busy.has(place)) continue;
      busy.add(place);
      works.push(this.#one(place, this.random.below(10)));
    }
    works.push(this.volume.flush());
    const outcomes = await allSettle("a round of requests", works);
    return outcomes.flatMap((outcome) =>
      outcome.status === "rejected" ? [(outcome.reason as { code: string }).code] : [],
    );
  }

  async #one(place: number, dice: number): Promise<void> {
    const at = lbnOf(place);
    if (dice < 2) return this.check(place);
    const fua = dice === 9;
    const isDiscard = dice === 2;
    const number = isDiscard ? 0 : this.#next++;
    // Refused or acknowledged, either content is right from now on: a later failure may lose what was not flushed.
    this.allowed[place]!.add(isDiscard ? -1 : number);
    if (isDiscard) await this.volume.discard(at, 1);
    else await this.volume.write(at, content(number), { fua });
  }

  async check(place: number): Promise<void> {
    const actual = new Uint8Array(BLOCK);
    await this.volume.read(lbnOf(place), actual);
    const found = [...this.allowed[place]!].some(
      (number) => Buffer.compare(actual, number === -1 ? new Uint8Array(BLOCK) : content(number)) === 0,
    );
    expect(found, `place ${place} holds a version that was written`).toBe(true);
  }

  async checkAll(): Promise<void> {
    await allSettle(
      "reads of all places",
      this.allowed.map((_, place) => this.check(place)),
    ).then((outcomes) => {
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    });
  }

  async roundsUntilReadOnly(limit: number): Promise<void> {
    for (let i = 0; i < limit && this.volume.status().mode !== "read-only"; i++) await this.round();
  }
}

interface Row {
  what: string;
  rule: (rig: Rig) => FaultRule | Promise<FaultRule>;
  /** Rounds until the failure is met; 0: the clean stop meets it. */
  rounds: number;
  before?: (rig: Rig) => Promise<void>;
}

/** A leaf that does not exist yet, in a tree that does. */
const NEW_LEAF = LEAVES + 5;

const ROWS: Row[] = [
  {
    what: "data write",
    rule: ({ regions }) => ({ operation: "write", blocks: { start: regions.slab(0).data.start + 750, count: 200 } }),
    rounds: 60,
  },
  {
    what: "journal write",
    rule: ({ regions }) => ({ operation: "write", blocks: regions.journal, after: 5 }),
    rounds: 60,
  },
  { what: "leaf write", rule: ({ leaves }) => ({ operation: "write", blocks: leaves }), rounds: 60 },
  { what: "leaf read", rule: ({ leaves }) => ({ operation: "read", blocks: leaves, after: 3, times: 1 }), rounds: 60 },
  { what: "leaf write at the end", rule: ({ leaves }) => ({ operation: "write", blocks: leaves }), rounds: 0 },
  {
    what: "interior page write",
    before: (rig) => rig.volume.write(lbnOf(NEW_LEAF), content(1)),
    rule: async ({ base }) => {
      const [, parent] = await pagesOf(base, lbnOf(NEW_LEAF));
      return { operation: "write", blocks: { start: parent as number, count: 1 } };
    },
    rounds: 0,
  },
  ...[0, 90].flatMap((rounds): Row[] => [
    {
      what: `slab summary write, ${rounds} rounds`,
      rule: ({ regions }) => ({ operation: "write", blocks: regions.summary }),
      rounds,
    },
    {
      what: `slab journal write, ${rounds} rounds`,
      rule: ({ regions }) => ({ operation: "write", blocks: regions.slab(0).journal }),
      rounds,
    },
    {
      what: `reference count write, ${rounds} rounds`,
      rule: ({ regions }) => ({ operation: "write", blocks: regions.slab(0).counts }),
      rounds,
    },
  ]),
  { what: "flush", rule: () => ({ operation: "flush", after: 7, times: 1 }), rounds: 60 },
];

describe.each(ROWS)("the device fails a $what", ({ what, rule, rounds, before }) => {
  test.each([1, 2])("every request ends, reads go on, and the state is kept (seed %i)", async (seed) => {
    const rig = new Rig(seed);
    await rig.start();
    await before?.(rig);
    rig.device.add(await rule(rig));
    await rig.roundsUntilReadOnly(rounds || 3);
    const { volume } = rig;
    if (rounds > 0) {
      expect(volume.status().mode, what).toBe("read-only");
      expect(volume.readOnly).toBe(true);
      await rig.checkAll();
      const refused = await rig.round();
      expect(refused.length).toBeGreaterThan(0);
      expect(new Set(refused), what).toEqual(new Set(["VDO_READ_ONLY"]));
      await settles("close", volume.close());
    } else {
      const error = await settles(
        "close",
        volume.close().catch((reason: unknown) => reason),
      );
      expect(isVdoError(error, "VDO_READ_ONLY"), String(error)).toBe(true);
      expect((error as Error).message).toContain("vdo forceRebuild");
    }
    expect(rig.events.filter(({ type }) => type === "readOnly")).toHaveLength(1);
    expect(volume.statistics().currentVIOsInProgress).toBe(0);
    expect(volume.statistics().packer.compressedFragmentsInPacker).toBe(0);

    expect((await readVolumeInfo(rig.base)).state).toBe("READ_ONLY_MODE");
    await rig.open();
    expect(rig.volume.status().mode).toBe("read-only");
    await expect(rig.volume.write(0, new Uint8Array(BLOCK))).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await rig.checkAll();
    await settles("close", rig.volume.close());
  });
});
