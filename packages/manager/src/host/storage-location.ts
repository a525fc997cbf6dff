/**
 * Where storage is: a path of a block device or a regular file, the number of a block device (`MAJOR:MINOR`), or an NBD URI.
 * Nothing is opened for writing here, and an export is not connected to before its size is asked for.
 */
import type { Stats } from "node:fs";
import { open, readdir, readFile, realpath, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { isVdoError } from "@vdo/base";
import { formatNbdUri, NbdClient, parseNbdUri } from "@vdo/nbd";
import { accessError, advised, commandError, errnoOf } from "../errors.ts";
import { renderSize } from "../size.ts";
import type { Environment } from "./environment.ts";
import type { Programs } from "./programs.ts";

/** What is known of a storage without opening it. */
export interface StorageLocation {
  /** Path with links resolved, or the URI in one spelling. */
  readonly path: string;
  readonly kind: "block" | "file" | "nbd";
  /** The same for every path to the same storage. Two servers of one image, or two names of one server, are not seen through. */
  readonly identity: string;
}

export interface StorageInfo extends StorageLocation {
  readonly bytes: number;
}

/** True for what is opened as an NBD export. */
export function isNbdUri(text: string): boolean {
  return /^nbds?(\+unix)?:\/\//i.test(text);
}

/** True for the number of a block device, as `8:16`. */
export function isDeviceNumber(text: string): boolean {
  return /^\d+:\d+$/.test(text);
}

/** Looks where a storage is. Throws `VDO_USER` when it is missing, not allowed, or neither block device nor regular file. */
export async function locateStorage(given: string, command: string): Promise<StorageLocation> {
  return isNbdUri(given) ? locateExport(given) : (await locatePath(given, command)).location;
}

/** Looks at a storage and its size. Throws as {@link locateStorage}, and for an export that cannot be connected to. */
export async function examineStorage(given: string, command: string): Promise<StorageInfo> {
  if (isNbdUri(given)) return { ...(await locateExport(given)), bytes: await exportBytes(given) };
  const { location, stats } = await locatePath(given, command);
  if (location.kind === "file") return { ...location, bytes: stats.size };
  const sectors = Number(await readFile(`/sys/dev/block/${deviceNumber(stats)}/size`, "utf8"));
  return { ...location, bytes: sectors * 512 };
}

async function locatePath(given: string, command: string): Promise<{ location: StorageLocation; stats: Stats }> {
  const path = isDeviceNumber(given) ? await nodeOf(given) : given;
  try {
    const resolved = await realpath(path);
    const stats = await stat(resolved);
    if (isDeviceNumber(given) && deviceNumber(stats) !== given) {
      throw commandError("VDO_USER", `${path} is not the block device ${given}: name it by its path`, given);
    }
    if (stats.isFile()) {
      return { location: { path: resolved, kind: "file", identity: `file-${stats.dev}-${stats.ino}` }, stats };
    }
    if (stats.isBlockDevice()) {
      return { location: { path: resolved, kind: "block", identity: `block-${deviceNumber(stats)}` }, stats };
    }
  } catch (error) {
    if (isVdoError(error)) throw error;
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") {
      const next =
        command === "create"
          ? "Check the path; --vdoPhysicalSize=SIZE makes a new file there."
          : "Check the path, and that the storage is connected.";
      throw commandError("VDO_USER", advised(`Device ${given} not found`, next), given, error);
    }
    throw accessError(error, given, command);
  }
  const text = `Device ${given} is neither a block device nor a regular file`;
  throw commandError("VDO_USER", advised(text, "Name a disk, a partition, a logical volume, or an image file."), given);
}

/** The node of a block device by its number, as the kernel names it (`DEVNAME` of its uevent file). */
async function nodeOf(number: string): Promise<string> {
  try {
    const uevent = await readFile(`/sys/dev/block/${number}/uevent`, "utf8");
    return join("/dev", /^DEVNAME=(.+)$/m.exec(uevent)?.[1] ?? number);
  } catch (error) {
    throw commandError("VDO_USER", `Device ${number} not found: this machine has no such block device`, number, error);
  }
}

async function locateExport(uri: string): Promise<StorageLocation> {
  const address = parseUri(uri);
  const socket = address.path === undefined ? undefined : await realpath(address.path).catch(() => address.path);
  const path = formatNbdUri(socket === undefined ? address : { ...address, path: socket });
  return { path, kind: "nbd", identity: path };
}

function parseUri(uri: string): ReturnType<typeof parseNbdUri> {
  try {
    return parseNbdUri(uri);
  } catch (error) {
    throw commandError("VDO_USER", (error as Error).message, uri, error);
  }
}

async function exportBytes(uri: string): Promise<number> {
  try {
    const client = await NbdClient.connect(uri, { readOnly: true });
    await client.close();
    return client.blockCount * client.blockSize;
  } catch (error) {
    throw exportError(uri, error);
  }
}

/** What a user is told of an export that cannot be used. */
export function exportError(uri: string, error: unknown): Error {
  return commandError("VDO_USER", `Cannot use ${uri}: ${(error as Error).message}`, uri, error);
}

/** `MAJOR:MINOR` of a device node, as in `/sys/dev/block`. */
export function deviceNumber({ rdev }: Stats): string {
  const major = ((rdev >>> 8) & 0xfff) + (Math.floor(rdev / 2 ** 32) & 0xfffff000);
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}

/**
 * Makes the sparse file of `--vdoPhysicalSize`, or extends an existing one; never shortens. Resolves `true` when the file
 * is new. Throws `VDO_USER` for a block device or a file that is larger already.
 */
export async function prepareFile(path: string, bytes: number, command: string): Promise<boolean> {
  if (isNbdUri(path) || isDeviceNumber(path)) {
    throw commandError("VDO_USER", `--vdoPhysicalSize is for regular files, and ${path} is none`, path);
  }
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

/** The path under which the storage is remembered: a stable name for a block device, the real path of a file, a URI as it is. */
export async function stablePath(
  given: string,
  info: StorageLocation,
  { programs, systemRoot }: Pick<Environment, "programs" | "systemRoot">,
): Promise<string> {
  if (info.kind === "nbd") return given;
  if (info.kind === "file") return info.path;
  const folder = join(systemRoot, BY_ID);
  const names = await readdir(folder).catch(() => []);
  const links: string[] = [];
  for (const name of names) {
    const target = await realpath(join(folder, name)).catch(() => "");
    if (target === info.path) links.push(name);
  }
  const uuid = await fileSystemUuid(info.path, programs);
  const kept = links.filter((name) => uuid === "" || !name.includes(uuid));
  const preferred = kept.filter((name) => /^[dm][dm]-uuid-/.test(name));
  const [first] = (preferred.length > 0 ? preferred : kept).sort();
  if (first !== undefined) return join(BY_ID, first);
  return isDeviceNumber(given) ? info.path : given;
}

async function fileSystemUuid(path: string, programs: Programs): Promise<string> {
  if (programs.find("blkid") === undefined) return "";
  const result = await programs.run("blkid", ["-s", "UUID", "-o", "value", path]);
  // Status 2 means that nothing was recognised.
  return result.status === 0 ? result.stdout.trim() : "";
}
