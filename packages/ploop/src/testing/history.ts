/**
 * A random life of a stack on simulated disks, next to a plain model: for each sector, every version that may be read after
 * a power cut. One seed is one history.
 */
import { isVdoError, Random } from "@vdo/base";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { mergeIntoTop } from "../device/operations/merge.ts";
import { resizeTop } from "../device/operations/resize.ts";
import { snapshotTop } from "../device/operations/stack.ts";
import { PloopDevice } from "../device/ploop-device.ts";
import { DeviceFile } from "../file/device-file.ts";
import { checkImage } from "../image/check.ts";
import { createImage } from "../image/create.ts";

const SECTOR = 512;
const BLOCK = 4096;
const SECTORS = BLOCK / SECTOR;
const CLUSTER = 32768;
/** Blocks of each simulated disk: the file's length, and all a file of 40 clusters needs. */
const DISK_BLOCKS = 1 + 96 * (CLUSTER / BLOCK);

/** Of the dirty bitmap that most histories keep, with the sectors of one bit. */
const BITMAP = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const GRANULARITY = 16;

/** Stamps of sectors: the first word of each. */
class Model {
  /** The version read now. */
  current: Uint32Array;
  /** Versions a crash may bring back: those since the last flush, and the one before them. */
  #old = new Map<number, Set<number>>();

  constructor(sectors: number) {
    this.current = new Uint32Array(sectors);
  }

  grow(sectors: number): void {
    const current = new Uint32Array(sectors);
    current.set(this.current.subarray(0, Math.min(sectors, this.current.length)));
    this.current = current;
  }

  /** `stamp` may be read from now on, and may not. */
  begin(sector: number, stamp: number): void {
    const set = this.#old.get(sector) ?? new Set([this.current[sector] as number]);
    set.add(stamp);
    this.#old.set(sector, set);
  }

  end(sector: number, stamp: number): void {
    this.current[sector] = stamp;
  }

  /** Everything that had ended when the flush was called is durable; here nothing else is under way. */
  flushed(): void {
    this.#old.clear();
  }

  allows(sector: number, stamp: number): boolean {
    return this.current[sector] === stamp || this.#old.get(sector)?.has(stamp) === true;
  }
}

export interface HistoryCounts {
  crashes: number;
  snapshots: number;
  merges: number;
  resizes: number;
  /** Times that a bitmap was there again after a stop. */
  bitmaps: number;
}

export class History {
  readonly counts: HistoryCounts = { crashes: 0, snapshots: 0, merges: 0, resizes: 0, bitmaps: 0 };
  readonly #random: Random;
  readonly #seed: number;
  readonly #version: 1 | 2;
  #disks: SimulatedDisk[] = [];
  #device!: PloopDevice;
  #model: Model;
  #stamp = 1;
  #clusters: number;
  /** Sectors that changed since the bitmap began; undefined when there must be none. */
  #changed: Set<number> | undefined;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#version = this.#random.chance(0.5) ? 1 : 2;
    this.#clusters = 3 + this.#random.below(10);
    this.#model = new Model((this.#clusters * CLUSTER) / SECTOR);
  }

  async run(): Promise<HistoryCounts> {
    this.#disks = [await this.#newImage()];
    await this.#open();
    const lives = 1 + this.#random.below(3);
    for (let life = 0; life < lives; life++) {
      const crashes = this.#random.chance(0.7);
      if (crashes) this.#planCut();
      try {
        for (let round = 2 + this.#random.below(7); round > 0; round--) await this.#round();
        if (crashes) await Promise.all(this.#disks.map((disk) => disk.cut()));
        else await this.#stop();
      } catch (error) {
        if (!this.#disks.some((disk) => disk.isCut)) throw error;
      }
      if (crashes) await this.#crash();
      await this.#open();
      await this.#verify();
    }
    await this.#stop();
    await this.#checkClean();
    return this.counts;
  }

  /** The power goes for all disks at once. */
  #planCut(): void {
    const disk = this.#disks.at(-1) as SimulatedDisk;
    void disk.cutAfter(disk.completed + this.#random.below(120)).then(() => {
      for (const other of this.#disks) other.cut();
    });
  }

  async #newImage(): Promise<SimulatedDisk> {
    const disk = new SimulatedDisk({
      blockCount: DISK_BLOCKS,
      seed: this.#random.next32(),
      discard: this.#random.chance(0.5),
      batchMax: 8,
    });
    const file = await DeviceFile.open("delta", disk);
    await createImage(file, {
      version: this.#version,
      sizeSectors: (this.#clusters * CLUSTER) / SECTOR,
      clusterSectors: 64,
    });
    return disk;
  }

  async #open(): Promise<void> {
    const deltas = await Promise.all(
      this.#disks.map(async (disk, level) => ({
        file: await DeviceFile.open(`delta ${level}`, disk, { readOnly: level < this.#disks.length - 1 }),
      })),
    );
    this.#device = await PloopDevice.open({
      deltas,
      blockSize: BLOCK,
      extendBytes: this.#random.pick([1, 8 * CLUSTER]),
      mapPagesMax: 4,
    });
    this.#checkBitmap();
    if (this.#changed === undefined && this.#random.chance(0.7)) {
      const { sizeSectors } = this.#device.engine.top.header;
      this.#device.bitmaps.start({ uuid: BITMAP, sizeSectors, granularity: GRANULARITY });
      this.#changed = new Set();
    }
  }

  /** Nothing that changed is missing: after a stop the bitmap has it all, after a crash there is no bitmap. */
  #checkBitmap(): void {
    const { list } = this.#device.bitmaps;
    this.#expect(list.length === (this.#changed === undefined ? 0 : 1), -1, `${list.length} bitmaps`);
    for (const sector of this.#changed ?? []) {
      this.#expect(list[0]?.isMarked(Math.floor(sector / GRANULARITY)) === true, sector, "a change that was not noted");
    }
    if (this.#changed === undefined) return;
    this.counts.bitmaps++;
    if (!this.#random.chance(0.3)) return;
    this.#device.bitmaps.take(BITMAP);
    this.#changed.clear();
  }

  /** Ends the device in an orderly way; the disks go on as new ones with the same content. */
  async #stop(): Promise<void> {
    await this.#device.close();
    this.#model.flushed();
    this.#disks = this.#disks.map((disk) => disk.crash(this.#random.next32(), { seed: this.#random.next32() }));
  }

  async #crash(): Promise<void> {
    this.counts.crashes++;
    this.#changed = undefined;
    for (const disk of this.#disks) disk.cut();
    await this.#device.close().catch(() => undefined);
    this.#disks = this.#disks.map((disk) => disk.crash(this.#random.next32(), { seed: this.#random.next32() }));
  }

  async #round(): Promise<void> {
    const roll = this.#random.below(20);
    if (roll === 0) await this.#snapshot();
    else if (roll === 1) await this.#underLoad(() => this.#merge());
    else if (roll === 2) await this.#underLoad(() => this.#resize());
    else if (roll <= 4) {
      await this.#device.flush();
      this.#model.flushed();
    } else await this.#load();
  }

  async #underLoad(operation: () => Promise<void>): Promise<void> {
    await Promise.all([this.#load(), operation(), this.#load(0.5)]);
  }

  /** Several requests at once, on ranges that do not overlap. `from`: only the upper part of the device. */
  async #load(from = 0): Promise<void> {
    const blocks = (this.#clusters * CLUSTER) / BLOCK;
    const lanes = 1 + this.#random.below(4);
    const first = Math.floor(blocks * from);
    const lane = Math.floor((from === 0 ? Math.floor(blocks / 2) : blocks - first) / lanes);
    const acts: Promise<void>[] = [];
    for (let i = 0; i < lanes && lane > 0; i++) {
      const count = 1 + this.#random.below(Math.min(lane, 20));
      acts.push(this.#request(first + i * lane + this.#random.below(lane - count + 1), count));
    }
    await Promise.all(acts);
  }

  async #request(start: number, count: number): Promise<void> {
    const kind = this.#random.pick(["write", "write", "write", "zero", "discard", "read"] as const);
    const sectors = Array.from({ length: count * SECTORS }, (_, i) => start * SECTORS + i);
    if (kind !== "read") for (const sector of sectors) this.#changed?.add(sector);
    if (kind === "write") {
      const stamp = this.#stamp++;
      for (const sector of sectors) this.#model.begin(sector, stamp);
      await this.#device.write(start, new Uint8Array(new Uint32Array((count * BLOCK) / 4).fill(stamp).buffer));
      for (const sector of sectors) this.#model.end(sector, stamp);
    } else if (kind === "read") {
      const stamps = await this.#read(start, count);
      for (const [i, sector] of sectors.entries())
        this.#expect(stamps[i] === this.#model.current[sector], sector, stamps[i]);
    } else {
      for (const sector of sectors) this.#model.begin(sector, 0);
      if (kind === "zero") await this.#device.writeZeroes(start, count, { mayUnmap: this.#random.chance(0.5) });
      else await this.#device.discard(start, count);
      const stamps = await this.#read(start, count);
      for (const [i, sector] of sectors.entries()) {
        const stamp = stamps[i] as number;
        this.#expect(stamp === 0 || (kind === "discard" && stamp === this.#model.current[sector]), sector, stamp);
        this.#model.end(sector, stamp);
      }
    }
  }

  async #read(start: number, count: number): Promise<Uint32Array> {
    const words = new Uint32Array((count * BLOCK) / 4);
    await this.#device.read(start, new Uint8Array(words.buffer));
    const stamps = new Uint32Array(count * SECTORS);
    for (let i = 0; i < stamps.length; i++) {
      const at = i * (SECTOR / 4);
      stamps[i] = words[at] as number;
      this.#expect(words[at] === words[at + SECTOR / 4 - 1], start * SECTORS + i, "a mixture");
    }
    return stamps;
  }

  #expect(condition: boolean, sector: number, found: unknown): asserts condition {
    if (!condition) throw new Error(`seed ${this.#seed}: sector ${sector} holds ${String(found)}`);
  }

  /** The list of disks is what the descriptor would be: it changes before the device goes on. */
  async #snapshot(): Promise<void> {
    if (this.#disks.length >= 5) return;
    const disk = await this.#newImage();
    await this.#device.suspend();
    this.#model.flushed();
    await snapshotTop(this.#device, await DeviceFile.open("new", disk));
    this.#disks.push(disk);
    if (this.#disks.some((one) => one.isCut)) disk.cut();
    this.#device.resume();
    this.counts.snapshots++;
  }

  async #merge(): Promise<void> {
    if (this.#disks.length < 2) return;
    await mergeIntoTop(this.#device, { commit: async () => void this.#disks.splice(-2, 1) });
    this.counts.merges++;
  }

  async #resize(): Promise<void> {
    const clusters = Math.min(60, this.#clusters + 1 + this.#random.below(8));
    await resizeTop(this.#device, (clusters * CLUSTER) / SECTOR);
    this.#device.reloadLength();
    this.#clusters = clusters;
    this.#model.grow((clusters * CLUSTER) / SECTOR);
    this.counts.resizes++;
  }

  /** After opening: every sector is one of the versions it may be; from here on it is that one. */
  async #verify(): Promise<void> {
    const blocks = this.#device.blockCount;
    this.#clusters = (blocks * BLOCK) / CLUSTER;
    this.#model.grow(blocks * SECTORS);
    const stamps = await this.#read(0, blocks);
    for (let sector = 0; sector < stamps.length; sector++) {
      this.#expect(this.#model.allows(sector, stamps[sector] as number), sector, stamps[sector]);
      this.#model.end(sector, stamps[sector] as number);
    }
    this.#model.flushed();
  }

  async #checkClean(): Promise<void> {
    for (const disk of this.#disks) {
      const file = await DeviceFile.open("delta", disk, { readOnly: true });
      const report = await checkImage(file, { force: true });
      if (report.result !== "clean") throw new Error(`seed ${this.#seed}: ${JSON.stringify(report)}`);
    }
  }
}

/** Runs one history; the error of a failure names the seed. */
export async function runHistory(seed: number): Promise<HistoryCounts> {
  try {
    return await new History(seed).run();
  } catch (error) {
    const detail = isVdoError(error) ? `${error.code} ${error.message}` : String(error);
    throw new Error(`history of seed ${seed}: ${detail}`, { cause: error });
  }
}
