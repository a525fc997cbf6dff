/**
 * What a pool and its thin devices share: the metadata, the data device, the gate between changes and commits, the mode.
 *
 * Commit: flush the data device ▸ metadata (trees ▸ flush ▸ superblock ▸ flush) ▸ wait for reads that began before ▸ discards. Blocks
 * freed by the transaction can be handed out only after that, so no read finds another's data in them.
 */
import { type Clock, errorMessage, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { COMMIT_PERIOD_MS, SECTOR_BYTES } from "../constants.ts";
import type { PoolMetadata } from "../metadata/pool-metadata.ts";
import { BlockBuffers } from "./block-buffers.ts";
import type { PoolFeatures } from "./features.ts";
import { Gate } from "./gate.ts";
import { acceptsChanges, modeText, movePoolMode, type PoolMode } from "./modes.ts";
import { Provisioner } from "./provisioner.ts";

/** What a pool tells: the kernel sends an event for each, and logs `text`. */
export interface PoolEvent {
  kind: "mode" | "low_water" | "metadata_low" | "log";
  text: string;
}

export interface PoolCoreOptions {
  metadata: PoolMetadata;
  data: BlockDevice;
  features: PoolFeatures;
  /** Data blocks. */
  lowWater: number;
  /** Milliseconds a full pool queues writes before it fails them; 0 is for ever. */
  noSpaceTimeoutMs: number;
  clock: Clock;
  onEvent(event: PoolEvent): void;
}

/** What a table may change while the pool is there. */
export interface LoadedTable {
  features: PoolFeatures;
  lowWater: number;
  noSpaceTimeoutMs: number | undefined;
}

/** Reads in flight that began before a certain commit. */
interface Epoch {
  count: number;
  drained: (() => void) | undefined;
}

export class PoolCore {
  readonly metadata: PoolMetadata;
  readonly data: BlockDevice;
  readonly gate = new Gate();
  /** Bytes of a data block. */
  readonly blockBytes: number;
  /** Blocks of the data device in a data block. */
  readonly ratio: number;
  /** For blocks that are copied. */
  readonly buffers: BlockBuffers;
  readonly provisioner: Provisioner;
  errorsIfFull: boolean;
  #features: PoolFeatures;
  #lowWater: number;
  #noSpaceTimeoutMs: number;
  readonly #options: PoolCoreOptions;
  #mode: PoolMode = "write";
  #epoch: Epoch = { count: 0, drained: undefined };
  #nextCommit: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #cancelNoSpace: (() => void) | undefined;
  #lowWaterTold = false;
  #waitingForSpace: (() => void)[] = [];
  #toDiscard: [number, number][] = [];
  #closed = false;
  /** An aborted transaction held changes that were acknowledged: no later flush may claim that they are durable. */
  #hasLostChanges = false;

  constructor(options: PoolCoreOptions) {
    this.#options = options;
    this.metadata = options.metadata;
    this.data = options.data;
    this.#features = options.features;
    this.#lowWater = options.lowWater;
    this.#noSpaceTimeoutMs = options.noSpaceTimeoutMs;
    this.errorsIfFull = options.features.errorIfNoSpace;
    this.blockBytes = this.metadata.blockSectors * SECTOR_BYTES;
    this.ratio = this.blockBytes / this.data.blockSize;
    this.buffers = new BlockBuffers(this.blockBytes);
    this.provisioner = new Provisioner(this);
    this.metadata.onLowSpace(() => {
      this.tell("metadata_low", "reached low water mark for metadata device: sending event.");
    });
  }

  get mode(): PoolMode {
    return this.#mode;
  }

  get features(): PoolFeatures {
    return this.#features;
  }

  /** Data blocks. */
  get lowWater(): number {
    return this.#lowWater;
  }

  /** Takes what another table says. The mode follows from `setMode`. */
  load({ features, lowWater, noSpaceTimeoutMs }: LoadedTable): void {
    this.#features = features;
    this.#lowWater = lowWater;
    this.#noSpaceTimeoutMs = noSpaceTimeoutMs ?? this.#noSpaceTimeoutMs;
    this.errorsIfFull = features.errorIfNoSpace;
  }

  get closed(): boolean {
    return this.#closed;
  }

  tell(kind: PoolEvent["kind"], text: string): void {
    this.#options.onEvent({ kind, text });
  }

  /** Changes the mode; nothing when it is the present one. */
  setMode(mode: PoolMode): void {
    if (mode === this.#mode) return;
    this.#mode = movePoolMode(this.#mode, mode);
    if (mode === "write") this.errorsIfFull = this.features.errorIfNoSpace;
    this.#cancelNoSpace?.();
    this.#cancelNoSpace = undefined;
    if (mode === "out_of_data_space" && !this.errorsIfFull && this.#noSpaceTimeoutMs > 0) {
      this.#cancelNoSpace = this.#options.clock.after(this.#noSpaceTimeoutMs, () => this.#failQueued());
    }
    this.tell("mode", `switching pool to ${modeText(mode, this.errorsIfFull)} mode`);
    if (mode !== "out_of_data_space") this.#wakeQueued();
  }

  #failQueued(): void {
    this.errorsIfFull = true;
    this.tell("mode", `switching pool to ${modeText(this.#mode, true)} mode`);
    this.#wakeQueued();
  }

  #wakeQueued(): void {
    for (const resolve of this.#waitingForSpace.splice(0)) resolve();
  }

  /** Throws what a request gets in modes that do not serve it; a write that needs a block in a full pool waits here. */
  async admitAllocation(): Promise<void> {
    while (this.#mode === "out_of_data_space" && !this.#closed) {
      if (this.errorsIfFull) throw noSpace();
      await new Promise<void>((resolve) => {
        this.#waitingForSpace.push(resolve);
      });
    }
    this.checkUsable();
    if (this.#mode !== "write") throw refusedByMode(this.#mode, "write");
  }

  /** Something can be served. */
  get isUsable(): boolean {
    return !this.#closed && this.#mode !== "fail";
  }

  /** Throws when nothing at all can be served. */
  checkUsable(): void {
    if (this.#closed) throw new VdoError("VDO_CLOSED", "the thin pool was closed", { object: "thin pool" });
    if (this.#mode === "fail") throw refusedByMode("fail", "read");
  }

  // #region Data blocks

  /** `count` new data blocks, or as many as can be had before a commit. Called inside the gate. */
  async allocate(count: number): Promise<number[]> {
    if (this.metadata.dataFree <= this.#lowWater && !this.#lowWaterTold) {
      this.#lowWaterTold = true;
      this.tell("low_water", "reached low water mark for data device: sending event.");
    }
    const blocks = await this.metadata.allocate(count);
    this.touched();
    return blocks;
  }

  /** Gives back what was allocated and not mapped. */
  async release(blocks: readonly number[]): Promise<void> {
    for (const block of blocks) await this.metadata.releaseData(block, block + 1);
  }

  /** Data blocks [begin, end) lose a mapping: those that are free after the next commit are discarded on the data device. */
  discardAfterCommit(begin: number, end: number): void {
    if (this.data.discard !== undefined) this.#toDiscard.push([begin, end]);
  }

  /**
   * Alone in the gate, right after a commit: what is free now cannot be handed out yet, and no crash brings it back. (The
   * kernel discards before the commit; a crash then can lose what another device still maps in the committed state.)
   */
  async #passDown(): Promise<void> {
    const { data, metadata, ratio } = this;
    for (const [begin, end] of this.#toDiscard.splice(0)) {
      let first = begin;
      for (let block = begin; block <= end; block++) {
        if (block < end && (await metadata.dataCount(block)) === 0) continue;
        // What the storage says of a discard is of no consequence.
        if (block > first) await Promise.allSettled([data.discard?.(first * ratio, (block - first) * ratio)]);
        first = block + 1;
      }
    }
  }

  /** Arms the low water mark again. */
  rearm(): void {
    this.#lowWaterTold = false;
  }
  // #endregion
  // #region Reads in flight

  beginRead(): Epoch {
    this.#epoch.count++;
    return this.#epoch;
  }

  endRead(epoch: Epoch): void {
    epoch.count--;
    if (epoch.count === 0) epoch.drained?.();
  }

  async #drainReads(): Promise<void> {
    const epoch = this.#epoch;
    this.#epoch = { count: 0, drained: undefined };
    if (epoch.count === 0) return;
    await new Promise<void>((resolve) => {
      epoch.drained = resolve;
    });
  }
  // #endregion
  // #region Commits

  /** Something was changed: it is committed within a second. */
  touched(): void {
    this.#cancelTimer ??= this.#options.clock.after(COMMIT_PERIOD_MS, () => {
      this.#cancelTimer = undefined;
      // A failure has changed the mode; who flushes next hears of it.
      this.commit().catch((error: unknown) => this.tell("log", errorMessage(error)));
    });
  }

  /** Makes what was acknowledged durable. Callers that wait for the same turn share one commit. */
  async flush(): Promise<void> {
    this.checkUsable();
    if (this.#hasLostChanges) throw refusedByMode(this.#mode, "flush");
    if (!this.metadata.isDirty) return this.data.flush();
    return this.commit();
  }

  /** Commits the transaction. Throws `VDO_IO` when the mode forbids it. */
  commit(): Promise<void> {
    this.#nextCommit ??= this.gate.alone(async () => {
      // The gate may open at once: the field is set only when this call has returned.
      await Promise.resolve();
      this.#nextCommit = undefined;
      await this.commitInside();
    });
    return this.#nextCommit;
  }

  /** The commit itself, for those who are alone in the gate already. */
  async commitInside(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (!this.metadata.isDirty) return;
    if (!acceptsChanges(this.#mode)) throw refusedByMode(this.#mode, "flush");
    try {
      await this.data.flush();
      await this.metadata.commit();
    } catch (error) {
      await this.#fail("commit", error);
      throw error;
    }
    await this.#drainReads();
    if (this.#toDiscard.length > 0) await this.#passDown();
    this.#judgeSpace();
  }

  #judgeSpace(): void {
    if (acceptsChanges(this.#mode) && this.metadata.metadataFree === 0) {
      this.tell("log", "No free metadata blocks");
      this.setMode("out_of_metadata_space");
    } else if (this.#mode === "out_of_data_space" && this.metadata.dataFree > 0) {
      this.setMode("write");
    }
  }

  /** A failed metadata operation, for those who left the gate: drops the transaction and makes the pool read-only. */
  fail(name: string, error: unknown): Promise<void> {
    return this.gate.alone(() => this.#fail(name, error));
  }

  async #fail(name: string, error: unknown): Promise<void> {
    if (!acceptsChanges(this.#mode)) return;
    this.tell("log", `metadata operation '${name}' failed: error = ${errorMessage(error)}`);
    this.tell("log", "aborting current metadata transaction");
    this.#hasLostChanges = true;
    this.#toDiscard = [];
    try {
      await this.metadata.abort(true);
    } catch (second) {
      this.tell("log", `failed to abort metadata transaction: ${errorMessage(second)}`);
      this.setMode("fail");
      return;
    }
    this.setMode("read_only");
  }
  // #endregion

  /** Stops timers and wakes those who wait; further requests are refused. */
  stop(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#cancelNoSpace?.();
    this.#wakeQueued();
  }
}

function noSpace(): VdoError {
  return new VdoError(
    "VDO_NO_SPACE",
    "the thin pool has no free data block: extend it, or delete or discard something",
    {
      blocksFree: 0,
    },
  );
}

function refusedByMode(mode: PoolMode, operation: "read" | "write" | "flush"): VdoError {
  const text = `the thin pool is in ${modeText(mode, true)} mode: see its status; check and repair its metadata, or extend its metadata device`;
  return new VdoError("VDO_IO", text, { operation, block: 0 });
}
