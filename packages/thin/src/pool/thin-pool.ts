/**
 * A thin pool: thin devices and snapshots on two block devices, on the format of dm-thin.
 *
 *     ThinVolume ─┐                     ┌─ PoolMetadata ─▶ metadata device
 *     ThinVolume ─┼─▶ PoolCore (gate) ──┤
 *     ThinVolume ─┘                     └─ data blocks ──▶ data device
 *
 * Nothing acknowledged by a flush is lost in a crash; the pool is then in its last committed state, without any recovery.
 */
import { type Clock, systemClock, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { DEVICE_ID_MAX, METADATA_WARN_BLOCKS, NO_SPACE_TIMEOUT_MS, SECTOR_BYTES } from "../constants.ts";
import type { DeviceDetails } from "../format/device-details.ts";
import { PoolMetadata } from "../metadata/pool-metadata.ts";
import { checkBlockSectors, DEFAULT_FEATURES, formatPoolTable, type PoolFeatures } from "./features.ts";
import { parseMessage } from "./message.ts";
import { endsTransaction } from "./metadata-failure.ts";
import { acceptsChanges, type PoolMode } from "./modes.ts";
import { PoolCore, type PoolEvent } from "./pool-core.ts";
import { resizePool } from "./resize.ts";
import { ThinVolume, type ThinVolumeOptions } from "./thin-volume.ts";

export interface ThinPoolOptions {
  /** Formatted if its first 4096 bytes are zero, and only then. Both devices stay open when the pool is closed. */
  metadata: BlockDevice;
  data: BlockDevice;
  /** Sectors per data block: 128 to 2097152, a multiple of 128. Fixed for life. */
  blockSectors: number;
  /** Sectors of the data device to use; all of it unless told. */
  dataSectors?: number;
  /** Data blocks: an event is sent when no more are free. Default 0. */
  lowWater?: number;
  features?: Partial<PoolFeatures>;
  /** Milliseconds that a full pool queues writes. Default 60 000; 0 is for ever. */
  noSpaceTimeoutMs?: number;
  clock?: Clock;
  /** Hears of changes of the mode, low water, and what the kernel would log. */
  onEvent?(event: PoolEvent): void;
  /** Metadata blocks (4096 bytes) kept in memory. */
  cacheBlocks?: number;
}

/** What {@link ThinPool.reload} changes. */
export interface PoolReload {
  features?: Partial<PoolFeatures>;
  /** Data blocks. */
  lowWater?: number;
  noSpaceTimeoutMs?: number;
  dataSectors?: number;
}

/** What a pool's status says, as figures. */
export interface PoolFigures {
  transactionId: bigint;
  usedMetadataBlocks: number;
  totalMetadataBlocks: number;
  usedDataBlocks: number;
  totalDataBlocks: number;
  /** 0 is none. */
  heldRoot: number;
  mode: PoolMode;
  needsCheck: boolean;
}

export class ThinPool {
  readonly #core: PoolCore;
  readonly #options: ThinPoolOptions;
  #dataSectors: number | undefined;
  readonly #open = new Map<number, number>();

  private constructor(core: PoolCore, options: ThinPoolOptions) {
    this.#core = core;
    this.#options = options;
    this.#dataSectors = options.dataSectors;
  }

  /**
   * Opens a pool, or makes one on a blank metadata device. Throws `VDO_CORRUPT`, `VDO_THIN_MISMATCH`, `VDO_THIN_SYNTAX`,
   * `VDO_READ_ONLY`, `VDO_NO_SPACE`.
   */
  static async open(options: ThinPoolOptions): Promise<ThinPool> {
    const features = { ...DEFAULT_FEATURES, ...options.features };
    const blockSectors = checkBlockSectors(options.blockSectors);
    if ((blockSectors * SECTOR_BYTES) % options.data.blockSize !== 0) {
      const message = `data blocks of ${blockSectors} sectors are not whole blocks of the data device`;
      throw new VdoError("VDO_BAD_ARGUMENT", message, { argument: "blockSectors", value: blockSectors });
    }
    const cache = options.cacheBlocks === undefined ? {} : { cacheBlocks: options.cacheBlocks };
    const device = options.metadata;
    const metadata = await PoolMetadata.open({ device, blockSectors, readOnly: features.readOnly, ...cache });
    const core = new PoolCore({
      metadata,
      data: options.data,
      features,
      lowWater: options.lowWater ?? 0,
      noSpaceTimeoutMs: options.noSpaceTimeoutMs ?? NO_SPACE_TIMEOUT_MS,
      clock: options.clock ?? systemClock,
      onEvent: options.onEvent?.bind(options) ?? (() => {}),
    });
    const pool = new ThinPool(core, options);
    try {
      await pool.#start();
    } catch (error) {
      core.stop();
      await metadata.close();
      throw error;
    }
    return pool;
  }

  async #start(): Promise<void> {
    const { blockCount, blockSize } = this.#options.metadata;
    if (blockCount * blockSize > METADATA_WARN_BLOCKS * 4096) {
      const text = "Metadata device is larger than 33292800 sectors: excess space will not be used.";
      this.#core.tell("log", text);
    }
    this.#core.setMode(this.#modeOfTable());
    await this.resize();
  }

  get mode(): PoolMode {
    return this.#core.mode;
  }

  /** Bytes per data block. */
  get blockBytes(): number {
    return this.#core.blockBytes;
  }

  // #region Devices

  /** Opens a thin device. Throws `VDO_THIN_NOT_FOUND`, `VDO_BAD_ARGUMENT`. */
  async volume(options: ThinVolumeOptions): Promise<ThinVolume> {
    this.#core.checkUsable();
    await this.#core.metadata.details(options.id);
    const { id } = options;
    const volume = new ThinVolume(this.#core, options, () => {
      const count = (this.#open.get(id) ?? 1) - 1;
      if (count === 0) this.#open.delete(id);
      else this.#open.set(id, count);
    });
    this.#open.set(id, (this.#open.get(id) ?? 0) + 1);
    return volume;
  }

  /** The devices' ids and details, ascending. */
  async devices(): Promise<{ id: number; details: Readonly<DeviceDetails> }[]> {
    const { metadata } = this.#core;
    const devices: { id: number; details: Readonly<DeviceDetails> }[] = [];
    for (const id of await metadata.deviceIds()) devices.push({ id, details: await metadata.details(id) });
    return devices;
  }

  /** Throws `VDO_THIN_EXISTS`. */
  async createThin(id: number): Promise<void> {
    checkId(id);
    await this.#change("create_thin", () => this.#core.metadata.createThin(id));
  }

  /** A snapshot of `origin` as it is at this moment, at no cost. Throws `VDO_THIN_EXISTS`, `VDO_THIN_NOT_FOUND`. */
  async createSnapshot(id: number, origin: number): Promise<void> {
    checkId(id);
    await this.#change("create_snap", () => this.#core.metadata.createSnapshot(id, origin));
  }

  /** Throws `VDO_THIN_NOT_FOUND`; `VDO_THIN_BUSY` while the device is open. */
  async delete(id: number): Promise<void> {
    if (this.#open.has(id)) {
      throw new VdoError("VDO_THIN_BUSY", `thin device ${id} is in use: close it first`, {
        object: `thin device ${id}`,
      });
    }
    await this.#change("delete", () => this.#core.metadata.delete(id));
  }

  /** Throws `VDO_THIN_MISMATCH` unless `current` is the stored one. */
  async setTransactionId(current: bigint, next: bigint): Promise<void> {
    await this.#change("set_transaction_id", async () => this.#core.metadata.setTransactionId(current, next));
  }

  /** Keeps the present state readable for tools while the pool goes on; returns its block. Throws `VDO_THIN_BUSY`. */
  async reserveMetadataSnapshot(): Promise<number> {
    await this.#change("reserve_metadata_snap", () => this.#core.metadata.reserveSnapshot());
    return this.#core.metadata.heldRoot;
  }

  /** Throws `VDO_THIN_MISMATCH` when none is held. */
  async releaseMetadataSnapshot(): Promise<void> {
    await this.#change("release_metadata_snap", () => this.#core.metadata.releaseSnapshot());
  }

  /** A message as the kernel's target takes it: `create_snap 1 0`. Throws `VDO_THIN_SYNTAX` and what the methods throw. */
  async message(text: string): Promise<void> {
    const message = parseMessage(text);
    switch (message.verb) {
      case "create_thin":
        return this.createThin(message.id);
      case "create_snap":
        return this.createSnapshot(message.id, message.origin);
      case "delete":
        return this.delete(message.id);
      case "set_transaction_id":
        return this.setTransactionId(message.current, message.next);
      case "reserve_metadata_snap":
        await this.reserveMetadataSnapshot();
        return;
      case "release_metadata_snap":
        return this.releaseMetadataSnapshot();
    }
  }

  /** Alone: no write is in flight, and the change is committed before anybody else goes on. */
  async #change(name: string, act: () => Promise<unknown>): Promise<void> {
    const core = this.#core;
    await core.gate
      .alone(async () => {
        core.checkUsable();
        if (!acceptsChanges(core.mode)) {
          const message =
            "unable to service pool target messages in READ_ONLY or FAIL mode: check and repair the metadata";
          throw new VdoError("VDO_THIN_MODE", message, { mode: core.mode });
        }
        // What is written so far is durable before a change that commits by itself.
        if (name.endsWith("metadata_snap")) {
          await core.commitInside();
          await core.data.flush();
        }
        await act();
        await core.commitInside();
      })
      .catch(async (error: unknown) => {
        if (isPoisoned(error)) await core.fail(name, error);
        throw error;
      });
  }
  // #endregion
  // #region Table

  /**
   * What suspending the pool, loading another table and resuming do in the kernel: features, low water mark and sizes are
   * taken, what waits for space is tried again, and the mode is what the table says: `fail` stays, and so does `read_only`
   * with needs_check. What is not given stays as it is. Throws `VDO_THIN_SYNTAX` for discards switched off or on,
   * `VDO_THIN_MISMATCH` for a device that became smaller; then nothing has changed.
   */
  async reload({ features, lowWater, noSpaceTimeoutMs, dataSectors }: PoolReload): Promise<void> {
    const core = this.#core;
    core.checkUsable();
    const wanted = { ...core.features, ...features };
    if ((wanted.discard === "ignore") !== (core.features.discard === "ignore")) {
      const text = "Discard support cannot be disabled once enabled";
      throw new VdoError("VDO_THIN_SYNTAX", `${text}, nor enabled: close the pool, and open it so`, { text });
    }
    await resizePool(core, {
      device: this.#options.data,
      dataSectors: dataSectors ?? this.#dataSectors,
      load: () => {
        this.#dataSectors = dataSectors ?? this.#dataSectors;
        core.load({ features: wanted, lowWater: lowWater ?? core.lowWater, noSpaceTimeoutMs });
        if (core.mode !== "fail") core.setMode(this.#modeOfTable());
      },
    });
  }

  #modeOfTable(): PoolMode {
    const { features, metadata } = this.#core;
    if (features.readOnly) return "read_only";
    if (!metadata.needsCheck) return "write";
    this.#core.tell("log", "unable to switch pool to write mode until repaired.");
    return "read_only";
  }

  /**
   * Takes the present sizes of both devices, or `dataSectors`; larger ones are used, smaller ones are refused with
   * `VDO_THIN_MISMATCH`. Also arms the low water mark again.
   */
  async resize(dataSectors: number | undefined = this.#dataSectors): Promise<void> {
    await resizePool(this.#core, { device: this.#options.data, dataSectors });
    this.#dataSectors = dataSectors;
  }
  // #endregion
  // #region Status

  async figures(): Promise<PoolFigures> {
    const { metadata, mode } = this.#core;
    return {
      transactionId: metadata.transactionId,
      usedMetadataBlocks: metadata.metadataBlocks - metadata.metadataFree,
      totalMetadataBlocks: metadata.metadataBlocks,
      usedDataBlocks: metadata.dataBlocks - metadata.dataFree,
      totalDataBlocks: metadata.dataBlocks,
      heldRoot: metadata.heldRoot,
      mode,
      needsCheck: metadata.needsCheck,
    };
  }

  /** The status line of the kernel's target, with the space at its end. Commits first unless told not to. */
  async status({ noFlush = false }: { noFlush?: boolean } = {}): Promise<string> {
    const core = this.#core;
    if (core.mode === "fail") return "Fail";
    if (!noFlush && acceptsChanges(core.mode)) await core.commit();
    const figures = await this.figures();
    const mode = core.mode === "write" ? "rw" : core.mode === "out_of_data_space" ? core.mode : "ro";
    return [
      figures.transactionId,
      `${figures.usedMetadataBlocks}/${figures.totalMetadataBlocks}`,
      `${figures.usedDataBlocks}/${figures.totalDataBlocks}`,
      figures.heldRoot === 0 ? "-" : figures.heldRoot,
      mode,
      this.#discardWord(),
      core.errorsIfFull ? "error_if_no_space" : "queue_if_no_space",
      figures.needsCheck ? "needs_check" : "-",
      core.metadata.metadataThreshold,
      "",
    ].join(" ");
  }

  #discardWord(): string {
    const { discard } = this.#core.features;
    if (discard === "ignore") return "ignore_discard";
    return discard === "passdown" && this.#core.data.discard !== undefined ? "discard_passdown" : "no_discard_passdown";
  }

  /** The table line of the kernel's target for devices of these names (`254:0`), with the space at its end. */
  table(names: { metadata: string; data: string }): string {
    const { blockSectors } = this.#core.metadata;
    return formatPoolTable({
      ...names,
      blockSectors,
      lowWater: this.#core.lowWater,
      features: this.#core.features,
    });
  }
  // #endregion

  /** Makes everything acknowledged durable. */
  async flush(): Promise<void> {
    await this.#core.flush();
  }

  /** Makes everything durable and closes the pool; the devices stay open. Open volumes refuse requests from now on. */
  async close(): Promise<void> {
    const core = this.#core;
    if (core.closed) return;
    try {
      await core.gate.alone(async () => {
        if (acceptsChanges(core.mode)) await core.commitInside();
        // What was written in place needs no commit.
        await core.data.flush();
      });
    } finally {
      core.stop();
      await core.metadata.close();
    }
  }
}

function isPoisoned(error: unknown): boolean {
  if (!endsTransaction(error)) return false;
  const code = (error as { code?: unknown }).code;
  return typeof code !== "string" || !/^VDO_(THIN_|BAD_ARGUMENT)/.test(code);
}

function checkId(id: number): void {
  if (Number.isInteger(id) && id >= 0 && id <= DEVICE_ID_MAX) return;
  throw new VdoError("VDO_BAD_ARGUMENT", `device id ${id} is not in 0 to ${DEVICE_ID_MAX}`, {
    argument: "id",
    value: id,
  });
}
