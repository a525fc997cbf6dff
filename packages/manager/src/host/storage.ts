/**
 * The storage under a volume: a block device, a regular file or an NBD export, opened by one process at a time.
 *
 * A block device is held with `O_EXCL`, which the kernel refuses while the device is mounted or held so by anyone else (its
 * own dm-vdo included). Every kind is locked by identity (device and inode numbers, or the URI in one spelling) in the runtime
 * folder, so two paths to one file meet on one lock, and once more for the whole machine, for those who use another runtime
 * folder and in case that somebody deletes it. A file that is the backing file of a loop device is in use, too.
 *
 * An export has no owner that could be asked, so a daemon also claims the volume on it by its UUID: `claimVolume`.
 */
import { constants } from "node:fs";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isVdoError } from "@vdo/base";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { ReconnectingNbdDevice, type ReconnectingOptions } from "@vdo/nbd";
import { readState, runningVolumes } from "../daemon/state.ts";
import { accessError, advised, commandError, errnoOf } from "../errors.ts";
import { uuidText } from "../values.ts";
import type { Environment } from "./environment.ts";
import { acquireLock, acquireMachineLock, type Lock } from "./lock.ts";
import type { Paths } from "./paths.ts";
import { PUNCH_PROGRAMS, punchHole } from "./punch-hole.ts";
import { exportError, isNbdUri, locateStorage, type StorageLocation } from "./storage-location.ts";

/**
 * How long a daemon waits for an export that is gone. After that its volume is read-only until it is rebuilt, so the time is
 * ample: a storage cluster may take minutes to move a server elsewhere.
 */
const RECONNECT_MILLISECONDS = 600_000;

/** A block device that can look at its size again. */
export interface StorageDevice extends BlockDevice {
  readonly readOnly: boolean;
  /** False where the storage says that every write is durable when it ends; undefined where it says nothing. */
  readonly hasCache?: boolean;
  /** Takes the size again; the number of blocks, never fewer than before. */
  refresh(): Promise<number>;
  /** From now on the storage counts as itself only while this block holds what it holds now; for storage that may be replaced. */
  recognise?(block: number): Promise<void>;
}

/** Exclusively opened storage. */
export interface Storage {
  readonly info: StorageLocation;
  readonly device: StorageDevice;
  /** Closes the device and lets others have it. */
  release(): Promise<void>;
}

export interface OpenStorageOptions {
  /** Path, device number or NBD URI. */
  path: string;
  readOnly: boolean;
  /** Subcommand named in the text when access is denied. */
  command: string;
  environment: Environment;
  paths: Paths;
  /** Told when the connection to an export is lost, back, or given up. */
  onChange?: ReconnectingOptions["onChange"];
  /** Offer `discard` where the storage can forget blocks. */
  discards?: boolean;
  /** `inline` of `FileDevice`: for processes that serve what is on the storage, and nothing that the storage is on. */
  inline?: boolean;
}

/** Opens the storage for this process alone. Throws `VDO_WRONG_STATE` when it is in use, `VDO_USER` when not allowed. */
export async function openStorage(options: OpenStorageOptions): Promise<Storage> {
  const { path, readOnly, command, environment, paths } = options;
  const info = await locateStorage(path, command);
  await paths.prepare();
  const refusal = (): Error => {
    const next =
      "Stop that volume. If no vdo list shows it, look with ps for its daemon, 'vdo _serve': SIGTERM stops it cleanly.";
    return commandError("VDO_WRONG_STATE", advised(`The device ${path} is in use by another running VDO.`, next), path);
  };
  const lock = await acquireLock(paths.lock("storage", info.identity), 0, environment.clock);
  if (lock === undefined) throw refusal();
  const machineLock = await acquireMachineLock(info.identity);
  if (machineLock === undefined) {
    await lock.release();
    throw refusal();
  }
  const held: (() => Promise<void>)[] = [() => lock.release(), () => machineLock.release()];
  const release = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (let step = held.pop(); step !== undefined; step = held.pop()) {
      await step().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  };
  try {
    if (info.kind === "file" && !readOnly) await refuseLoopFile(info.path, environment);
    if (info.kind === "block" && readOnly) {
      // Opened for writing, a block device is exclusive by itself.
      const hold = await open(info.path, constants.O_RDONLY | constants.O_EXCL);
      held.push(() => hold.close());
    }
    const device = await openDevice(info, readOnly, options);
    held.push(() => device.close());
    if (!readOnly && device.readOnly) {
      throw commandError("VDO_USER", `${path} is exported read-only: a volume on it starts with --readOnly`, path);
    }
    const claim = await claimVolume(info, device, options);
    if (claim !== undefined) held.push(() => claim.release());
    return { info, device, release };
  } catch (error) {
    await release().catch(() => undefined);
    if (isVdoError(error, "VDO_USER") || isVdoError(error, "VDO_WRONG_STATE")) throw error;
    if (errnoOf(error) === "EBUSY") {
      const text = `The device ${path} is in use: it is mounted, or held by another program.`;
      throw commandError("VDO_WRONG_STATE", text, path, error);
    }
    if (errnoOf(error) === undefined) throw error;
    throw accessError(error, path, command);
  }
}

/** Opens a storage to read it, without keeping anybody else out: also while its volume runs. Throws `VDO_USER`. */
export async function openToRead(
  path: string,
  command: string,
): Promise<{ info: StorageLocation; device: BlockDevice }> {
  const info = await locateStorage(path, command);
  return { info, device: await openDevice(info, true) };
}

async function openDevice(
  { path, kind }: StorageLocation,
  readOnly: boolean,
  { onChange, discards = false, inline = false, environment }: Partial<OpenStorageOptions> = {},
): Promise<StorageDevice> {
  if (kind !== "nbd") {
    const programs = discards ? environment?.programs : undefined;
    if (programs?.find(PUNCH_PROGRAMS[kind]) === undefined) return FileDevice.open({ path, readOnly, inline });
    return FileDevice.open({ path, readOnly, inline, punchHole: punchHole(programs) });
  }
  const options = { readOnly, reconnectMs: RECONNECT_MILLISECONDS, ...(onChange === undefined ? {} : { onChange }) };
  return ReconnectingNbdDevice.connect(path, options).catch((error: unknown) => {
    throw exportError(path, error);
  });
}

/** A file behind a loop device may be mounted through it, which no lock of the file tells. */
async function refuseLoopFile(path: string, { systemRoot }: Environment): Promise<void> {
  const folder = join(systemRoot, "/sys/block");
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith("loop")) continue;
    const backing = await readFile(join(folder, name, "loop/backing_file"), "utf8").catch(() => "");
    if (backing.trimEnd() !== path) continue;
    const text = `The device ${path} is in use: it is the backing file of /dev/${name}; let it go with losetup -d /dev/${name}.`;
    throw commandError("VDO_WRONG_STATE", text, path);
  }
}

/**
 * Claims the volume on `device` by its UUID, so that one volume is not opened twice through two names of one export. Files and
 * devices keep each other apart by identity, so two of them with one UUID are copies, which may run together.
 */
async function claimVolume(
  { path, kind }: StorageLocation,
  device: BlockDevice,
  { environment, paths }: OpenStorageOptions,
): Promise<Lock | undefined> {
  const stored = await environment.engine.inspect(device).catch(() => undefined);
  if (stored === undefined) return undefined;
  const uuid = uuidText(stored.uuid);
  const lock = await acquireLock(paths.lock("storage", `volume-${uuid}`), 0, environment.clock);
  if (lock !== undefined) return lock;
  const states = await Promise.all(
    (await runningVolumes(paths)).map((name) => readState(paths.volume(name).stateFile)),
  );
  const owner = states.find((state) => state?.uuid === uuid);
  if (kind !== "nbd" && owner !== undefined && !isNbdUri(owner.device)) return undefined;
  const who = owner === undefined ? "by another command" : `as VDO ${owner.name}, from ${owner.device}`;
  const text = `The volume on ${path} (UUID ${uuid}) is in use already ${who}. A copy of it can be told apart with vdo setUUID.`;
  throw commandError("VDO_WRONG_STATE", text, path);
}
