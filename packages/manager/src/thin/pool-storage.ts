/** The storage under a pool, held by one process at a time: a device for both, or one for metadata and one for data. */
import { createHash } from "node:crypto";
import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { decodeSuperblock, SplitDevice, ThinPool, type ThinPoolOptions } from "@vdo/thin";
import type { ClientEnvironment, Environment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { openStorage, openToRead, type Storage } from "../host/storage.ts";
import { featuresOf, type PoolPlace, type PoolSettings, placeOf } from "./pool-settings.ts";

/** The path by which a pool is known: of its device, or of its metadata. */
export function keyOf(place: PoolPlace): string {
  const path = "device" in place ? place.device : place.metadata;
  return existsSync(path) ? realpathSync(path) : path;
}

/** Files of the daemon of the pool at `place`. */
export function poolSockets(
  environment: ClientEnvironment,
  place: PoolPlace,
): { folder: string; control: string; nbd: string; state: string } {
  const folder = new Paths(environment).shortFolder;
  const hash = createHash("sha256").update(keyOf(place)).digest("hex").slice(0, 16);
  const file = (end: string): string => join(folder, `t${hash}.${end}`);
  return { folder, control: file("ctl"), nbd: file("nbd"), state: file("json") };
}

/** Opened storage. */
export interface PoolStorage {
  readonly metadata: BlockDevice;
  readonly data: BlockDevice;
  readonly split: SplitDevice | undefined;
  /** Takes the sizes of files and devices again, and hands out what one device has become larger by. */
  refresh(): Promise<void>;
  /** Closes and lets others have it. */
  release(): Promise<void>;
}

/** A file, block device or NBD export for this process alone. Throws `VDO_WRONG_STATE` when another has it. */
function openForPool(path: string, environment: Environment): Promise<Storage> {
  const paths = new Paths(environment);
  return openStorage({ path, readOnly: false, command: "thin", environment, paths, inline: true });
}

/** Opens what is at `place`. One device must carry a label. */
export async function openPoolStorage(place: PoolPlace, environment: Environment): Promise<PoolStorage> {
  const opened: Storage[] = [];
  const release = async (): Promise<void> => {
    for (const one of opened.splice(0).reverse()) await one.release();
  };
  const refresh = async (): Promise<void> => {
    for (const { device } of opened) if (device instanceof FileDevice) await device.refresh();
  };
  try {
    if ("device" in place) {
      opened.push(await openForPool(place.device, environment));
      const split = await SplitDevice.open((opened[0] as Storage).device);
      const grow = async (): Promise<void> => {
        await refresh();
        await split.grow();
      };
      return { metadata: split.metadata, data: split.data, split, refresh: grow, release };
    }
    opened.push(await openForPool(place.metadata, environment));
    opened.push(await openForPool(place.data, environment));
    const [metadata, data] = opened as [Storage, Storage];
    return { metadata: metadata.device, data: data.device, split: undefined, refresh, release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Divides the blank device at `path` for a pool. */
export async function labelDevice(
  path: string,
  options: Parameters<typeof SplitDevice.create>[1],
  environment: Environment,
): Promise<void> {
  const { device, release } = await openForPool(path, environment);
  try {
    await SplitDevice.create(device, options);
  } finally {
    await release();
  }
}

/** Sectors per data block, from the label or the superblock. Throws `VDO_CORRUPT`. */
export async function blockSectorsOf({ metadata, split }: PoolStorage): Promise<number> {
  if (split !== undefined) return split.blockSectors;
  const block = new Uint8Array(4096);
  await metadata.read(0, block);
  return decodeSuperblock(block).dataBlockSectors;
}

/** True when the metadata is all zero at its beginning, as of a pool that is not made yet. */
export async function isBlankMetadata({ metadata }: PoolStorage): Promise<boolean> {
  const block = new Uint8Array(4096);
  await metadata.read(0, block);
  return block.every((byte) => byte === 0);
}

/** A pool and its storage, opened together. */
export interface OpenPool {
  pool: ThinPool;
  storage: PoolStorage;
  close(): Promise<void>;
}

export interface OpenPoolOptions {
  settings: PoolSettings;
  environment: Environment;
  /** For a pool that is to be made; else its own. */
  blockSectors?: number;
  onEvent?: ThinPoolOptions["onEvent"];
}

/** Opens the pool of `settings` for this process alone. */
export async function openPool({ settings, environment, blockSectors, onEvent }: OpenPoolOptions): Promise<OpenPool> {
  const storage = await openPoolStorage(placeOf(settings), environment);
  try {
    const pool = await ThinPool.open({
      metadata: storage.metadata,
      data: storage.data,
      blockSectors: blockSectors ?? (await blockSectorsOf(storage)),
      features: featuresOf(settings),
      lowWater: settings.lowWaterMark,
      noSpaceTimeoutMs: settings.noSpaceTimeout * 1000,
      clock: environment.clock,
      ...(onEvent === undefined ? {} : { onEvent }),
    });
    const close = async (): Promise<void> => {
      await pool.close().finally(() => storage.release());
    };
    return { pool, storage, close };
  } catch (error) {
    await storage.release();
    throw error;
  }
}

/** Opens for reading, without any lock, what another process may be writing, for the time of `act`. */
export async function withReadOnly<T>(
  place: PoolPlace,
  act: (source: { metadata: BlockDevice; data: BlockDevice }) => Promise<T>,
): Promise<T> {
  const opened: BlockDevice[] = [];
  const open = async (path: string): Promise<BlockDevice> => {
    const { device } = await openToRead(path, "thin");
    opened.push(device);
    return device;
  };
  try {
    if ("device" in place) return await act(await SplitDevice.open(await open(place.device)));
    return await act({ metadata: await open(place.metadata), data: await open(place.data) });
  } finally {
    for (const device of opened) await device.close();
  }
}
