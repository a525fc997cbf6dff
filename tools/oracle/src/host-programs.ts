/** Programs of this machine that the oracle uses or copies into the guest, and the Debian packages they come from. */
import { delimiter } from "node:path";
import { findProgram } from "@vdo/block-device/testing";

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
  thin_check: "thin-provisioning-tools",
};

/** The PATH with the folders of system programs, which an ordinary user's PATH lacks. */
export function programPath(): string {
  return [process.env["PATH"] ?? "", "/usr/sbin", "/sbin"].join(delimiter);
}

/** Debian packages of the programs that are missing here, each once, sorted. */
export function missingPackages(): string[] {
  const missing = Object.entries(HOST_PROGRAMS).filter(([program]) => findProgram(program) === undefined);
  return [...new Set(missing.map(([, name]) => name))].sort();
}
