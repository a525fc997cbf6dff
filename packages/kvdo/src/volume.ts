/**
 * A VDO volume, open: a block device that deduplicates, compresses and allocates as it is written.
 *
 * ```
 * open:  geometry ▸ super block ▸ slab summary ▸ slab journals ▸ super block DIRTY ▸ reference counts ▸ serve ▸ index (in the background)
 * close: drain ▸ index ▸ flush ▸ block map ▸ recovery journal ▸ slabs ▸ super block CLEAN
 * ```
 */
import { VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type Extent, type WriteOptions, type ZeroOptions } from "@vdo/block-device";
import type { OpenParts } from "./admin/build-parts.ts";
import { checkGrowLogical, growLogical, growPhysical, planGrowPhysical } from "./admin/grow.ts";
import { openParts } from "./admin/open-parts.ts";
import type { VolumeConfigReport, VolumeEvent, VolumeOptions, VolumeStatus } from "./admin/volume-options.ts";
import { BLOCK_SIZE } from "./constants.ts";
import { VIO_DISCARD, VIO_READ, VIO_WRITE } from "./data-path/data-vio.ts";
import { mappedExtents } from "./data-path/extents.ts";
import { UserRequest } from "./data-path/user-request.ts";
import { indexGeometry, VOLUME_STATE } from "./format/index.ts";
import type { VdoStatistics } from "./statistics/index.ts";

type Phase = "open" | "suspending" | "suspended" | "closing" | "closed";

export class VdoVolume implements BlockDevice {
  /** Bytes per block as presented: 4096, or 512 with emulation. */
  readonly blockSize: number;
  readonly #parts: OpenParts;
  readonly #options: VolumeOptions;
  #phase: Phase = "open";
  #closing: Promise<void> | undefined;
  /** Requests that arrived while the volume is suspended: they go on when it is resumed, and are refused when it is closed. */
  #held: { go: () => void; refuse: (error: VdoError) => void }[] = [];
  #suspending: Promise<void> | undefined;

  private constructor(parts: OpenParts, options: VolumeOptions) {
    this.#parts = parts;
    this.#options = options;
    this.blockSize = options.logicalBlockSize ?? BLOCK_SIZE;
    parts.notifier.onEnter((error) => {
      this.#emit({ type: "readOnly", error });
      this.#saveReadOnly();
    });
  }

  /**
   * Opens the volume on `device`, which stays the caller's to close. Without `readOnly` the volume is marked as in use.
   *
   * Throws `VDO_BAD_MAGIC`, `VDO_CHECKSUM`, `VDO_UNSUPPORTED_VERSION`, `VDO_BAD_CONFIGURATION`, `VDO_BAD_LAYOUT`,
   * `VDO_BAD_NONCE`, `VDO_PARAMETER_MISMATCH` for what is not a sound volume, `VDO_DIRTY` for one that was not stopped
   * cleanly, `VDO_BAD_ARGUMENT` for options out of range, `VDO_CORRUPT` and `VDO_IO` for damaged metadata.
   */
  static async open(device: BlockDevice, options: VolumeOptions = {}): Promise<VdoVolume> {
    const readOnly = options.readOnly === true || device.readOnly === true;
    const parts = await openParts(device, { ...options, readOnly }, (event) => options.onChange?.(event));
    const volume = new VdoVolume(parts, { ...options, readOnly });
    if (!parts.isStatic) parts.depot.discards?.start();
    if (!parts.isStatic && parts.deduplication) void parts.index.open(parts.wasNew ? "always" : "ifMissing");
    return volume;
  }

  #emit(event: VolumeEvent): void {
    this.#options.onChange?.(event);
  }

  /** Blocks as presented; more after a logical growth. */
  get blockCount(): number {
    return this.#parts.keeper.value.vdo.config.logicalBlocks * (BLOCK_SIZE / this.blockSize);
  }

  /** True when nothing can be written: opened so, or in read-only mode. */
  get readOnly(): boolean {
    return this.#parts.isStatic || this.#parts.notifier.isReadOnly;
  }

  get #isClosed(): boolean {
    return this.#phase === "closing" || this.#phase === "closed";
  }

  // --- I/O

  #submit(kind: number, start: number, byteLength: number, buffer: Uint8Array | null, fua: boolean): Promise<void> {
    if (this.#isClosed) return Promise.reject(closedError());
    try {
      checkRange(this, start, byteLength);
      if (kind !== VIO_READ && this.readOnly) throw this.#refusal();
    } catch (error) {
      return Promise.reject(error);
    }
    const user = new UserRequest({ kind, offset: start * this.blockSize, length: byteLength, buffer, fua });
    if (byteLength === 0) return user.done;
    if (kind === VIO_DISCARD) this.#countDiscard(user);
    if (this.#phase === "open") this.#parts.dataPath.submit(user);
    else {
      const go = (): void => this.#parts.dataPath.submit(user);
      this.#held.push({ go, refuse: (error) => user.answer(byteLength, error) });
    }
    return user.done;
  }

  #refusal(): VdoError {
    if (this.#parts.notifier.isReadOnly) {
      this.#parts.statistics.errors.readOnlyErrorCount++;
      return this.#parts.notifier.refusal();
    }
    return new VdoError("VDO_READ_ONLY", "the volume was opened read-only", { object: "volume" });
  }

  /** Reads whole blocks into `target`. */
  read(start: number, target: Uint8Array): Promise<void> {
    return this.#submit(VIO_READ, start, target.length, target, false);
  }

  /** Writes whole blocks. Resolves when the data is accepted; it is durable after a flush, or at once with `fua`. */
  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#submit(VIO_WRITE, start, source.length, source, options?.fua === true);
  }

  /** Unmaps blocks: they read as zeros and take no space. */
  discard(start: number, count: number, options?: WriteOptions): Promise<void> {
    return this.#submit(VIO_DISCARD, start, count * this.blockSize, null, options?.fua === true);
  }

  /** Makes blocks read as zeros: unmapped with `mayUnmap`, else mapped to the zero block. */
  writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    const kind = options?.mayUnmap === true ? VIO_DISCARD : VIO_WRITE;
    return this.#submit(kind, start, count * this.blockSize, null, options?.fua === true);
  }

  /** Resolves when everything acknowledged before the call is durable. */
  async flush(): Promise<void> {
    if (this.#isClosed) throw closedError();
    if (this.#phase !== "open") {
      await new Promise<void>((go, refuse) => {
        this.#held.push({ go, refuse });
      });
    }
    const { biosIn, biosAcknowledged } = this.#parts.statistics;
    biosIn.emptyFlush++;
    biosIn.flush++;
    if (!this.#parts.isStatic) await this.#flushAll();
    if (this.#parts.notifier.isReadOnly && !this.#parts.isStatic) throw this.#refusal();
    biosAcknowledged.emptyFlush++;
    biosAcknowledged.flush++;
  }

  /** After a failed flush nobody knows what of the data written before is stable, so no journal entry may name it. */
  async #flushAll(): Promise<void> {
    try {
      await this.#parts.dataPath.flusher.flush();
    } catch (error) {
      if (this.#parts.notifier.isReadOnly) throw this.#refusal();
      this.#parts.notifier.enter(error);
      throw error;
    }
  }

  /** States of `count` blocks from `start`; may end early. */
  async extents(start: number, count: number): Promise<Extent[]> {
    if (this.#isClosed) throw closedError();
    checkRange(this, start, count * this.blockSize);
    const scale = BLOCK_SIZE / this.blockSize;
    const first = Math.floor(start / scale);
    const last = Math.ceil((start + count) / scale);
    const { blockMap, dataPath } = this.#parts;
    const extents = await mappedExtents({ blockMap, locks: dataPath.locks }, first, last - first);
    if (scale === 1) return extents;
    for (const extent of extents) extent.count *= scale;
    (extents[0] as Extent).count -= start - first * scale;
    let total = 0;
    for (const extent of extents) total += extent.count;
    if (total > count) (extents.at(-1) as Extent).count -= total - count;
    return extents;
  }

  /** Counts a discard as the block layer would cut it: at its first whole block, then every `maxDiscardBlocks`. */
  #countDiscard(user: UserRequest): void {
    const maximum = this.#options.maxDiscardBlocks ?? 1;
    const { statistics } = this.#parts;
    const head = Math.min(user.length, (BLOCK_SIZE - (user.offset % BLOCK_SIZE)) % BLOCK_SIZE);
    const rest = user.length - head;
    const pieces = (head > 0 ? 1 : 0) + Math.ceil(rest / (maximum * BLOCK_SIZE));
    const firstPartial = (head > 0 ? 1 : 0) + (rest > 0 && rest < BLOCK_SIZE ? 1 : 0);
    const lastPartial = (head > 0 ? 1 : 0) + (rest % BLOCK_SIZE > 0 ? 1 : 0);
    user.skipsUnmapped = pieces > 1 && user.length > maximum * BLOCK_SIZE;
    statistics.biosIn.discard += pieces;
    statistics.biosInPartial.discard += firstPartial;
    const acknowledge = (): void => {
      statistics.biosAcknowledged.discard += pieces;
      statistics.biosAcknowledgedPartial.discard += lastPartial;
    };
    user.done.then(acknowledge, acknowledge);
  }

  // --- what it is and does

  /** A copy of the statistics as they are now. */
  statistics(): VdoStatistics {
    return this.#parts.snapshot();
  }

  status(): VolumeStatus {
    const { index, write, keeper } = this.#parts;
    const now = this.#parts.snapshot();
    return {
      mode: now.mode,
      recovering: now.inRecoveryMode,
      indexState: index.state,
      compression: write.compression,
      usedBlocks: now.dataBlocksUsed + now.overheadBlocksUsed,
      totalBlocks: keeper.value.vdo.config.physicalBlocks,
    };
  }

  config(): VolumeConfigReport {
    const { keeper, geometry, write, client, deduplication } = this.#parts;
    const { config, nonce } = keeper.value.vdo;
    const { gib, sparse } = indexGeometry(geometry.index);
    return {
      physicalBlocks: config.physicalBlocks,
      logicalBlocks: config.logicalBlocks,
      slabBlocks: config.slabBlocks,
      indexMemory: gib,
      indexSparse: sparse,
      uuid: geometry.uuid.slice(),
      nonce,
      compression: write.compression,
      deduplication: deduplication && client.isEnabled,
      blockMapCacheBlocks: this.#parts.cacheBlocks,
      maximumAge: this.#parts.maximumAge,
      logicalBlockSize: this.blockSize,
    };
  }

  /** Switches compression of new data. Switching it off writes out what is parked in the packer. */
  async setCompression(on: boolean): Promise<void> {
    const { write } = this.#parts;
    write.compression = on;
    if (!on) write.packer.flush(this.#parts.dataPath.flusher.generation);
  }

  /** Switches the use of the index; it stays open. One that is not open is opened. */
  async setDeduplication(on: boolean): Promise<void> {
    const { client, index, isStatic } = this.#parts;
    if (isStatic) throw this.#refusal();
    client.isEnabled = on;
    this.#parts.deduplication = on;
    if (on && (index.state === "closed" || index.state === "error")) void index.open("ifMissing");
    this.#emit({ type: "index", state: index.state });
  }

  /** The index messages of the kernel's device. `create` and `close` resolve when they are carried out. */
  async indexMessage(message: "create" | "close" | "enable" | "disable"): Promise<void> {
    const { index, isStatic } = this.#parts;
    if (isStatic) throw this.#refusal();
    if (message === "create") return index.recreate();
    if (message === "close") return index.close();
    return this.setDeduplication(message === "enable");
  }

  /** Resolves when the index has been opened, or could not be. */
  async indexSettled(): Promise<void> {
    await this.#parts.index.settled();
  }

  // --- suspend, resume, close

  /** Finishes everything under way and holds back new requests; with `save` the volume is CLEAN on the storage. */
  async suspend({ save }: { save: boolean }): Promise<void> {
    this.#require("open", "suspend");
    this.#phase = "suspending";
    this.#suspending = this.#quiesce(save);
    await this.#suspending;
    this.#phase = "suspended";
  }

  async resume(): Promise<void> {
    this.#require("suspended", "resume");
    const { keeper, journal, depot, dataPath, index, notifier } = this.#parts;
    const wasSaved = keeper.state === VOLUME_STATE.clean || keeper.state === VOLUME_STATE.recovering;
    if (wasSaved && !notifier.isReadOnly && !this.#parts.isStatic) {
      journal.restart();
      try {
        await keeper.save(VOLUME_STATE.dirty, this.#parts.usage());
      } catch (error) {
        notifier.enter(error);
      }
    }
    journal.setReaping(true);
    if (depot.scrubber.left > 0) depot.scrubber.start();
    depot.discards?.start();
    await index.resume();
    dataPath.reopen();
    this.#phase = "open";
    const held = this.#held;
    this.#held = [];
    for (const { go } of held) go();
  }

  // --- growth

  /** Grows the presented device to `logicalBlocks` blocks of 4096 bytes, while it is in use. It cannot shrink. */
  async growLogical(logicalBlocks: number): Promise<void> {
    checkGrowLogical(this.#parts, logicalBlocks);
    await this.#whileSuspended(() => growLogical(this.#parts, logicalBlocks));
  }

  /** Grows the volume to `physicalBlocks` blocks of its storage, which has them already, while it is in use. */
  async growPhysical(physicalBlocks: number): Promise<void> {
    const plan = planGrowPhysical(this.#parts, physicalBlocks);
    await this.#whileSuspended(() => growPhysical(this.#parts, physicalBlocks, plan));
  }

  async #whileSuspended(work: () => Promise<void>): Promise<void> {
    await this.suspend({ save: false });
    try {
      if (this.#parts.notifier.isReadOnly) throw this.#refusal();
      await work();
    } catch (error) {
      this.#parts.notifier.enter(error);
      throw error;
    } finally {
      await this.resume();
    }
  }

  #require(phase: Phase, operation: string): void {
    if (this.#phase === phase) return;
    throw new VdoError("VDO_INVALID_ADMIN_STATE", `cannot ${operation} the volume while it is ${this.#phase}`, {
      operation,
      state: this.#phase,
    });
  }

  async #quiesce(save: boolean): Promise<void> {
    const { dataPath, index, io, statistics, journal, depot, blockMap, keeper, notifier, isStatic } = this.#parts;
    await dataPath.drain();
    await index.suspend(save);
    if (isStatic) return;
    await depot.scrubber.stop();
    if (save) await depot.discards?.finish();
    depot.discards?.stop();
    statistics.flushOut++;
    try {
      await io.deviceFlush();
    } catch (error) {
      notifier.enter(error);
    }
    if (save) {
      await blockMap.store.save();
      await journal.save();
      await depot.save();
    } else {
      await blockMap.store.drain();
      await journal.drain();
      journal.setReaping(false);
      await depot.drain();
    }
    await this.#parts.readOnlySaved;
    if (!save || notifier.isReadOnly) return;
    try {
      // Slabs that are not recovered yet are dirty in the summary: the next start goes on with them.
      const state = depot.scrubber.left > 0 ? VOLUME_STATE.recovering : VOLUME_STATE.clean;
      await keeper.save(state, this.#parts.usage());
    } catch (error) {
      notifier.enter(error);
    }
  }

  /** The clean stop. Rejects, the volume closed all the same, when not everything could be written. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { index, journal, notifier, isStatic } = this.#parts;
    await this.#suspending;
    const wasSuspended = this.#phase === "suspended";
    const before = notifier.isReadOnly;
    this.#phase = "closing";
    for (const { refuse } of this.#held.splice(0)) refuse(closedError());
    if (!wasSuspended || this.#parts.keeper.state === VOLUME_STATE.dirty) {
      journal.setReaping(true);
      await this.#quiesce(true);
    }
    await index.close();
    await this.#parts.readOnlySaved;
    this.#phase = "closed";
    if (!isStatic && !before && notifier.isReadOnly) throw this.#parts.notifier.refusal();
  }

  // --- read-only mode

  #saveReadOnly(): void {
    const { keeper, journal, isStatic } = this.#parts;
    if (isStatic) return;
    const usage = this.#parts.failedUsage ?? { ...this.#parts.usage(), journalStart: journal.head };
    this.#parts.readOnlySaved = keeper.save(VOLUME_STATE.readOnly, usage).catch((error: unknown) => {
      this.#options.log?.("error", `read-only mode could not be recorded: ${String(error)}`);
    });
  }
}

function closedError(): VdoError {
  return new VdoError("VDO_CLOSED", "the volume was closed", { object: "volume" });
}
