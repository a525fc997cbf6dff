/**
 * Plays a history of a pool on simulated disks that lose power at one instant, several times. After each cut the metadata is
 * right to the last count with nothing leaked, and each sector holds what was durable or was written since, whole.
 */
import { type Clock, invariant, isVdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice, SliceDevice } from "@vdo/block-device";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { check, clearNeedsCheck, SplitDevice, ThinPool, type ThinVolume } from "@vdo/thin";
import { DEVICE_BLOCKS, type PoolHistory, type PoolItem, type PoolLife } from "./pool-history.ts";
import { DeviceModel } from "./pool-model.ts";

const SECTORS_PER_BLOCK = 8;
const DATA_BLOCK = 16;
const DEVICES_MAX = 5;
/** The tag of the origin's content. */
const ORIGIN_TAG = 251;
const TAGS = 250;
/** Of a pool on one disk: label, metadata. */
const SPLIT_BLOCKS = 256 + 512;

export interface PoolTally {
  operations: number;
  crashes: number;
  /** Lives that reached their end before the cut. */
  whole: number;
  refused: number;
}

/** A device that a crash may have made or unmade. */
interface Uncertain {
  id: number;
  model: DeviceModel | undefined;
}

export class PoolPlayer {
  readonly tally: PoolTally = { operations: 0, crashes: 0, whole: 0, refused: 0 };
  readonly #history: PoolHistory;
  readonly #models = new Map<number, DeviceModel>();
  readonly #volumes = new Map<number, ThinVolume>();
  readonly #timers = new Set<() => void>();
  readonly #origin: BlockDevice | undefined;
  #disks: SimulatedDisk[] = [];
  #pool!: ThinPool;
  #uncertain: Uncertain | undefined;
  /** False while it is closed and opened again: a failure then ends the life. */
  #isServing = true;
  #nextId = 1;
  #tag = 0;
  #transaction = 0n;
  /** Blocks of the data disk in use, of 4096 bytes. */
  #dataBlocks: number;

  constructor(history: PoolHistory) {
    this.#history = history;
    const { shape } = history;
    this.#dataBlocks = Math.floor(shape.dataBlocks / 2) * DATA_BLOCK * (shape.blockSectors / 128);
    if (shape.hasOrigin) this.#origin = MemoryDevice.from(new Uint8Array(4096 * DEVICE_BLOCKS).fill(ORIGIN_TAG));
  }

  /** Throws when a promise was broken. */
  async play(): Promise<void> {
    await this.#begin();
    for (const [index, life] of this.#history.lives.entries()) await this.#live(life, index);
  }

  /** The metadata of the pool as it stands, committed. */
  async metadataImage(): Promise<Uint8Array> {
    await this.#close();
    const { metadata } = await this.#devices();
    const image = new Uint8Array(metadata.blockCount * metadata.blockSize);
    await metadata.read(0, image);
    return image;
  }

  /** Fresh disks and a pool with device 0, without any fault. */
  async #begin(): Promise<void> {
    const { seed, shape } = this.#history;
    const data = shape.dataBlocks * DATA_BLOCK * (shape.blockSectors / 128);
    if (shape.oneDevice) {
      const blockCount = SPLIT_BLOCKS + data;
      const { discards: discard, slowReads } = shape;
      this.#disks = [new SimulatedDisk({ blockCount, seed, discard, slowReads })];
      const part = this.#part(SPLIT_BLOCKS + this.#dataBlocks);
      await SplitDevice.create(part, { blockSectors: shape.blockSectors, metadataBytes: 512 * 4096 });
    } else {
      this.#disks = [
        new SimulatedDisk({ blockCount: shape.metadataBlocks, seed, discard: false }),
        new SimulatedDisk({ blockCount: data, seed: seed + 1, discard: shape.discards, slowReads: shape.slowReads }),
      ];
    }
    await this.#open();
    await this.#pool.createThin(0);
    const content = new Uint8Array(DEVICE_BLOCKS).fill(this.#origin === undefined ? 0 : ORIGIN_TAG);
    this.#models.set(0, new DeviceModel(content));
    await this.#openVolume(0);
  }

  #part(blockCount: number): BlockDevice {
    return new SliceDevice(this.#disks[0] as SimulatedDisk, { start: 0, blockCount });
  }

  async #devices(): Promise<{ metadata: BlockDevice; data: BlockDevice }> {
    const [first, second] = this.#disks;
    if (second !== undefined) return { metadata: first as SimulatedDisk, data: second };
    return SplitDevice.open(this.#part(SPLIT_BLOCKS + this.#dataBlocks));
  }

  async #open(): Promise<void> {
    const { shape } = this.#history;
    this.#timers.clear();
    const clock: Clock = {
      now: () => 0,
      wallMicroseconds: () => 0,
      after: (_milliseconds, act) => {
        this.#timers.add(act);
        return () => this.#timers.delete(act);
      },
    };
    const devices = await this.#devices();
    this.#pool = await ThinPool.open({
      ...devices,
      blockSectors: shape.blockSectors,
      clock,
      features: { errorIfNoSpace: true },
      ...(shape.oneDevice ? {} : { dataSectors: this.#dataBlocks * SECTORS_PER_BLOCK }),
    });
  }

  /** All devices of the pool, opened again after it was closed. */
  async #openAgain(): Promise<void> {
    await this.#open();
    for (const id of this.#models.keys()) await this.#openVolume(id);
    this.#isServing = true;
  }

  async #openVolume(id: number): Promise<void> {
    const origin = this.#origin === undefined ? {} : { origin: this.#origin };
    this.#volumes.set(id, await this.#pool.volume({ id, sectors: DEVICE_BLOCKS * SECTORS_PER_BLOCK, ...origin }));
  }

  // #region A life

  async #live({ items, cutAfter, metadataFirst }: PoolLife, index: number): Promise<void> {
    const { shape } = this.#history;
    const [first, second] = this.#disks as [SimulatedDisk, SimulatedDisk?];
    const cut = second !== undefined && !metadataFirst ? second : first;
    const other = cut === first ? second : first;
    first.setFaults({ writeErrors: shape.metadataErrors });
    second?.setFaults({ writeErrors: shape.dataErrors });
    void cut.cutAfter(cut.completed + cutAfter).then(() => other?.cut());
    let isWhole = true;
    for (const item of items) {
      try {
        await this.#play(item);
        this.tally.operations++;
      } catch (error) {
        isWhole = false;
        if (!this.#isServing || cut.isCut || this.#pool.mode === "read_only" || this.#pool.mode === "fail") break;
        if (!this.#mayRefuse(error)) throw error;
        this.tally.refused++;
      }
    }
    if (isWhole) this.tally.whole++;
    await this.#crash(index);
  }

  /** What a pool that goes on may answer: it is full, or a disk failed. */
  #mayRefuse(error: unknown): boolean {
    const { metadataErrors, dataErrors } = this.#history.shape;
    if (isVdoError(error, "VDO_NO_SPACE")) return true;
    if (this.#pool.mode === "out_of_metadata_space") return true;
    return isVdoError(error, "VDO_IO") && metadataErrors + dataErrors > 0;
  }

  #pick(choice: number): number {
    const ids = [...this.#models.keys()];
    return ids[choice % ids.length] as number;
  }

  async #play(item: PoolItem): Promise<void> {
    switch (item.kind) {
      case "write":
        return this.#write(this.#pick(item.device), item, item.fua);
      case "writes": {
        const half = DEVICE_BLOCKS / 2;
        const count = Math.min(item.count, half);
        const start = Math.min(item.start % half, half - count);
        const id = this.#pick(item.device);
        const both = [start, start + half].map((at) => this.#write(id, { start: at, count }, false));
        for (const outcome of await Promise.allSettled(both)) if (outcome.status === "rejected") throw outcome.reason;
        return;
      }
      case "discard":
        return this.#discard(this.#pick(item.device), item);
      case "zero":
        return this.#zero(this.#pick(item.device), item);
      case "flush":
        await (this.#volumes.get(this.#pick(item.device)) as ThinVolume).flush();
        return this.#settle();
      case "read": {
        const id = this.#pick(item.device);
        await this.#compare(id, (block) => (this.#models.get(id) as DeviceModel).allowedNow(block));
        return;
      }
      case "snapshot":
        return this.#snapshot(this.#pick(item.device));
      case "delete":
        return this.#delete(this.#pick(item.device));
      case "together":
        return this.#together(item.items, item.reads);
      default:
        return this.#command(item);
    }
  }

  /** Changes go to different devices, which share blocks; reads go to all of them, and may see what was before. */
  async #together(items: readonly PoolItem[], reads: number): Promise<void> {
    const ids = [...this.#models.keys()];
    const running: Promise<void>[] = [];
    for (let read = 0; read < reads; read++) for (const id of ids) running.push(this.#readMeanwhile(id));
    let next = 0;
    for (const item of items) {
      if (item.kind === "timer") running.push(this.#play(item));
      else if (next < ids.length) running.push(this.#change(ids[next++] as number, item));
    }
    for (const outcome of await Promise.allSettled(running)) if (outcome.status === "rejected") throw outcome.reason;
  }

  #change(id: number, item: PoolItem): Promise<void> {
    if (item.kind === "write") return this.#write(id, item, item.fua);
    if (item.kind === "discard") return this.#discard(id, item);
    invariant(item.kind === "zero", "only changes of one device go together");
    return this.#zero(id, item);
  }

  async #readMeanwhile(id: number): Promise<void> {
    const model = this.#models.get(id) as DeviceModel;
    const may = Array.from({ length: DEVICE_BLOCKS }, (_, block) => model.allowedNow(block));
    const content = new Uint8Array(DEVICE_BLOCKS * 4096);
    await (this.#volumes.get(id) as ThinVolume).read(0, content);
    this.#judgeContent(id, content, (block) => {
      const both = new Set(may[block]);
      for (const tag of [...model.allowedNow(block), ...model.allowedAfterCrash(block)]) both.add(tag);
      return both;
    });
  }

  async #command(item: PoolItem): Promise<void> {
    const pool = this.#pool;
    if (item.kind === "metadataSnapshot") {
      const { heldRoot } = await pool.figures();
      await (heldRoot === 0 ? pool.reserveMetadataSnapshot() : pool.releaseMetadataSnapshot());
      this.#settle();
    } else if (item.kind === "transaction") {
      const { transactionId } = await pool.figures();
      invariant(transactionId >= this.#transaction, "the transaction id does not go back");
      await pool.setTransactionId(transactionId, transactionId + 1n);
      this.#transaction = transactionId + 1n;
      this.#settle();
    } else if (item.kind === "timer") {
      for (const act of [...this.#timers]) {
        this.#timers.delete(act);
        act();
      }
    } else if (item.kind === "grow") await this.#grow();
    else if (item.kind === "reload") {
      await pool.reload({ features: { discard: item.passdown ? "passdown" : "no_passdown" }, lowWater: item.lowWater });
    } else if (item.kind === "reopen") await this.#reopen();
  }

  #settle(): void {
    for (const model of this.#models.values()) model.settle();
  }

  /** A request that sets blocks to a tag. */
  async #set(
    id: number,
    range: { start: number; count: number; tag: number; isDurable?: boolean },
    act: () => Promise<void>,
  ) {
    const { start, count } = range;
    const model = this.#models.get(id) as DeviceModel;
    model.begin(start, count, range.tag);
    try {
      await act();
    } catch (error) {
      model.fail(start, count);
      throw error;
    }
    model.end(start, count, range);
  }

  #write(id: number, { start, count }: { start: number; count: number }, fua: boolean): Promise<void> {
    this.#tag = (this.#tag % TAGS) + 1;
    const tag = this.#tag;
    const source = new Uint8Array(count * 4096).fill(tag);
    const volume = this.#volumes.get(id) as ThinVolume;
    return this.#set(id, { start, count, tag, isDurable: fua }, () => volume.write(start, source, { fua }));
  }

  #zero(id: number, { start, count }: { start: number; count: number }): Promise<void> {
    const volume = this.#volumes.get(id) as ThinVolume;
    return this.#set(id, { start, count, tag: 0 }, () => volume.writeZeroes(start, count, { mayUnmap: true }));
  }

  /** Whole data blocks of the range become zeros, or show the origin. */
  async #discard(id: number, { start, count }: { start: number; count: number }): Promise<void> {
    const per = DATA_BLOCK * (this.#history.shape.blockSectors / 128);
    const from = Math.ceil(start / per) * per;
    const to = Math.floor((start + count) / per) * per;
    const volume = this.#volumes.get(id) as ThinVolume;
    if (from >= to) return volume.discard?.(start, count);
    const tag = this.#origin === undefined ? 0 : ORIGIN_TAG;
    await this.#set(id, { start: from, count: to - from, tag }, async () => volume.discard?.(start, count));
  }

  async #snapshot(origin: number): Promise<void> {
    if (this.#models.size >= DEVICES_MAX) return;
    const id = this.#nextId++;
    const from = this.#models.get(origin) as DeviceModel;
    const model = new DeviceModel(from.present, from);
    this.#uncertain = { id, model };
    await this.#pool.createSnapshot(id, origin);
    this.#uncertain = undefined;
    this.#models.set(id, model);
    this.#settle();
    await this.#openVolume(id);
  }

  async #delete(id: number): Promise<void> {
    if (this.#models.size < 2) return;
    await (this.#volumes.get(id) as ThinVolume).close();
    this.#uncertain = { id, model: this.#models.get(id) };
    this.#models.delete(id);
    this.#volumes.delete(id);
    await this.#pool.delete(id);
    this.#uncertain = undefined;
    this.#settle();
  }

  async #grow(): Promise<void> {
    const { dataBlocks, blockSectors, oneDevice } = this.#history.shape;
    this.#dataBlocks = dataBlocks * DATA_BLOCK * (blockSectors / 128);
    if (oneDevice) {
      await this.#close();
      const split = await SplitDevice.open(this.#part(SPLIT_BLOCKS + this.#dataBlocks));
      await split.grow();
      await this.#openAgain();
    } else await this.#pool.resize(this.#dataBlocks * SECTORS_PER_BLOCK);
  }

  async #reopen(): Promise<void> {
    await this.#close();
    this.#settle();
    await this.#openAgain();
  }

  async #close(): Promise<void> {
    this.#isServing = false;
    for (const volume of this.#volumes.values()) await volume.close();
    this.#volumes.clear();
    await this.#pool.close();
  }
  // #endregion
  // #region A crash

  /** The power is cut; what is left is judged, and is what the next life begins with. */
  async #crash(index: number): Promise<void> {
    this.tally.crashes++;
    const seed = this.#history.seed + 100 * (index + 1);
    this.#disks = this.#disks.map((disk, i) => disk.crash(seed + i, { readErrors: 0, writeErrors: 0, flushErrors: 0 }));
    this.#volumes.clear();
    const { metadata } = await this.#devices();
    const report = await check(metadata);
    if (report.problems.length > 0) {
      throw new Error(`after the crash of life ${index + 1}: ${JSON.stringify(report.problems.slice(0, 3))}`);
    }
    if (report.superblock !== undefined && report.superblock.flags !== 0) await clearNeedsCheck(metadata, report);
    await this.#open();
    this.#isServing = true;
    await this.#judge();
  }

  async #judge(): Promise<void> {
    const ids = new Set((await this.#pool.devices()).map(({ id }) => id));
    const { id: unsure, model: unsureModel } = this.#uncertain ?? { id: -1, model: undefined };
    this.#uncertain = undefined;
    if (ids.has(unsure) && unsureModel !== undefined) this.#models.set(unsure, unsureModel);
    for (const [id, model] of this.#models) {
      if (!ids.delete(id)) throw new Error(`device ${id} was there at the last commit, and is gone`);
      await this.#openVolume(id);
      model.adopt(await this.#compare(id, (block) => model.allowedAfterCrash(block)));
    }
    if (ids.size > 0) throw new Error(`device ${[...ids].join(", ")} is there, and was not made or was deleted`);
  }

  /** Reads the device; throws unless each sector holds what it may. Returns the tags of the blocks. */
  async #compare(id: number, allowed: (block: number) => ReadonlySet<number>): Promise<Set<number>[]> {
    const content = new Uint8Array(DEVICE_BLOCKS * 4096);
    await (this.#volumes.get(id) as ThinVolume).read(0, content);
    return this.#judgeContent(id, content, allowed);
  }

  #judgeContent(id: number, content: Uint8Array, allowed: (block: number) => ReadonlySet<number>): Set<number>[] {
    const tags = Array.from({ length: DEVICE_BLOCKS }, () => new Set<number>());
    for (let sector = 0; sector < DEVICE_BLOCKS * SECTORS_PER_BLOCK; sector++) {
      const block = Math.floor(sector / SECTORS_PER_BLOCK);
      const tag = content[sector * 512] as number;
      if (!allowed(block).has(tag)) {
        const may = [...allowed(block)].join(", ");
        throw new Error(`device ${id}, sector ${sector}: ${tag} instead of ${may}`);
      }
      const rest = content.subarray(sector * 512, sector * 512 + 512);
      if (rest.some((byte) => byte !== tag)) throw new Error(`device ${id}, sector ${sector} is torn`);
      tags[block]?.add(tag);
    }
    return tags;
  }
  // #endregion
}
