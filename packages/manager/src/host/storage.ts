/**
 * The storage under a volume: a block device or a regular file, opened by one process at a time.
 *
 * A block device is held with `O_EXCL`, which the kernel refuses while the device is mounted or held so by anyone else (its
 * own dm-vdo included). Both kinds are locked by identity (device and inode numbers) in the runtime folder, so two paths to
 * one file meet on one lock.
 */
import { constants, type Stats } from "node:fs";
import { type FileHandle, open, readdir, readFile, realpath, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { FileDevice } from "@vdo/block-device";
import { accessError, commandError, errnoOf } from "../errors.ts";
import { renderSize } from "../size.ts";
import type { Environment } from "./environment.ts";
import { acquireLock, type Lock } from "./lock.ts";
import type { Paths } from "./paths.ts";
import { type Programs, programFailure } from "./programs.ts";

/** What is known of a storage path without opening it. */
export interface StorageInfo {
  /** Path with links resolved. */
  readonly path: string;
  readonly kind: "block" | "file";
  readonly bytes: number;
  /** The same for every path to the same storage. */
  readonly identity: string;
}

/** Exclusively opened storage. */
export interface Storage {
  readonly info: StorageInfo;
  readonly device: FileDevice;
  /** Closes the device and lets others have it. */
  release(): Promise<void>;
}

/** Looks at a storage path. Throws `VDO_USER` when it is missing, not allowed, or neither block device nor regular file. */
export async function examineStorage(path: string, command: string): Promise<StorageInfo> {
  try {
    const resolved = await realpath(path);
    const stats = await stat(resolved);
    if (stats.isFile()) {
      return { path: resolved, kind: "file", bytes: stats.size, identity: `file-${stats.dev}-${stats.ino}` };
    }
    if (stats.isBlockDevice()) {
      const number = deviceNumber(stats);
      const sectors = Number(await readFile(`/sys/dev/block/${number}/size`, "utf8"));
      return { path: resolved, kind: "block", bytes: sectors * 512, identity: `block-${number}` };
    }
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") {
      throw commandError("VDO_USER", `Device ${path} not found`, path, error);
    }
    throw accessError(error, path, command);
  }
  throw commandError("VDO_USER", `Device ${path} is neither a block device nor a regular file`, path);
}

/** `MAJOR:MINOR` of a device node, as in `/sys/dev/block`. */
export function deviceNumber({ rdev }: Stats): string {
  const major = ((rdev >>> 8) & 0xfff) + (Math.floor(rdev / 2 ** 32) & 0xfffff000);
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}

export interface OpenStorageOptions {
  path: string;
  readOnly: boolean;
  /** Subcommand named in the text when access is denied. */
  command: string;
  environment: Environment;
  paths: Paths;
}

/** Opens the storage for this process alone. Throws `VDO_WRONG_STATE` when it is in use, `VDO_USER` when not allowed. */
export async function openStorage({
  path,
  readOnly,
  command,
  environment,
  paths,
}: OpenStorageOptions): Promise<Storage> {
  const info = await examineStorage(path, command);
  await paths.prepare();
  const lock = await acquireLock(paths.lock("storage", info.identity), 0, environment.clock);
  if (lock === undefined) {
    throw commandError("VDO_WRONG_STATE", `The device ${path} is in use by another running VDO.`, path);
  }
  let hold: FileHandle | undefined;
  try {
    // Opened for writing, a block device is exclusive by itself.
    hold = info.kind === "block" && readOnly ? await open(info.path, constants.O_RDONLY | constants.O_EXCL) : undefined;
    const device = await FileDevice.open({ path: info.path, readOnly });
    return { info, device, release: () => releaseAll(device, hold, lock) };
  } catch (error) {
    await hold?.close();
    await lock.release();
    if (errnoOf(error) === "EBUSY") {
      const text = `The device ${path} is in use: it is mounted, or held by another program.`;
      throw commandError("VDO_WRONG_STATE", text, path, error);
    }
    if (errnoOf(error) === undefined) throw error;
    throw accessError(error, path, command);
  }
}

async function releaseAll(device: FileDevice, hold: FileHandle | undefined, lock: Lock): Promise<void> {
  try {
    await device.close();
  } finally {
    await hold?.close();
    await lock.release();
  }
}

/**
 * Makes the sparse file of `--vdoPhysicalSize`, or extends an existing one; never shortens. Resolves `true` when the file
 * is new. Throws `VDO_USER` for a block device or a file that is larger already.
 */
export async function prepareFile(path: string, bytes: number, command: string): Promise<boolean> {
  try {
    const existing = await stat(path).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    });
    if (existing === undefined) {
      const handle = await open(path, "wx", 0o600);
      try {
        await handle.truncate(bytes);
      } finally {
        await handle.close();
      }
      return true;
    }
    if (!existing.isFile()) {
      throw commandError("VDO_USER", `--vdoPhysicalSize is for regular files, and ${path} is none`, path);
    }
    if (existing.size > bytes) {
      const text = `${path} is larger (${renderSize(existing.size)}) than --vdoPhysicalSize; it is never shortened`;
      throw commandError("VDO_USER", text, path);
    }
    if (existing.size < bytes) await truncate(path, bytes);
    return false;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw accessError(error, path, command);
  }
}

const BY_ID = "/dev/disk/by-id";

/** The path under which the storage is remembered: a stable name for a block device, the real path for a file. */
export async function stablePath(given: string, info: StorageInfo, programs: Programs): Promise<string> {
  if (info.kind === "file") return info.path;
  const names = await readdir(BY_ID).catch(() => []);
  const links: string[] = [];
  for (const name of names) {
    const target = await realpath(join(BY_ID, name)).catch(() => "");
    if (target === info.path) links.push(name);
  }
  const uuid = await fileSystemUuid(info.path, programs);
  const kept = links.filter((name) => uuid === "" || !name.includes(uuid));
  const preferred = kept.filter((name) => /^[dm][dm]-uuid-/.test(name));
  const [first] = (preferred.length > 0 ? preferred : kept).sort();
  return first === undefined ? given : join(BY_ID, first);
}

async function fileSystemUuid(path: string, programs: Programs): Promise<string> {
  if (programs.find("blkid") === undefined) return "";
  const result = await programs.run("blkid", ["-s", "UUID", "-o", "value", path]);
  // Status 2 means that nothing was recognised.
  return result.status === 0 ? result.stdout.trim() : "";
}

/** Runs a program that must succeed. Throws `VDO_COMMAND_FAILED` with the first line of its standard error. */
export async function mustRun(programs: Programs, program: string, args: readonly string[]): Promise<string> {
  const result = await programs.run(program, args);
  if (result.status !== 0) throw commandError("VDO_COMMAND_FAILED", programFailure(program, result), program);
  return result.stdout;
}
