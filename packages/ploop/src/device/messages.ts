/**
 * The words of `dmsetup message`, as the first generation of the kernel's target takes them. Where the kernel takes a file
 * descriptor of the caller, a name is taken, which the host opens; instead of the address of a mask, the mask or
 * where it is. Every refusal is `VDO_PLOOP_REFUSED` with the kernel's errno.
 */
import { errorMessage, fromHex, isVdoError, VdoError } from "@vdo/base";
import { type Errno, refused } from "../errors.ts";
import type { ImageFile } from "../file/image-file.ts";
import { PAGE_BYTES, versionOf } from "../format/header.ts";
import { type MergeOptions, mergeIntoTop, notifyMerged, type Progress, updateDeltaIndex } from "./operations/merge.ts";
import { resizeTop } from "./operations/resize.ts";
import { addDelta, flipUpperDeltas, reopenDelta, snapshotTop } from "./operations/stack.ts";
import type { PloopDevice } from "./ploop-device.ts";
import { PushBackup, type PushBackupOptions } from "./push-backup.ts";
import { FileTracker } from "./tracking.ts";

export interface MessageHost {
  /** Opens an image by the name given in a message. */
  openFile(name: string, options: { readOnly: boolean }): Promise<ImageFile>;
  progress?: Progress;
  /** Of `merge`: see {@link MergeOptions}. */
  commitMerge?: () => Promise<void>;
}

/** For a push backup that names none: the form of the first publication. */
const BACKUP_TIMEOUT_SECONDS = 60;
const RAW_PREFIX = "raw@";
const BITMAP_PREFIX = "bitmap:";
const FILE_PREFIX = "file:";

interface Call {
  device: PloopDevice;
  words: readonly string[];
  host: MessageHost;
  name: string;
}

interface Message {
  /** Number of words after the name. */
  words: readonly number[];
  /** Refused while tracking or a backup is active. */
  exclusive?: boolean;
  /** Refused on a read-only device. */
  changes?: boolean;
  /** May come while another message is worked on. */
  concurrent?: boolean;
  run(call: Call): Promise<string | undefined> | string | undefined;
}

function numberOf(call: Call, index: number): number {
  const word = call.words[index] as string;
  if (!/^\d{1,16}$/.test(word)) throw refused(call.name, "EINVAL", `${JSON.stringify(word)} is not a number`);
  return Number(word);
}

function backupOf({ device, words, name }: Call): PushBackup {
  if (device.backup === undefined) throw refused(name, "EBADF", "no backup was started");
  if (device.backup.uuid !== words[0]) throw refused(name, "EINVAL", "the backup has another uuid");
  return device.backup;
}

const quietly = async (work: Promise<unknown>): Promise<undefined> => {
  await work;
};

function startTracking({ device, name }: Call): undefined {
  const { engine } = device;
  if (engine.tracker !== undefined) throw refused(name, "EEXIST", "tracking is active");
  if (device.backup !== undefined) throw refused(name, "EBUSY", "a backup is active");
  const { holes, top } = engine;
  const tracker = new FileTracker(Math.max(holes.count, top.fileClusters), engine.clusterBytes);
  const places = Math.max(top.fileClusters, top.batClusters);
  for (let place = 0; place < places; place++) if (!holes.isFree(place)) tracker.markPlace(place);
  engine.tracker = tracker;
}

function nextTracked({ device, name }: Call): string {
  const { tracker } = device.engine;
  if (tracker === undefined) throw refused(name, "ENOENT", "tracking is not active");
  const place = tracker.next();
  if (place === undefined) throw refused(name, "EAGAIN", "nothing has changed");
  return `${place}\n`;
}

function stopTracking({ device, name }: Call): undefined {
  if (device.engine.tracker === undefined) throw refused(name, "ENOENT", "tracking is not active");
  device.engine.tracker = undefined;
}

type Mask = Pick<PushBackupOptions, "mask" | "onGivenUp">;

/**
 * The clusters that take part: `0` is all of them; else one bit each, lowest first, as hexadecimal digits, in a file
 * (`file:NAME`), or those that a dirty bitmap has (`bitmap:UUID`, which is clean from then on, unless the backup is given up).
 */
async function maskOf({ device, host, name }: Call, text: string, bytes: number): Promise<Mask> {
  if (text === "0") return {};
  if (text.startsWith(BITMAP_PREFIX)) {
    const bitmap = device.bitmaps.get(text.slice(BITMAP_PREFIX.length));
    const mask = bitmap.clusterMask(device.engine.top.header.clusterSectors);
    const ranges = bitmap.ranges();
    bitmap.clear();
    // Without a whole backup, what had changed has still to be backed up.
    const onGivenUp = (): void => {
      for (const { startSector, sectors } of ranges) bitmap.mark(startSector, sectors);
    };
    return { mask, onGivenUp };
  }
  if (text.startsWith(FILE_PREFIX)) {
    const file = await host.openFile(text.slice(FILE_PREFIX.length), { readOnly: true });
    try {
      if (file.length !== bytes) throw refused(name, "EFAULT", `a mask has ${bytes} bytes, the file ${file.length}`);
      const mask = new Uint8Array(bytes);
      await file.read(0, mask);
      return { mask };
    } finally {
      await file.close();
    }
  }
  if (text.length !== 2 * bytes || !/^[0-9a-f]+$/i.test(text)) {
    throw refused(name, "EINVAL", `a mask is 0, ${bytes} bytes in hexadecimal, file:NAME or bitmap:UUID`);
  }
  return { mask: fromHex(text) };
}

async function startBackup(call: Call): Promise<undefined> {
  const { device, words, name } = call;
  const [uuid, maskText] = words as [string, string];
  if (device.backup !== undefined) throw refused(name, "EEXIST", "a backup is active");
  if (!/^[0-9a-f]{32}$/i.test(uuid)) throw refused(name, "EINVAL", "a uuid is 32 hexadecimal digits");
  if (!device.isSuspended) throw refused(name, "EBUSY", "the device is not suspended");
  if (device.engine.tracker !== undefined) throw refused(name, "EBUSY", "tracking is active");
  const seconds = words.length > 2 ? numberOf(call, 2) : BACKUP_TIMEOUT_SECONDS;
  if (seconds === 0) throw refused(name, "EINVAL", "a timeout is at least a second");
  const clusterCount = device.engine.top.clusterCount;
  const mask = await maskOf(call, maskText, Math.ceil(clusterCount / 8));
  device.backup = new PushBackup({ uuid, clusterCount, timeoutMs: seconds * 1000, clock: device.clock, ...mask });
}

function setNoResume(call: Call): undefined {
  const value = call.words[0];
  if (value !== "0" && value !== "1") throw refused(call.name, "EINVAL", "the value is 0 or 1");
  if (call.device.noResume === (value === "1")) throw refused(call.name, "EBUSY", `it is ${value} already`);
  call.device.noResume = value === "1";
}

async function withFile(
  { host }: Call,
  word: string,
  readOnly: boolean,
  use: (file: ImageFile, raw: boolean) => Promise<void>,
): Promise<undefined> {
  const raw = word.startsWith(RAW_PREFIX);
  const file = await host.openFile(raw ? word.slice(RAW_PREFIX.length) : word, { readOnly });
  try {
    await use(file, raw);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function flip(call: Call): Promise<undefined> {
  const { device, words, host } = call;
  if (words.length > 0) {
    const level = device.engine.topLevel - 1;
    if (!device.isSuspended || !device.noResume)
      throw refused(call.name, "EBUSY", "suspend, and set_noresume 1, first");
    const file = await host.openFile(words[0] as string, { readOnly: false });
    await reopenDelta(device, level, file);
  }
  await flipUpperDeltas(device);
}

async function readBackup(call: Call): Promise<string> {
  const run = await backupOf(call).read();
  return run === undefined ? "" : `${run.first}:${run.count}`;
}

function writeBackup(call: Call): undefined {
  const backup = backupOf(call);
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(call.words[1] as string);
  if (match === null) throw refused(call.name, "EINVAL", "a range is FIRST:COUNT");
  backup.write(Number(match[1]), Number(match[2]));
}

function stopBackup(call: Call): string {
  backupOf(call).stop();
  call.device.backup = undefined;
  return "0";
}

const MESSAGES: { readonly [name: string]: Message } = {
  resize: {
    words: [1],
    exclusive: true,
    changes: true,
    run: (call) => quietly(resizeTop(call.device, numberOf(call, 0))),
  },
  add_delta: {
    words: [1],
    exclusive: true,
    run: (call) => withFile(call, call.words[0] as string, true, (file, raw) => addDelta(call.device, file, raw)),
  },
  merge: {
    words: [0],
    exclusive: true,
    changes: true,
    run: ({ device, host }) => quietly(mergeIntoTop(device, { progress: host.progress, commit: host.commitMerge })),
  },
  notify_merged_forward: {
    words: [1],
    exclusive: true,
    run: (call) => quietly(notifyMerged(call.device, "forward", numberOf(call, 0))),
  },
  notify_merged_backward: {
    words: [1],
    exclusive: true,
    run: (call) => quietly(notifyMerged(call.device, "backward", numberOf(call, 0))),
  },
  /** One word, the new top; or, as the kernel has it, the old top before it. */
  snapshot: {
    words: [1, 2],
    exclusive: true,
    changes: true,
    run: (call) => withFile(call, call.words.at(-1) as string, false, (file) => snapshotTop(call.device, file)),
  },
  update_delta_index: {
    words: [2],
    exclusive: true,
    run: (call) => quietly(updateDeltaIndex(call.device, numberOf(call, 0), call.words[1] as string)),
  },
  tracking_start: { words: [0], changes: true, run: startTracking },
  tracking_stop: { words: [0], changes: true, run: stopTracking },
  tracking_get_next: { words: [0], changes: true, run: nextTracked },
  set_noresume: { words: [1], run: setNoResume },
  flip_upper_deltas: { words: [0, 1, 2], exclusive: true, changes: true, run: flip },
  push_backup_start: { words: [2, 3], run: startBackup },
  push_backup_stop: { words: [1, 2], run: stopBackup },
  push_backup_get_uuid: { words: [0], concurrent: true, run: ({ device }) => device.backup?.uuid ?? "" },
  push_backup_read: { words: [1], concurrent: true, run: readBackup },
  push_backup_write: { words: [2], concurrent: true, run: writeBackup },
  get_delta_name: { words: [1], concurrent: true, run: nameOf },
  get_img_name: { words: [1], concurrent: true, run: nameOf },
};

function nameOf(call: Call): string {
  const delta = call.device.engine.deltas[numberOf(call, 0)];
  return delta === undefined ? "" : `${delta.name}\n`;
}

/** Names of all messages. */
export const MESSAGE_NAMES: readonly string[] = Object.keys(MESSAGES);

/** Takes a message; resolves with the answer's text, empty when there is none. */
export async function sendMessage(device: PloopDevice, words: readonly string[], host: MessageHost): Promise<string> {
  const [name, ...rest] = words;
  if (name === undefined) throw refused("message", "EINVAL", "there is no message");
  const message = Object.hasOwn(MESSAGES, name) ? MESSAGES[name] : undefined;
  if (message === undefined) {
    const errno = name.startsWith("tracking_") ? "EINVAL" : "ENOTSUPP";
    throw refused("message", errno, `there is no message ${JSON.stringify(name)}`);
  }
  if (!message.words.includes(rest.length)) {
    throw refused(name, "EINVAL", `${rest.length} words follow, ${message.words.join(" or ")} are expected`);
  }
  const run = async (): Promise<string> => {
    try {
      return await answer();
    } catch (error) {
      throw withErrno(name, error);
    }
  };
  const answer = async (): Promise<string> => {
    if (message.changes === true && device.readOnly) throw refused(name, "EROFS", "the device is read-only");
    if (message.exclusive === true) device.refuseMaintenance(name);
    return (await message.run({ device, words: rest, host, name })) ?? "";
  };
  return message.concurrent === true ? run() : device.serialize(run);
}

/** Other failures get the errno that the kernel's target has for them; the message and the cause stay. */
function withErrno(operation: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  return new VdoError(
    "VDO_PLOOP_REFUSED",
    `${operation}: ${errorMessage(error)} (${errno})`,
    { operation, errno },
    error,
  );
}

function errnoOf(error: unknown): Errno | undefined {
  if (isVdoError(error, "VDO_NO_SPACE")) return "ENOSPC";
  if (isVdoError(error, "VDO_READ_ONLY")) return "EROFS";
  if (isVdoError(error, "VDO_PLOOP_DIRTY")) return "EBUSY";
  if (isVdoError(error, "VDO_BAD_ARGUMENT")) return "EINVAL";
  if (isVdoError(error, "VDO_IO")) return error.data.operation === "open" ? "ENOENT" : "EIO";
  if (!isVdoError(error, "VDO_CORRUPT")) return undefined;
  const { field, expected, actual } = error.data;
  if (field === "file length" && typeof actual === "number" && actual < PAGE_BYTES) return "ENODATA";
  if (field === "BAT size") return "EBADSLT";
  return field.startsWith("BAT entry") && String(expected).includes("after the BAT") ? "EXDEV" : "EPROTO";
}

/** The target's status line: deltas, version, sectors per cluster, flags. */
export function statusLine(device: PloopDevice): string {
  const { engine, backup } = device;
  const flags = [
    engine.tracker === undefined ? "" : "t",
    device.noResume ? "n" : "",
    backup === undefined ? "" : backup.isExpired ? "B" : "b",
  ].join("");
  const { header } = engine.top;
  return `${engine.deltas.length} v${versionOf(header)} ${header.clusterSectors} ${flags === "" ? "o" : flags}`;
}
