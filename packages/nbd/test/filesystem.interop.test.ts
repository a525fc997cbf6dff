/** A served device as a real block device: nbdfuse, a loop device, a file system on it (stage C of the test plan). */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryDevice } from "@vdo/block-device";
import { describeWith } from "@vdo/block-device/testing";
import { NbdServer } from "@vdo/nbd";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { run, succeed } from "./run-program.ts";

const PROGRAMS = [
  "root",
  "/dev/fuse",
  "nbdfuse",
  "fusermount3",
  "losetup",
  "mount",
  "umount",
  "mkfs.ext4",
  "e2fsck",
  "fio",
];
const directory = mkdtempSync(join(tmpdir(), "nbd-fs-"));
const socket = join(directory, "disk.sock");
const file = join(directory, "disk");
const mountPoint = join(directory, "fs");
let server: NbdServer;
let device: MemoryDevice;
let fuse: ChildProcess | undefined;
let loop = "";

const mounted = (path: string): boolean => readFileSync("/proc/mounts", "utf8").includes(` ${path} `);
const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

afterAll(() => rmSync(directory, { recursive: true, force: true }));

describeWith(
  PROGRAMS,
  "a served device with a file system on it",
  () => {
    beforeEach(async () => {
      device = new MemoryDevice({ blockCount: (512 << 20) / 4096 });
      server = new NbdServer({ exports: [{ name: "", device }] });
      await server.listen({ path: socket });
      mkdirSync(mountPoint, { recursive: true });
      writeFileSync(file, "");
      fuse = spawn("nbdfuse", [file, `nbd+unix:///?socket=${socket}`], { stdio: "ignore" });
      for (let i = 0; i < 100 && !mounted(file); i++) await pause(50);
      loop = (await succeed("losetup", ["-f", "--show", "--direct-io=on", file])).trim();
    });

    // In this order, and each step whatever became of the others: nothing may be left on the machine.
    afterEach(async () => {
      if (mounted(mountPoint)) await run("umount", [mountPoint]);
      if (loop !== "") await run("losetup", ["-d", loop]);
      loop = "";
      for (let i = 0; i < 20 && mounted(file); i++) {
        if ((await run("fusermount3", ["-u", file])).status !== 0) await pause(200);
      }
      fuse?.kill();
      await server.close();
      await device.close();
      expect(mounted(file) || mounted(mountPoint)).toBe(false);
      expect((await run("losetup", ["-l", "-n", "-O", "BACK-FILE"])).output).not.toContain(directory);
    });

    test("ext4 is made, written, trimmed, checked, and found again", async () => {
      await succeed("mkfs.ext4", ["-qF", loop]);
      await succeed("mount", [loop, mountPoint]);
      await succeed("sh", ["-c", `cp -a /usr/include '${mountPoint}/a' && sync -f '${mountPoint}'`]);
      // The shell goes there itself: a child that starts there would wait for the server, which waits for the child to start.
      const sums = `cd '${mountPoint}/a' && find . -type f -print0 | sort -z | xargs -0 sha256sum`;
      const before = await succeed("sh", ["-c", sums]);
      await succeed("sh", ["-c", `rm -rf '${mountPoint}/a/linux' && fstrim '${mountPoint}'`]);
      await succeed("umount", [mountPoint]);
      await succeed("e2fsck", ["-fn", loop]);
      await succeed("mount", [loop, mountPoint]);
      const kept = before.split("\n").filter((line) => !line.includes("  ./linux/"));
      const after = await succeed("sh", ["-c", sums]);
      expect(after.split("\n")).toEqual(kept);
      const data = (await device.extents(0, device.blockCount)).filter(({ hole }) => hole);
      expect(data.length).toBeGreaterThan(0);
    });

    test("fio verifies files on ext4 with direct I/O", async () => {
      await succeed("mkfs.ext4", ["-qF", loop]);
      await succeed("mount", [loop, mountPoint]);
      const options = ["--direct=1", "--rw=randwrite", "--bs=4k", "--size=16m", "--iodepth=16", "--ioengine=libaio"];
      const verify = ["--verify=crc32c", "--verify_fatal=1", "--end_fsync=1"];
      const said = await succeed("fio", ["--name=v", `--directory=${mountPoint}`, ...options, ...verify], {
        cwd: directory,
      });
      expect(said).toContain("err= 0");
      await succeed("umount", [mountPoint]);
      await succeed("e2fsck", ["-fn", loop]);
    });
  },
  { describe, test },
);
