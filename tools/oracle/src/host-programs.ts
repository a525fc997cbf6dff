/** Programs of this machine that the oracle uses or copies into the guest, and the Debian packages they come from. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Program → Debian package. */
export const HOST_PROGRAMS: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  "apt-get": "apt",
  bash: "bash",
  busybox: "busybox-static",
  cpio: "cpio",
  depmod: "kmod",
  modprobe: "kmod",
  xz: "xz-utils",
  flock: "util-linux",
  blockdev: "util-linux",
  blkdiscard: "util-linux",
  dmsetup: "dmsetup",
  fio: "fio",
  "mkfs.ext4": "e2fsprogs",
  e2fsck: "e2fsprogs",
  "nbd-client": "nbd-client",
};

/** Where programs are looked for: the PATH, and the folders of system programs that an ordinary user's PATH lacks. */
export function programPath(): string {
  return [process.env["PATH"] ?? "", "/usr/sbin", "/sbin"].join(delimiter);
}

/** Full path of `program`, or undefined if it is not installed. */
export function findProgram(program: string): string | undefined {
  for (const folder of programPath().split(delimiter)) {
    if (folder === "") continue;
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not in this folder
    }
  }
  return undefined;
}

/** Debian packages of the programs that are missing here, each once, sorted. */
export function missingPackages(): string[] {
  const missing = Object.entries(HOST_PROGRAMS).filter(([program]) => findProgram(program) === undefined);
  return [...new Set(missing.map(([, name]) => name))].sort();
}
