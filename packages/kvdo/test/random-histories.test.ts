/**
 * Random histories on small volumes against a plain array: every read, and after every clean stop the whole volume and an
 * audit of its metadata. Small journals, slabs, caches and pools, so that every ring wraps and every limit is met.
 */
import { isVdoError, Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../src/index.ts";
import { audit } from "./support/audit.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const BLOCK = 4096;
/** Content number 0 is zeros; others name blocks of the generator, some of them compressible. */
function content(number: number): Uint8Array {
  if (number === 0) return new Uint8Array(BLOCK);
  return workloadBlock(number, number % 3 === 0 ? 900 : number % 3 === 1 ? 4096 : 250);
}

interface History {
  seed: number;
  tiny: TinyOptions;
  options: VolumeOptions;
  operations: number;
  /** Distinct contents: fewer give more duplicates. */
  contents: number;
  /** Logical blocks that are used, spread over the volume. */
  span: number;
  stops: number;
}

class Player {
  readonly random: Random;
  readonly history: History;
  readonly device: MemoryDevice;
  /** Content number of each logical block written; possible ones while a refused write leaves it open. */
  readonly model = new Map<number, number>();
  volume!: VdoVolume;
  refused = 0;
  blocked = 0;
  journalBlocks = 0;
  pressure = 0;

  constructor(history: History) {
    this.history = history;
    this.random = new Random(history.seed);
    this.device = new MemoryDevice({ blockCount: tinyBlocks(history.tiny) });
  }

  lbn(): number {
    const stride = Math.floor(this.history.tiny.logicalBlocks / this.history.span);
    return this.random.below(this.history.span) * stride;
  }

  async #write(): Promise<void> {
    const at = this.lbn();
    const count = Math.min(1 + this.random.below(8), this.history.tiny.logicalBlocks - at);
    const numbers = Array.from({ length: count }, () => this.random.below(this.history.contents));
    const bytes = new Uint8Array(count * BLOCK);
    for (const [i, number] of numbers.entries()) bytes.set(content(number), i * BLOCK);
    try {
      await this.volume.write(at, bytes, { fua: this.random.chance(0.1) });
      for (const [i, number] of numbers.entries()) this.model.set(at + i, number);
    } catch (error) {
      if (!isVdoError(error, "VDO_NO_SPACE")) throw error;
      this.refused++;
      // Each block holds the old content or the new one.
      for (let i = 0; i < count; i++) {
        const actual = new Uint8Array(BLOCK);
        await this.volume.read(at + i, actual);
        const options = [this.model.get(at + i) ?? 0, numbers[i]!];
        const found = options.find((number) => Buffer.compare(actual, content(number)) === 0);
        expect(found, `block ${at + i} after a refused write`).toBeDefined();
        this.model.set(at + i, found!);
      }
    }
  }

  async #clear(): Promise<void> {
    const at = this.lbn();
    const count = Math.min(
      1 + this.random.below(this.random.chance(0.1) ? 3000 : 8),
      this.history.tiny.logicalBlocks - at,
    );
    const fua = this.random.chance(0.1);
    const pick = this.random.below(3);
    if (pick === 0) await this.volume.discard(at, count, { fua });
    else if (pick === 1) await this.volume.writeZeroes(at, Math.min(count, 16), { fua });
    else await this.volume.writeZeroes(at, count, { fua, mayUnmap: true });
    for (let i = 0; i < (pick === 1 ? Math.min(count, 16) : count); i++) this.model.delete(at + i);
  }

  async #check(at: number): Promise<void> {
    const actual = new Uint8Array(BLOCK);
    await this.volume.read(at, actual);
    expect(Buffer.compare(actual, content(this.model.get(at) ?? 0)), `block ${at}`).toBe(0);
  }

  /** Chains of operations run side by side, each on logical blocks of its own. */
  async #burst(): Promise<void> {
    const writes: Promise<void>[] = [];
    const taken = new Set<number>();
    for (let i = 0; i < 40; i++) {
      const at = this.lbn();
      if (taken.has(at)) continue;
      taken.add(at);
      const number = this.random.below(this.history.contents);
      writes.push(
        this.volume.write(at, content(number)).then(
          () => void this.model.set(at, number),
          (error: unknown) => {
            if (!isVdoError(error, "VDO_NO_SPACE")) throw error;
            this.refused++;
          },
        ),
      );
      if (this.random.chance(0.3)) writes.push(this.volume.read(at, new Uint8Array(BLOCK)));
    }
    await Promise.all(writes);
  }

  async step(): Promise<void> {
    const dice = this.random.below(100);
    if (dice < 35) await this.#write();
    else if (dice < 55) await this.#burst();
    else if (dice < 70) await this.#clear();
    else if (dice < 90) await this.#check(this.lbn());
    else if (dice < 97) await this.volume.flush();
    else if (dice < 99) await this.volume.setCompression(this.random.chance(0.7));
    else {
      await this.volume.suspend({ save: this.random.chance(0.5) });
      await this.volume.resume();
    }
  }

  async run(): Promise<void> {
    await formatTiny(this.device, this.history.tiny);
    for (let stop = 0; stop < this.history.stops; stop++) {
      this.volume = await VdoVolume.open(this.device, this.history.options);
      for (let i = 0; i < this.history.operations; i++) await this.step();
      for (const at of this.model.keys()) await this.#check(at);
      await this.volume.close();
      const found = await audit(this.device);
      expect(found.problems, `seed ${this.history.seed}, stop ${stop}`).toEqual([]);
      const after = this.volume.statistics();
      expect([after.currentVIOsInProgress, after.packer.compressedFragmentsInPacker]).toEqual([0, 0]);
      this.blocked += after.slabJournal.blockedCount;
      this.journalBlocks += after.journal.blocks.committed;
      this.pressure += after.blockMap.discardRequired;
    }
  }
}

const SMALL: TinyOptions = {
  slabBits: 10,
  slabs: 6,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 200_000,
};
const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, maximumAge: 10, dataVios: 64 };

const totals = { refused: 0, blocked: 0, journalBlocks: 0, pressure: 0 };

for (let seed = 1; seed <= 8; seed++) {
  test(`a small volume keeps what it was told, seed ${seed}`, async () => {
    const random = new Random(seed * 7919);
    const player = new Player({
      seed,
      tiny: {
        ...SMALL,
        slabs: 2 + random.below(6),
        recoveryJournalBlocks: 2 ** (4 + random.below(4)),
        slabJournalBlocks: seed % 2 === 0 ? 4 : 8,
      },
      options: {
        ...OPTIONS,
        maximumAge: 1 + random.below(6),
        dataVios: random.chance(0.3) ? 2048 : 8 + random.below(100),
      },
      operations: 250,
      contents: random.pick([20, 500, 1_000_000]),
      span: random.pick([200, 2000, 20_000]),
      stops: 3,
    });
    await player.run();
    totals.refused += player.refused;
    totals.blocked += player.blocked;
    totals.journalBlocks += player.journalBlocks;
    totals.pressure += player.pressure;
  });
}

test("the histories met full volumes, full slab journals, full caches, and journals around their ring", () => {
  console.info(totals);
  expect(totals.refused).toBeGreaterThan(0);
  expect(totals.blocked).toBeGreaterThan(0);
  expect(totals.pressure).toBeGreaterThan(0);
  expect(totals.journalBlocks).toBeGreaterThan(200);
});

test("a volume with an index shares what it stored before", async () => {
  await new Player({
    seed: 99,
    tiny: SMALL,
    options: { ...OPTIONS, deduplication: true },
    operations: 300,
    contents: 60,
    span: 2000,
    stops: 2,
  }).run();
});
