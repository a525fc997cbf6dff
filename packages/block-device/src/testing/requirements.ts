/**
 * Programs that interoperability tests need, and the Debian packages that carry them.
 *
 * With `CI=true` a missing program is a failure. Without, the tests that need it are replaced by one that records the gap
 * in the JSON-lines file named by `VDO_TEST_GAPS`, so that the run can end with the list of what was not proved.
 */
import { accessSync, appendFileSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import type { TestRunner } from "./compliance.ts";

/** Program to Debian 12 package. A name that starts with "/" is a file that must be usable, for example a device node. */
const PACKAGES: Record<string, string> = {
  nbdinfo: "libnbd-bin",
  nbdcopy: "libnbd-bin",
  nbdfuse: "libnbd-bin",
  nbddump: "libnbd-bin",
  nbdkit: "nbdkit",
  "nbd-client": "nbd-client",
  "nbd-server": "nbd-server",
  ploop: "ploop",
  "qemu-img": "qemu-utils",
  "qemu-io": "qemu-utils",
  "qemu-nbd": "qemu-utils",
  "qemu-system-x86_64": "qemu-system-x86",
  "qemu-storage-daemon": "qemu-system-common",
  fio: "fio",
  fusermount3: "fuse3",
  losetup: "mount",
  lsblk: "util-linux",
  unshare: "util-linux",
  "systemd-notify": "systemd",
  "systemd-socket-activate": "systemd",
  "/usr/bin/python3": "python3",
  mount: "mount",
  umount: "mount",
  blkdiscard: "util-linux",
  fallocate: "util-linux",
  flock: "util-linux",
  dmsetup: "dmsetup",
  "mkfs.ext4": "e2fsprogs",
  e2fsck: "e2fsprogs",
  resize2fs: "e2fsprogs",
  blockdev: "util-linux",
  "mkfs.xfs": "xfsprogs",
  xfs_repair: "xfsprogs",
  "mkfs.btrfs": "btrfs-progs",
  vdoformat: "vdo",
  vdoaudit: "vdo",
  vdodumpconfig: "vdo",
  cpio: "cpio",
  gzip: "gzip",
  xz: "xz-utils",
  zstd: "zstd",
  busybox: "busybox-static",
  ansible: "ansible",
  sqlite3: "sqlite3",
  groff: "groff-base",
  "systemd-analyze": "systemd",
  promtool: "prometheus",
  chromium: "chromium",
  thin_check: "thin-provisioning-tools",
  thin_dump: "thin-provisioning-tools",
  thin_restore: "thin-provisioning-tools",
  thin_repair: "thin-provisioning-tools",
  thin_ls: "thin-provisioning-tools",
  thin_delta: "thin-provisioning-tools",
  thin_rmap: "thin-provisioning-tools",
  thin_trim: "thin-provisioning-tools",
  thin_metadata_size: "thin-provisioning-tools",
};

/** Directories searched besides PATH: system programs are not on every user's. */
const SYSTEM_DIRECTORIES = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

export interface MissingProgram {
  program: string;
  /** Package to install, or what else to do when no package would help. */
  debianPackage: string;
}

/** Full path of a program on PATH or in the system directories. */
export function findProgram(name: string): string | undefined {
  const mode = name.startsWith("/") ? constants.R_OK | constants.W_OK : constants.X_OK;
  const candidates = name.startsWith("/")
    ? [name]
    : [...(process.env["PATH"] ?? "").split(delimiter), ...SYSTEM_DIRECTORIES].map((directory) =>
        join(directory, name),
      );
  return candidates.find((path) => {
    try {
      accessSync(path, mode);
      return true;
    } catch {
      return false;
    }
  });
}

/** Which of the programs are not there. Also takes `root` (the user) and paths of device nodes such as `/dev/fuse`. */
export function requirePrograms(...names: string[]): { missing: MissingProgram[] } {
  const missing: MissingProgram[] = [];
  for (const name of names) {
    if (name === "root") {
      if (process.getuid?.() !== 0) missing.push({ program: name, debianPackage: "(run as root)" });
    } else if (findProgram(name) === undefined) {
      const debianPackage = name.startsWith("/") ? "(a kernel that offers it)" : (PACKAGES[name] ?? name);
      missing.push({ program: name, debianPackage });
    }
  }
  return { missing };
}

/**
 * Registers the tests of `body` when all `programs` are there. Otherwise: one failing test in CI; elsewhere one test that
 * passes and records what could not be run.
 */
export function describeWith(programs: readonly string[], name: string, body: () => void, runner: TestRunner): void {
  const { missing } = requirePrograms(...programs);
  if (missing.length === 0) {
    runner.describe(name, body);
    return;
  }
  const list = missing.map(({ program, debianPackage }) => `${program} (${debianPackage})`).join(", ");
  if (process.env["CI"] === "true") {
    runner.describe(name, () => {
      runner.test("has the programs it needs", async () => {
        throw new Error(`not there: ${list}. Install the Debian packages in brackets`);
      });
    });
    return;
  }
  runner.describe(name, () => {
    runner.test(`NOT RUN, for want of ${list}`, async () => recordGap(name, missing));
  });
}

/** Appends one line `{"name":…,"missing":[{"program":…,"debianPackage":…}]}` to the file of `VDO_TEST_GAPS`, if it is set. */
export function recordGap(name: string, missing: readonly MissingProgram[]): void {
  const file = process.env["VDO_TEST_GAPS"];
  if (file !== undefined && file !== "") appendFileSync(file, JSON.stringify({ name, missing }) + "\n");
}
