/**
 * A running stack of deltas as a block device.
 *
 * Requests are cut at cluster boundaries. Pieces of clusters that the top holds go straight to its file; the rest is the
 * worker's ({@link StackEngine}). Operations of the administrator are functions over this object in `operations/`, and the
 * words of `message`.
 */
import { type Clock, systemClock, VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type Extent, type WriteOptions, type ZeroOptions } from "@vdo/block-device";
import { badArgument, dirty, refused } from "../errors.ts";
import type { ImageFile } from "../file/image-file.ts";
import { SECTOR } from "../format/header.ts";
import type { Delta } from "../image/delta.ts";
import { type ImageExtension, loadExtensionOrNone, noExtension } from "../image/extension-store.ts";
import { BitmapSet } from "./bitmap-set.ts";
import { indexOf, type MapPage, NO_PLACE, pageOf } from "./cluster-map.ts";
import { openStack, type StackFile } from "./open-stack.ts";
import type { PushBackup } from "./push-backup.ts";
import { StackEngine } from "./stack-engine.ts";

export interface PloopOpenOptions {
  /** Base first, top last. The top must be an expanded image. They are closed with the device. */
  deltas: readonly StackFile[];
  /** Default: whether the top's file is. */
  readOnly?: boolean;
  /** Bytes per block, 512 (the default) or 4096. */
  blockSize?: number;
  /** Refuse a top that was not closed, instead of checking its index and going on. Default false. */
  refuseDirty?: boolean;
  /** Most pages of the map in memory: 5 KiB for 1024 clusters each. Default 4096 (20 MiB). */
  mapPagesMax?: number;
  /** The top's file grows to multiples of this many bytes. Default 128 MiB. */
  extendBytes?: number;
  clock?: Clock;
  /** Told of what was given up: a damaged dirty bitmap on opening, holes in files. */
  onWarning?: (text: string) => void;
}

const MAP_PAGES = 4096;
const EXTEND_BYTES = 128 * 1024 * 1024;

export class PloopDevice implements BlockDevice {
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly clock: Clock;
  /** For the operations on a running stack; not for users of the device. */
  readonly engine: StackEngine;
  backup: PushBackup | undefined;
  noResume = false;
  /** Saved in the top when the device is closed. A read-only device has none. */
  readonly bitmaps: BitmapSet;
  readonly #blocksPerCluster: number;
  #zeros: Uint8Array | undefined;
  #blockCount: number;
  #active = 0;
  #operations: Promise<void> = Promise.resolve();
  #onIdle: (() => void)[] = [];
  #suspended: { resumed: Promise<void>; resume: () => void } | undefined;
  #closed: Promise<void> | undefined;

  private constructor(engine: StackEngine, options: PloopOpenOptions, readOnly: boolean, extension: ImageExtension) {
    this.engine = engine;
    this.bitmaps = new BitmapSet(extension, readOnly);
    this.readOnly = readOnly;
    this.blockSize = options.blockSize ?? SECTOR;
    this.clock = options.clock ?? systemClock;
    this.#blocksPerCluster = engine.clusterBytes / this.blockSize;
    this.#blockCount = usableClusters(engine.top) * this.#blocksPerCluster;
  }

  /**
   * Opens a stack; writes the in-use mark into the top unless it is read-only. Throws `VDO_CORRUPT` for damage (headers,
   * indexes, deltas that do not fit together, an extension that must not be passed over), `VDO_PLOOP_DIRTY` for a lower delta that is marked in use (and the top, if
   * that is to be refused).
   */
  static async open(options: PloopOpenOptions): Promise<PloopDevice> {
    const { blockSize = SECTOR, deltas: files } = options;
    if (blockSize !== 512 && blockSize !== 4096) throw badArgument("blockSize", blockSize, "it is 512 or 4096");
    const deltas = await openStack(files);
    const top = deltas.at(-1) as Delta;
    const readOnly = options.readOnly ?? top.file.readOnly;
    if (options.refuseDirty === true && top.isInUse) throw dirty(top.name);
    for (const delta of deltas.slice(0, -1)) delta.refuseDirty();
    const engine = await StackEngine.open(deltas, {
      mapPagesMax: Math.max(4, options.mapPagesMax ?? MAP_PAGES),
      extendBytes: options.extendBytes ?? EXTEND_BYTES,
      onWarning: options.onWarning,
    });
    const extension = readOnly ? noExtension() : await loadExtensionOrNone(top, options.onWarning);
    if (!readOnly) await top.markOpen();
    return new PloopDevice(engine, options, readOnly, extension);
  }

  get blockCount(): number {
    return this.#blockCount;
  }

  get clusterBytes(): number {
    return this.engine.clusterBytes;
  }

  get deltaCount(): number {
    return this.engine.deltas.length;
  }

  get isSuspended(): boolean {
    return this.#suspended !== undefined;
  }

  /** Throws `VDO_PLOOP_REFUSED` (EBUSY) while the stack must stay as it is. */
  refuseMaintenance(operation: string): void {
    if (this.engine.tracker === undefined && this.backup === undefined) return;
    throw refused(operation, "EBUSY", "tracking or a backup is active; stop it first");
  }

  /** Operations of the administrator follow each other. */
  serialize<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#operations.then(operation);
    this.#operations = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** Makes the whole image visible, after it has grown. */
  reloadLength(): void {
    this.#blockCount = usableClusters(this.engine.top) * this.#blocksPerCluster;
  }

  #zeroCluster(length: number): Uint8Array {
    this.#zeros ??= new Uint8Array(this.engine.clusterBytes);
    return this.#zeros.subarray(0, length);
  }

  /** Checks, waits while suspended, and counts the request. */
  async #enter(start: number, byteLength: number, changes: boolean): Promise<void> {
    this.#check(start, byteLength, changes);
    while (this.#suspended !== undefined) {
      await this.#suspended.resumed;
      this.#check(start, byteLength, changes);
    }
  }

  #check(start: number, byteLength: number, changes: boolean): void {
    if (this.#closed !== undefined)
      throw new VdoError("VDO_CLOSED", "the ploop device was closed", { object: "ploop device" });
    if (changes && this.readOnly) {
      throw new VdoError("VDO_READ_ONLY", "the ploop device is read-only", { object: "ploop device" });
    }
    checkRange(this, start, byteLength);
  }

  #leave(): void {
    this.#active--;
    if (this.#active === 0) for (const idle of this.#onIdle.splice(0)) idle();
  }

  async #pageFor(cluster: number): Promise<MapPage> {
    const number = pageOf(cluster);
    for (;;) {
      const page = this.engine.map.cached(number);
      if (page !== undefined) return page;
      await this.engine.map.load(number);
    }
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    this.#check(start, target.length, false);
    this.#active++;
    try {
      if (this.#suspended !== undefined) await this.#wait(start, target.length, false);
      await this.#read(start * this.blockSize, target);
    } finally {
      this.#leave();
    }
  }

  /** Not counted while it waits, or suspending twice would wait for itself. */
  async #wait(start: number, length: number, changes: boolean): Promise<void> {
    this.#leave();
    try {
      await this.#enter(start, length, changes);
    } finally {
      this.#active++;
    }
  }

  /** Neighbouring clusters that lie side by side in one file are one read. */
  async #read(position: number, target: Uint8Array): Promise<void> {
    const { clusterBytes, map } = this.engine;
    const reads: Promise<void>[] = [];
    let done = 0;
    while (done < target.length) {
      const cluster = Math.floor((position + done) / clusterBytes);
      const within = position + done - cluster * clusterBytes;
      let page = map.cached(pageOf(cluster));
      while (page === undefined) {
        await map.load(pageOf(cluster));
        page = map.cached(pageOf(cluster));
      }
      const index = indexOf(cluster);
      const place = page.places[index] as number;
      let length = Math.min(clusterBytes - within, target.length - done);
      if (place === NO_PLACE) target.fill(0, done, done + length);
      else {
        const level = page.levels[index] as number;
        for (let next = 1; index + next < page.places.length && done + length < target.length; next++) {
          if (page.places[index + next] !== place + next || page.levels[index + next] !== level) break;
          length = Math.min(length + clusterBytes, target.length - done);
        }
        const { file } = this.engine.deltas[level] as Delta;
        const offset = place * clusterBytes + within;
        if (length === target.length) return this.#readFile(file, offset, target);
        reads.push(this.#readFile(file, offset, target.subarray(done, done + length)));
      }
      done += length;
    }
    await settle(reads);
  }

  async #readFile(file: ImageFile, offset: number, target: Uint8Array): Promise<void> {
    const { epochs } = this.engine;
    const epoch = epochs.enter();
    try {
      await file.read(offset, target);
    } finally {
      epochs.leave(epoch);
    }
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    this.#check(start, source.length, true);
    this.#active++;
    try {
      if (this.#suspended !== undefined) await this.#wait(start, source.length, true);
      const { clusterBytes } = this.engine;
      const position = start * this.blockSize;
      const pieces: Promise<void>[] = [];
      for (let done = 0; done < source.length; ) {
        const cluster = Math.floor((position + done) / clusterBytes);
        const within = position + done - cluster * clusterBytes;
        const length = Math.min(clusterBytes - within, source.length - done);
        if (length === source.length) await this.#writePiece(cluster, within, source);
        else pieces.push(this.#writePiece(cluster, within, source.subarray(done, done + length)));
        done += length;
      }
      await settle(pieces);
      if (options?.fua === true) await this.engine.top.file.flush();
    } finally {
      if (this.bitmaps.list.length > 0) this.bitmaps.mark(start, source.length / this.blockSize, this.blockSize);
      this.#leave();
    }
  }

  async #writePiece(cluster: number, offset: number, source: Uint8Array): Promise<void> {
    const { engine } = this;
    while (this.backup?.mustHold(cluster) === true) await this.backup.hold(cluster);
    let page = engine.map.cached(pageOf(cluster));
    page ??= await this.#pageFor(cluster);
    page = engine.map.cached(pageOf(cluster));
    const index = indexOf(cluster);
    const place = page?.places[index] ?? NO_PLACE;
    const isOwn = place !== NO_PLACE && page?.levels[index] === engine.topLevel;
    if (!isOwn || engine.frozen || engine.lockedCluster === cluster) {
      return engine.change({ kind: "write", cluster, offset, source });
    }
    const epoch = engine.epochs.enter();
    try {
      await engine.writeTop(place * engine.clusterBytes + offset, source);
    } finally {
      engine.epochs.leave(epoch);
    }
  }

  async flush(): Promise<void> {
    this.#check(0, 0, false);
    this.#active++;
    try {
      await this.engine.top.file.flush();
    } finally {
      this.#leave();
    }
  }

  /** Whole clusters are let go; parts of clusters are ignored. */
  async discard(start: number, count: number, options?: WriteOptions): Promise<void> {
    this.#check(start, count * this.blockSize, true);
    this.#active++;
    try {
      if (this.#suspended !== undefined) await this.#wait(start, count * this.blockSize, true);
      const { engine } = this;
      const first = Math.ceil(start / this.#blocksPerCluster);
      const end = Math.floor((start + count) / this.#blocksPerCluster);
      const pieces: Promise<void>[] = [];
      for (let cluster = first; cluster < end; cluster++) pieces.push(this.#discardCluster(cluster));
      await settle(pieces);
      if (options?.fua === true) await engine.top.file.flush();
    } finally {
      if (this.bitmaps.list.length > 0) this.bitmaps.mark(start, count, this.blockSize);
      this.#leave();
    }
  }

  async #discardCluster(cluster: number): Promise<void> {
    while (this.backup?.mustHold(cluster) === true) await this.backup.hold(cluster);
    const found = await this.engine.lookUp(cluster);
    if (found === undefined) return;
    await this.engine.change({ kind: "discard", cluster, offset: 0 });
  }

  async writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    this.#check(start, count * this.blockSize, true);
    this.#active++;
    try {
      if (this.#suspended !== undefined) await this.#wait(start, count * this.blockSize, true);
      const { engine } = this;
      let left = count;
      for (let block = start; left > 0; ) {
        const cluster = Math.floor(block / this.#blocksPerCluster);
        const within = block % this.#blocksPerCluster;
        const blocks = Math.min(left, this.#blocksPerCluster - within);
        const whole = blocks === this.#blocksPerCluster && options?.mayUnmap === true && engine.topLevel === 0;
        if (whole) await this.#discardCluster(cluster);
        else await this.#writePiece(cluster, within * this.blockSize, this.#zeroCluster(blocks * this.blockSize));
        block += blocks;
        left -= blocks;
      }
      if (options?.fua === true) await engine.top.file.flush();
    } finally {
      if (this.bitmaps.list.length > 0) this.bitmaps.mark(start, count, this.blockSize);
      this.#leave();
    }
  }

  async extents(start: number, count: number): Promise<Extent[]> {
    this.#check(start, count * this.blockSize, false);
    const extents: Extent[] = [];
    for (let block = start; block < start + count; ) {
      const cluster = Math.floor(block / this.#blocksPerCluster);
      const end = Math.min(start + count, (cluster + 1) * this.#blocksPerCluster);
      const hole = (await this.engine.lookUp(cluster)) === undefined;
      const last = extents.at(-1);
      if (last !== undefined && last.hole === hole) last.count += end - block;
      else extents.push({ count: end - block, hole, zero: hole });
      block = end;
    }
    return extents;
  }

  /** Lets requests in flight end, holds new ones, and makes everything durable. */
  async suspend(): Promise<void> {
    if (this.#suspended !== undefined) return;
    let resume = (): void => undefined;
    const resumed = new Promise<void>((resolve) => {
      resume = resolve;
    });
    this.#suspended = { resumed, resume };
    await this.#idle();
    await this.engine.idle();
    if (!this.readOnly) await this.engine.top.file.flush();
  }

  /** Throws `VDO_PLOOP_REFUSED` (EAGAIN) while resuming is prohibited. */
  resume(): void {
    if (this.#suspended === undefined) return;
    if (this.noResume) throw refused("resume", "EAGAIN", "set_noresume prohibits it");
    const { resume } = this.#suspended;
    this.#suspended = undefined;
    resume();
  }

  #idle(): Promise<void> {
    if (this.#active === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.backup?.stop();
    this.#suspended?.resume();
    this.#suspended = undefined;
    await this.#idle();
    await this.#operations;
    await this.engine.idle();
    try {
      if (!this.readOnly) {
        await this.engine.closeTop();
        await this.bitmaps.save(this.engine.top);
      }
    } finally {
      await settle(this.engine.deltas.map((delta) => delta.file.close()));
    }
  }
}

/** All have ended; the first failure is thrown. */
async function settle(promises: readonly Promise<void>[]): Promise<void> {
  if (promises.length === 0) return;
  if (promises.length === 1) return promises[0];
  const results = await Promise.allSettled(promises);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

function usableClusters(top: Delta): number {
  return Math.floor(top.header.sizeSectors / top.header.clusterSectors);
}
