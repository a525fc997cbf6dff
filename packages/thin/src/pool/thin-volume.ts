/** A thin device as a block device: blocks of the pool on demand, shared with snapshots, over an external origin if it has one. */
import { VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type Extent, type WriteOptions, type ZeroOptions } from "@vdo/block-device";
import { DISCARD_BLOCKS_MAX, SECTOR_BYTES } from "../constants.ts";
import { isShared, type Mapping } from "../format/mapping.ts";
import { NOT_KNOWN } from "../metadata/pool-metadata.ts";
import { acceptsChanges } from "./modes.ts";
import type { PoolCore } from "./pool-core.ts";
import type { ThinTarget } from "./provisioner.ts";
import { RangeLocks } from "./range-locks.ts";
import { cutIntoSegments } from "./segments.ts";
import { writeThin } from "./thin-writer.ts";

export interface ThinVolumeOptions {
  id: number;
  /** Virtual size; a multiple of the data device's block size. It is not stored in the pool. */
  sectors: number;
  /** Read where nothing is mapped; never written. It must outlive the volume. */
  origin?: BlockDevice;
}

/** Most extents of one answer. */
const EXTENTS_MAX = 256;
const ZEROES = new Uint8Array(1 << 20);

export class ThinVolume implements BlockDevice, ThinTarget {
  readonly id: number;
  readonly blockSize: number;
  readonly blockCount: number;
  readonly core: PoolCore;
  readonly locks = new RangeLocks();
  /** Absent with `ignore_discard`. */
  readonly discard?: (start: number, count: number, options?: WriteOptions) => Promise<void>;
  readonly #origin: BlockDevice | undefined;
  readonly #originBytes: number;
  readonly #onClose: () => void;
  #inFlight = 0;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** Made by `ThinPool.volume`. */
  constructor(core: PoolCore, { id, sectors, origin }: ThinVolumeOptions, onClose: () => void) {
    this.core = core;
    this.id = id;
    this.blockSize = core.data.blockSize;
    this.blockCount = (sectors * SECTOR_BYTES) / this.blockSize;
    this.#origin = origin;
    this.#originBytes = origin === undefined ? 0 : origin.blockCount * origin.blockSize;
    this.#onClose = onClose;
    if (!Number.isInteger(this.blockCount) || this.blockCount < 1) {
      const message = `a thin device of ${sectors} sectors is not a whole number of ${this.blockSize}-byte blocks`;
      throw new VdoError("VDO_BAD_ARGUMENT", message, { argument: "sectors", value: sectors });
    }
    if (origin !== undefined && this.blockSize % origin.blockSize !== 0) {
      const message = `an origin with ${origin.blockSize}-byte blocks does not fit a thin device with ${this.blockSize}-byte blocks`;
      throw new VdoError("VDO_BAD_ARGUMENT", message, { argument: "origin", value: origin.blockSize });
    }
    if (core.features.discard !== "ignore")
      this.discard = (start, count, options) => this.#discard(start, count, options);
  }

  /**
   * Where a request lies that is within one data block whose mapping is in memory, as nearly all are. Undefined for others, and
   * for those that are refused.
   */
  #plainMapping(start: number, length: number): Mapping | undefined {
    const { core, blockSize } = this;
    const count = length / blockSize;
    if (!Number.isSafeInteger(start) || start < 0 || !Number.isInteger(count) || count < 1) return undefined;
    const block = Math.floor(start / core.ratio);
    if (start + count > Math.min((block + 1) * core.ratio, this.blockCount)) return undefined;
    if (this.#closing !== undefined || !core.isUsable) return undefined;
    const found = core.metadata.peek(this.id, block);
    return found === NOT_KNOWN ? undefined : found;
  }

  read(start: number, target: Uint8Array): Promise<void> {
    const mapping = this.#plainMapping(start, target.length);
    if (mapping === undefined) {
      return this.#request(start, target.length, () => this.#read(start * this.blockSize, target));
    }
    const { core } = this;
    const epoch = core.beginRead();
    this.#inFlight++;
    const end = (): void => {
      core.endRead(epoch);
      this.#ended();
    };
    return core.data.read(mapping.block * core.ratio + (start % core.ratio), target).then(end, (error: unknown) => {
      end();
      throw error;
    });
  }

  async #read(offset: number, target: Uint8Array): Promise<void> {
    const { core } = this;
    const epoch = core.beginRead();
    const reads: Promise<unknown>[] = [];
    try {
      // Parts that follow each other on the data device are read as one.
      let run: { from: number; at: number; length: number } | undefined;
      const readRun = (): void => {
        if (run === undefined) return;
        reads.push(core.data.read(run.from / this.blockSize, target.subarray(run.at, run.at + run.length)));
        run = undefined;
      };
      for (const { block, within, at, length } of cutIntoSegments(offset, target.length, core.blockBytes)) {
        const found = this.lookUp(block);
        const mapping = found instanceof Promise ? await found : found;
        if (mapping === undefined) {
          readRun();
          reads.push(this.readOrigin(block * core.blockBytes + within, target.subarray(at, at + length)));
          continue;
        }
        const from = mapping.block * core.blockBytes + within;
        if (run !== undefined && run.from + run.length === from) run.length += length;
        else {
          readRun();
          run = { from, at, length };
        }
      }
      readRun();
    } finally {
      await Promise.allSettled(reads);
      core.endRead(epoch);
    }
    await Promise.all(reads);
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#writeOwn(start, source, options) ?? this.#write(start, source, options);
  }

  /** Writes in place where the block is the device's own and nothing has to be waited for; undefined elsewhere. */
  #writeOwn(start: number, source: Uint8Array, options: WriteOptions | undefined): Promise<void> | undefined {
    const { core } = this;
    const mapping = options?.fua === true ? undefined : this.#plainMapping(start, source.length);
    const details = core.metadata.cachedDetails(this.id);
    if (mapping === undefined || details === undefined) return undefined;
    if (isShared(mapping.time, details.snapshottedTime) || !core.gate.tryEnter()) return undefined;
    this.#inFlight++;
    return core.data
      .write(mapping.block * core.ratio + (start % core.ratio), source)
      .then(this.#ownWritten, this.#ownFailed);
  }

  readonly #ownWritten = (): void => {
    this.core.gate.leave();
    this.#ended();
  };

  readonly #ownFailed = (error: unknown): never => {
    this.#ownWritten();
    throw error;
  };

  async #write(start: number, source: Uint8Array, options: WriteOptions | undefined): Promise<void> {
    const fua = options?.fua ?? false;
    return this.#request(start, source.length, async () => {
      if (source.length === 0) return;
      // With changes to commit, the commit's flush of the data is enough.
      const isThrough = fua && !this.core.metadata.isDirty;
      await writeThin(this, { offset: start * this.blockSize, source, fua: isThrough });
      // A commit by the timer may have come between: then nothing is left to commit, and the data is not flushed yet.
      if (fua && (this.core.metadata.isDirty || !isThrough)) await this.core.flush();
    });
  }

  async flush(): Promise<void> {
    return this.#request(0, 0, () => this.core.flush());
  }

  /** Whole data blocks of the range are unmapped, and passed down where nobody else uses them; the rest stays. */
  async #discard(start: number, count: number, options: WriteOptions | undefined): Promise<void> {
    await this.#request(start, count * this.blockSize, async () => {
      const { blockBytes } = this.core;
      const begin = Math.ceil((start * this.blockSize) / blockBytes);
      const end = Math.floor(((start + count) * this.blockSize) / blockBytes);
      for (let at = begin; at < end; at += DISCARD_BLOCKS_MAX) {
        await this.#unmap(at, Math.min(end, at + DISCARD_BLOCKS_MAX));
      }
    });
    if (options?.fua === true) await this.flush();
  }

  /** Unmaps virtual blocks. Without effect in the reduced modes, as in the kernel. */
  async #unmap(begin: number, end: number): Promise<void> {
    const { core, id } = this;
    if (!core.gate.tryEnter()) await core.gate.enter();
    let failure: unknown;
    try {
      if (!acceptsChanges(core.mode)) return;
      const unlock = await this.locks.lock(begin, end);
      try {
        if (core.features.discard === "passdown") await this.#noteForPassdown(begin, end);
        await core.metadata.removeRange({ id, begin, end });
        core.touched();
      } catch (error) {
        failure = error;
      } finally {
        unlock();
      }
    } finally {
      core.gate.leave();
    }
    if (failure !== undefined) {
      await core.fail("remove_range", failure);
      throw failure;
    }
    if (core.mode === "out_of_data_space") await core.commit();
  }

  /** Blocks that nobody uses after the commit are discarded below then: until it, a crash brings the mappings back. */
  async #noteForPassdown(begin: number, end: number): Promise<void> {
    for (let next = begin; next < end; ) {
      const range = await this.core.metadata.findMappedRange({ id: this.id, begin: next, end });
      if (range === undefined) return;
      this.core.discardAfterCommit(range.data, range.data + range.length);
      next = range.begin + range.length;
    }
  }

  /** Whole blocks are unmapped where that reads as zeros; the rest is written, where something else than zeros may be. */
  async writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    const { blockBytes } = this.core;
    await this.#request(start, count * this.blockSize, async () => {
      const from = start * this.blockSize;
      const to = from + count * this.blockSize;
      const begin = Math.ceil(from / blockBytes);
      const end = Math.floor(to / blockBytes);
      const mayUnmap = options?.mayUnmap === true && this.discard !== undefined && this.#origin === undefined;
      if (!mayUnmap || begin >= end || !acceptsChanges(this.core.mode)) return this.#zero(from, to, mayUnmap);
      await this.#zero(from, begin * blockBytes, true);
      for (let at = begin; at < end; at += DISCARD_BLOCKS_MAX) {
        await this.#unmap(at, Math.min(end, at + DISCARD_BLOCKS_MAX));
      }
      await this.#zero(end * blockBytes, to, true);
    });
    if (options?.fua === true) await this.flush();
  }

  /** Writes zeros to bytes [from, to); with `skip` not where nothing is mapped. */
  async #zero(from: number, to: number, skip: boolean): Promise<void> {
    // Where some may be left out, each block is asked for by itself.
    const step = skip ? this.core.blockBytes : Math.max(this.core.blockBytes, ZEROES.length);
    for (let at = from; at < to; ) {
      const end = Math.min(to, at - (at % this.core.blockBytes) + step);
      if (!skip || (await this.lookUp(Math.floor(at / this.core.blockBytes))) !== undefined) {
        for (let offset = at; offset < end; offset += ZEROES.length) {
          const source = ZEROES.subarray(0, Math.min(ZEROES.length, end - offset));
          await writeThin(this, { offset, source, fua: false });
        }
      }
      at = end;
    }
  }

  async extents(start: number, count: number): Promise<Extent[]> {
    const extents: Extent[] = [];
    await this.#request(start, count * this.blockSize, async () => {
      const { metadata, ratio } = this.core;
      const stop = start + count;
      const end = Math.ceil(stop / ratio);
      let at = start;
      while (at < stop && extents.length < EXTENTS_MAX) {
        const range = await metadata.findMappedRange({ id: this.id, begin: Math.floor(at / ratio), end });
        const mappedFrom = Math.min(stop, Math.max(at, range === undefined ? stop : range.begin * ratio));
        const isZero = this.#origin === undefined;
        if (mappedFrom > at) extents.push({ count: mappedFrom - at, hole: isZero, zero: isZero });
        at = range === undefined ? stop : Math.min(stop, (range.begin + range.length) * ratio);
        if (at > mappedFrom) extents.push({ count: at - mappedFrom, hole: false, zero: false });
      }
    });
    return extents;
  }

  /** `<mapped sectors> <highest mapped sector or ->`, as `dmsetup status` shows it. */
  async status(): Promise<string> {
    if (this.core.mode === "fail") return "Fail";
    const { metadata } = this.core;
    const { mappedBlocks } = await metadata.details(this.id);
    const highest = await metadata.highestMapped(this.id);
    const sectors = metadata.blockSectors;
    return `${mappedBlocks * sectors} ${highest === undefined ? "-" : (highest + 1) * sectors - 1}`;
  }

  lookUp(block: number): Mapping | undefined | Promise<Mapping | undefined> {
    const found = this.core.metadata.peek(this.id, block);
    return found === NOT_KNOWN ? this.core.metadata.find(this.id, block) : found;
  }

  snapshottedTime(): Promise<number> | number {
    const { metadata } = this.core;
    const known = metadata.cachedDetails(this.id);
    return known?.snapshottedTime ?? metadata.details(this.id).then((details) => details.snapshottedTime);
  }

  get hasOrigin(): boolean {
    return this.#origin !== undefined;
  }

  async readOrigin(offset: number, target: Uint8Array): Promise<boolean> {
    const length = Math.max(0, Math.min(target.length, this.#originBytes - offset));
    target.fill(0, length);
    if (length === 0 || this.#origin === undefined) return false;
    await this.#origin.read(offset / this.#origin.blockSize, target.subarray(0, length));
    return true;
  }

  /** Waits for requests in flight; what was written is committed when the pool is flushed or closed, or within a second. */
  close(): Promise<void> {
    this.#closing ??= new Promise<void>((resolve) => {
      if (this.#inFlight === 0) resolve();
      else this.#onIdle = resolve;
    }).then(() => this.#onClose());
    return this.#closing;
  }

  async #request<T>(start: number, length: number, act: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) {
      throw new VdoError("VDO_CLOSED", `thin device ${this.id} was closed`, { object: `thin device ${this.id}` });
    }
    this.core.checkUsable();
    checkRange(this, start, length);
    this.#inFlight++;
    try {
      return await act();
    } finally {
      this.#ended();
    }
  }

  /** A request ended. */
  #ended(): void {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#onIdle?.();
  }
}
