/**
 * Thin pools on this machine: those of the configuration by name, and any other by its devices. A pool that runs is asked over
 * the control socket of its daemon; one at rest is opened here for the time of the command.
 */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BlockDevice } from "@vdo/block-device";
import { NbdClient } from "@vdo/nbd";
import type { SplitOptions, ThinPool } from "@vdo/thin";
import { changeConfiguration } from "../config/change.ts";
import { Configuration } from "../config/configuration.ts";
import { checkStorageFree } from "../config/storage-owners.ts";
import { askIfRunning, controlRequest } from "../control/client.ts";
import { commandError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import { acquireLock, isAlive, pause } from "../host/lock.ts";
import { Paths } from "../host/paths.ts";
import { isNbdUri, prepareFile } from "../host/storage-location.ts";
import { poolName } from "./pool-launcher.ts";
import { type PoolSettings, placeOf, sectorsOf, type ThinVolumeSettings } from "./pool-settings.ts";
import { isBlankMetadata, labelDevice, openPool, openPoolStorage, poolSockets, withReadOnly } from "./pool-storage.ts";
import type { PoolStatus, ServedVolume } from "./thin-server.ts";

/** Attempts, 50 ms apart, to see a daemon gone after it has answered. */
const GONE_ATTEMPTS = 200;

export interface CreatePoolOptions extends Pick<SplitOptions, "metadataBytes"> {
  blockSectors: number;
  /** Bytes of the sparse file to make or extend, for a pool on one file. */
  physicalBytes?: number;
}

export interface ListedPool {
  name: string;
  /** `killed`: its daemon ended without stopping. */
  state: "running" | "stopped" | "killed";
  uri: string;
  place: string;
}

export interface PoolManagerOptions {
  environment: Environment;
  /** Value of `--confFile`. */
  configurationFile?: string | undefined;
  /** Hears what the kernel would log, and what was cleaned up. */
  onText?(text: string): void;
}

export class PoolManager {
  readonly #environment: Environment;
  readonly #paths: Paths;
  readonly configurationFile: string;
  readonly #onText: (text: string) => void;

  constructor({ environment, configurationFile, onText }: PoolManagerOptions) {
    this.#environment = environment;
    this.#paths = new Paths(environment);
    this.configurationFile = this.#paths.configuration(configurationFile);
    this.#onText = onText ?? (() => undefined);
  }

  /** The settings of a configured pool. Throws `VDO_USER` when there is none of the name. */
  async settings(name: string): Promise<PoolSettings> {
    return (await Configuration.load(this.configurationFile)).getPool(name);
  }

  #change<T>(action: (configuration: Configuration) => Promise<T>): Promise<T> {
    const { configurationFile } = this;
    return changeConfiguration({ environment: this.#environment, paths: this.#paths, configurationFile }, action);
  }

  // #region Pools

  /** Makes a pool on blank storage; one with a name is remembered. Resolves with its status line. */
  async create(settings: PoolSettings, options: CreatePoolOptions): Promise<string> {
    if (settings.name === "") return this.#make(settings, options);
    return this.#change(async (configuration) => {
      const { name } = settings;
      if (configuration.pools.has(name) || configuration.volumes.has(name)) {
        throw commandError("VDO_USER", `${name} already exists`, name);
      }
      for (const path of Object.values(placeOf(settings))) {
        if (!isNbdUri(path) && existsSync(path)) await checkStorageFree(configuration, path);
      }
      const line = await this.#make(settings, options);
      configuration.pools.set(name, settings);
      await configuration.save();
      return line;
    });
  }

  async #make(settings: PoolSettings, { physicalBytes, ...options }: CreatePoolOptions): Promise<string> {
    const place = placeOf(settings);
    const environment = this.#environment;
    if ("device" in place) {
      const isNew = physicalBytes !== undefined && (await prepareFile(place.device, physicalBytes, "thin create-pool"));
      try {
        const uuid = new Uint8Array(Buffer.from(randomUUID().replaceAll("-", ""), "hex"));
        await labelDevice(place.device, { ...options, uuid }, environment);
      } catch (error) {
        if (isNew) await rm(place.device, { force: true });
        throw error;
      }
    }
    const storage = await openPoolStorage(place, environment);
    const isBlank = await isBlankMetadata(storage).finally(() => storage.release());
    if (!isBlank) {
      const path = "device" in place ? place.device : place.metadata;
      const text = `${path} is not blank: zero its first 4096 bytes if what is there may be lost`;
      throw commandError("VDO_USER", text, path);
    }
    return this.withPool(settings, (pool) => pool.status(), options.blockSectors);
  }

  /** Takes over a pool that exists: nothing of it is changed. */
  import(settings: PoolSettings): Promise<void> {
    return this.#change(async (configuration) => {
      const { name } = settings;
      if (configuration.pools.has(name) || configuration.volumes.has(name)) {
        throw commandError("VDO_USER", `${name} already exists`, name);
      }
      const storage = await openPoolStorage(placeOf(settings), this.#environment);
      const isBlank = await isBlankMetadata(storage).finally(() => storage.release());
      if (isBlank) throw commandError("VDO_USER", "there is no pool: make one with vdo thin create-pool", name);
      configuration.pools.set(name, settings);
      await configuration.save();
    });
  }

  /** Stops a pool and forgets it; its storage stays as it is. */
  remove(name: string): Promise<void> {
    return this.#change(async (configuration) => {
      const settings = configuration.getPool(name);
      if ((await this.running(settings)) !== undefined) await this.stop(settings);
      else await this.#cleanUp(settings);
      configuration.pools.delete(name);
      await configuration.save();
    });
  }

  /** All configured pools, by name. */
  async list(): Promise<ListedPool[]> {
    const configuration = await Configuration.load(this.configurationFile);
    const pools: ListedPool[] = [];
    for (const name of [...configuration.pools.keys()].sort()) {
      const settings = configuration.getPool(name);
      const sockets = poolSockets(this.#environment, placeOf(settings));
      const isRunning = await isAlive(sockets.control);
      const left = existsSync(sockets.state)
        ? (JSON.parse(await readFile(sockets.state, "utf8")) as { uri: string })
        : undefined;
      const state = isRunning ? "running" : left === undefined ? "stopped" : "killed";
      const place = Object.values(placeOf(settings)).join(" ");
      pools.push({ name, state, uri: isRunning ? (left?.uri ?? "") : "", place });
    }
    return pools;
  }

  /** Says what a running pool is like; undefined when it does not run. */
  async running(settings: PoolSettings): Promise<PoolStatus | undefined> {
    const { control } = poolSockets(this.#environment, placeOf(settings));
    return (await askIfRunning(control, "status")) as PoolStatus | undefined;
  }

  /** Log of the pool's daemon. */
  logFile({ name }: PoolSettings): string {
    return join(this.#paths.logFolder(), name === "" ? "thin.log" : `thin-${name}.log`);
  }

  /** Has a daemon serve the pool; resolves with the URI of its devices. Throws `VDO_WRONG_STATE` when it runs already. */
  async start(settings: PoolSettings, socket?: string): Promise<string> {
    const status = await this.running(settings);
    if (status !== undefined) {
      throw commandError("VDO_WRONG_STATE", `${poolName(settings)} is running already at ${status.uri}`, settings.name);
    }
    await this.#cleanUp(settings);
    const { uri } = await this.#environment.poolLauncher({
      settings,
      socket,
      environment: this.#environment,
      logFile: this.logFile(settings),
      onSlow: () =>
        this.#onText(`${poolName(settings)} is still starting; its progress is in ${this.logFile(settings)}`),
    });
    return uri;
  }

  /** Stops the daemon. Throws `VDO_WRONG_STATE` when there is none; what a killed one left is removed all the same. */
  async stop(settings: PoolSettings): Promise<void> {
    const { control } = poolSockets(this.#environment, placeOf(settings));
    if ((await this.running(settings)) === undefined) {
      const wasKilled = await this.#cleanUp(settings);
      if (wasKilled) return;
      throw commandError("VDO_WRONG_STATE", `${poolName(settings)} is not running`, settings.name);
    }
    await controlRequest(control, "stop");
    for (let attempt = 0; await isAlive(control); attempt++) {
      if (attempt === GONE_ATTEMPTS)
        throw commandError("VDO_SYSTEM", `cannot stop ${poolName(settings)}`, settings.name);
      await pause(50, this.#environment.clock);
    }
  }

  /** Removes what a killed daemon left, under its lock. True when there was something. */
  async #cleanUp(settings: PoolSettings): Promise<boolean> {
    const { control, nbd, state } = poolSockets(this.#environment, placeOf(settings));
    if (!existsSync(state)) return false;
    const lock = await acquireLock(control, 0, this.#environment.clock);
    if (lock === undefined) return false;
    try {
      const { pid } = JSON.parse(await readFile(state, "utf8")) as { pid: number };
      this.#onText(`the daemon of ${poolName(settings)} (process ${pid}) ended without stopping; cleaned up after it`);
      await rm(nbd, { force: true });
      await rm(state, { force: true });
    } finally {
      await lock.release();
    }
    return true;
  }

  /** Changes what is remembered of a pool, and the pool if it runs. `change` gives the new settings. */
  async modify(settings: PoolSettings, change: (settings: PoolSettings) => PoolSettings): Promise<void> {
    const { control } = poolSockets(this.#environment, placeOf(settings));
    const apply = async (present: PoolSettings): Promise<PoolSettings> => {
      const wanted = change(present);
      if ((await this.running(settings)) !== undefined) await controlRequest(control, "reload", { settings: wanted });
      return wanted;
    };
    if (settings.name === "") {
      if ((await this.running(settings)) === undefined) {
        const text = `${poolName(settings)} is not running, and its options are not remembered: give them to vdo thin start`;
        throw commandError("VDO_WRONG_STATE", text);
      }
      await apply(settings);
      return;
    }
    await this.#change(async (configuration) => {
      const wanted = await apply(configuration.getPool(settings.name));
      configuration.pools.set(settings.name, wanted);
      await configuration.save();
    });
  }

  /** Takes the present sizes of the pool's devices; resolves with the status line. A file is made `physicalBytes` long before. */
  async grow(settings: PoolSettings, physicalBytes?: number): Promise<string> {
    const place = placeOf(settings);
    if (physicalBytes !== undefined) {
      await prepareFile("device" in place ? place.device : place.data, physicalBytes, "thin grow");
    }
    const { control } = poolSockets(this.#environment, place);
    if ((await this.running(settings)) !== undefined) {
      await controlRequest(control, "reload", { settings });
      return ((await this.running(settings)) as PoolStatus).line;
    }
    return this.withPool(settings, async (pool, refresh) => {
      await refresh();
      await pool.resize();
      return pool.status();
    });
  }
  // #endregion
  // #region Commands to a pool

  /** Opens the pool at rest for the time of `act`. `blockSectors`: for one that is to be made. */
  async withPool<T>(
    settings: PoolSettings,
    act: (pool: ThinPool, refresh: () => Promise<void>) => Promise<T>,
    blockSectors?: number,
  ): Promise<T> {
    const onEvent = ({ text }: { text: string }): void => this.#onText(text);
    const sectors = blockSectors === undefined ? {} : { blockSectors };
    const open = await openPool({ settings, environment: this.#environment, onEvent, ...sectors });
    try {
      return await act(open.pool, () => open.storage.refresh());
    } finally {
      await open.close();
    }
  }

  /** The kernel's status line, of the pool running or at rest. */
  async status(settings: PoolSettings): Promise<string> {
    const status = await this.running(settings);
    return status?.line ?? this.withPool(settings, (pool) => pool.status());
  }

  /** The kernel's table line, with paths for devices. */
  async table(settings: PoolSettings): Promise<string> {
    const status = await this.running(settings);
    if (status !== undefined) return status.table;
    const place = placeOf(settings);
    const names = "device" in place ? { metadata: place.device, data: place.device } : place;
    return this.withPool(settings, async (pool) => pool.table(names));
  }

  /** The thin devices of the pool, running or at rest. */
  async volumes(settings: PoolSettings): Promise<{ volumes: ServedVolume[]; blockBytes: number }> {
    const status = await this.running(settings);
    if (status !== undefined) return status;
    return this.withPool(settings, async (pool) => {
      const devices = await pool.devices();
      const volumes = devices.map(({ id, details }) => ({
        id,
        ...details,
        sectors: sectorsOf(settings, id) ?? 0,
        transactionId: String(details.transactionId),
      }));
      return { volumes, blockBytes: pool.blockBytes };
    });
  }

  /** Sends a message to the pool, running or at rest. */
  async message(settings: PoolSettings, text: string, volume?: ThinVolumeSettings): Promise<void> {
    const { control } = poolSockets(this.#environment, placeOf(settings));
    if ((await this.running(settings)) === undefined) {
      await this.withPool(settings, (pool) => pool.message(text));
    } else await controlRequest(control, "message", { text, ...(volume === undefined ? {} : { volume }) });
  }

  /** Makes thin device `id`, or a snapshot of `origin`; what the pool does not store of it is remembered. */
  async createVolume(
    settings: PoolSettings,
    { id, origin, volume }: { id: number; origin?: number | undefined; volume?: ThinVolumeSettings | undefined },
  ): Promise<void> {
    const text = origin === undefined ? `create_thin ${id}` : `create_snap ${id} ${origin}`;
    if (settings.name === "") {
      if (volume !== undefined) {
        const why = "sizes and origins of devices are remembered of configured pools only: give --name";
        throw commandError("VDO_USER", why);
      }
      return this.message(settings, text);
    }
    await this.#change(async (configuration) => {
      const pool = configuration.getPool(settings.name);
      const stored = volume ?? pool.volumes[String(origin ?? "")];
      await this.message(pool, text, stored);
      if (stored === undefined) return;
      configuration.pools.set(pool.name, { ...pool, volumes: { ...pool.volumes, [String(id)]: stored } });
      await configuration.save();
    });
  }

  async deleteVolume(settings: PoolSettings, id: number): Promise<void> {
    if (settings.name === "") return this.message(settings, `delete ${id}`);
    await this.#change(async (configuration) => {
      const pool = configuration.getPool(settings.name);
      await this.message(pool, `delete ${id}`);
      const { [String(id)]: _gone, ...volumes } = pool.volumes;
      configuration.pools.set(pool.name, { ...pool, volumes });
      await configuration.save();
    });
  }

  /** Opens a thin device for the time of `act`: over NBD when the pool runs. */
  async withVolume<T>(
    settings: PoolSettings,
    { id, sectors }: { id: number; sectors: number },
    act: (volume: BlockDevice) => Promise<T>,
  ): Promise<T> {
    const status = await this.running(settings);
    if (status === undefined) {
      return this.withPool(settings, async (pool) => {
        const volume = await pool.volume({ id, sectors });
        return act(volume).finally(() => volume.close());
      });
    }
    const client = await NbdClient.connect(status.uri.replace("/ID?", `/${id}?`));
    return act(client).finally(() => client.close());
  }

  /** Opens metadata and data for reading for the time of `act`; a running pool goes on. */
  async withSource<T>(
    settings: PoolSettings,
    act: (source: { metadata: BlockDevice; data: BlockDevice }) => Promise<T>,
  ): Promise<T> {
    if ((await this.running(settings)) === undefined) {
      const storage = await openPoolStorage(placeOf(settings), this.#environment);
      return act(storage).finally(() => storage.release());
    }
    return withReadOnly(placeOf(settings), act);
  }
  // #endregion
}
