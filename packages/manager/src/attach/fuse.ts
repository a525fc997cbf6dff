/** Attaching through `nbdfuse`, which shows the export as a file, and `losetup`, which makes a block device of the file. */
import { constants } from "node:fs";
import { access, mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { commandError, errnoOf } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import { pause } from "../host/lock.ts";
import { mustRun } from "../host/programs.ts";
import type { Attachment, AttachRequest } from "./attachment.ts";

/** Attempts, 100 ms apart, to see the file after nbdfuse was started. */
const MOUNT_ATTEMPTS = 100;

/** Attempts, one second apart, to undo a device or mount that is busy; as many as the legacy manager makes. */
const BUSY_ATTEMPTS = 10;

/** What stands against this way on this machine, or `undefined`. */
export async function fuseObstacle({ programs, uid, systemRoot }: Environment): Promise<string | undefined> {
  if (programs.find("nbdfuse") === undefined) return "nbdfuse was not found (package libnbd-bin)";
  const errno = await access(join(systemRoot, "/dev/fuse"), constants.R_OK | constants.W_OK).then(
    () => undefined,
    (error) => errnoOf(error),
  );
  if (errno === "EACCES") return "this user may not open /dev/fuse";
  if (errno !== undefined) return "this kernel has no /dev/fuse";
  if (uid === 0 && programs.find("losetup") === undefined) return "losetup was not found (package util-linux)";
  return undefined;
}

export async function attachFuse(request: AttachRequest): Promise<Omit<Attachment, "reason" | "link">> {
  const { name, readOnly, environment, paths } = request;
  const { fuseFolder, nbdSocket } = paths.volume(name);
  await mkdir(fuseFolder, { recursive: true, mode: 0o700 });
  const file = join(fuseFolder, "nbd");
  const args = [...(readOnly ? ["--readonly"] : []), fuseFolder, "--unix", nbdSocket];
  const nbdfuse = environment.programs.background("nbdfuse", args, request.log);
  let ended: number | undefined;
  void nbdfuse.ended.then((status) => {
    ended = status;
  });
  const mounted = { kind: "fuse", path: file, mountDir: fuseFolder } as const;
  for (let attempt = 0; ended === undefined && !(await isThere(file)); attempt++) {
    if (attempt === MOUNT_ATTEMPTS) {
      await detachFuse({ ...mounted, reason: "" }, environment);
      throw commandError("VDO_SYSTEM", `nbdfuse did not mount ${fuseFolder} in time`, name);
    }
    await pause(100, environment.clock);
  }
  if (ended !== undefined) {
    await rm(fuseFolder, { recursive: true, force: true });
    throw commandError("VDO_SYSTEM", `nbdfuse ended with status ${ended}; its message is in the daemon's log`, name);
  }
  if (environment.uid !== 0) return mounted;
  try {
    const device = await attachLoop(request, file);
    return { ...mounted, path: device, device };
  } catch (error) {
    await detachFuse({ ...mounted, reason: "" }, environment);
    throw error;
  }
}

async function attachLoop({ blockSize, readOnly, environment }: AttachRequest, file: string): Promise<string> {
  const options = ["--find", "--show", "--sector-size", String(blockSize), "--direct-io=on"];
  const output = await mustRun(environment.programs, "losetup", [
    ...options,
    ...(readOnly ? ["--read-only"] : []),
    file,
  ]);
  return output.trim();
}

/** Loop device first, then the mount; a busy one is tried again for ten seconds. Also undoes what a dead daemon left. */
export async function detachFuse(attachment: Attachment, environment: Environment): Promise<void> {
  const { device, mountDir } = attachment;
  if (device !== undefined) await detachLoop(device, mountDir ?? "", environment);
  if (mountDir === undefined) return;
  const unmount = environment.programs.find("fusermount3") === undefined ? "fusermount" : "fusermount3";
  for (let attempt = 1; await isMounted(mountDir, environment); attempt++) {
    const result = await environment.programs.run(unmount, ["-u", mountDir]);
    if (result.status === 0) break;
    if (attempt === BUSY_ATTEMPTS) throw commandError("VDO_SYSTEM", `${mountDir} stays busy: device in use`, mountDir);
    await pause(1000, environment.clock);
  }
  await rm(mountDir, { recursive: true, force: true });
}

/** `losetup -d` of a device that someone has open succeeds and takes effect when the last one closes it. */
async function detachLoop(device: string, mountDir: string, environment: Environment): Promise<void> {
  const backing = join(environment.systemRoot, "/sys/block", device.replace("/dev/", ""), "loop/backing_file");
  for (let attempt = 1; ; attempt++) {
    const file = await readFile(backing, "utf8").catch(() => "");
    if (file === "" || !file.startsWith(mountDir)) return;
    if (attempt > BUSY_ATTEMPTS) throw commandError("VDO_SYSTEM", `${device} stays busy: device in use`, device);
    if (attempt > 1) await pause(attempt === 2 ? 50 : 1000, environment.clock);
    await environment.programs.run("losetup", ["-d", device]);
  }
}

function isThere(file: string): Promise<boolean> {
  return stat(file).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

/** True also for the mount of an nbdfuse that died, whose files cannot be reached any more. */
async function isMounted(folder: string, { systemRoot }: Environment): Promise<boolean> {
  const mounts = await readFile(join(systemRoot, "/proc/self/mounts"), "utf8").catch(() => "");
  const escaped = folder.replaceAll(" ", "\\040");
  if (mounts.split("\n").some((line) => line.split(" ")[1] === escaped)) return true;
  return stat(folder).then(
    () => false,
    (error) => errnoOf(error) === "ENOTCONN",
  );
}
