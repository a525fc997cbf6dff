/**
 * Volumes as block devices: a loop device stands in for /dev/sdb, the commands run as they are typed, and the volume is
 * attached with whatever `auto` finds here (the kernel's nbd driver, or nbdfuse and another loop device).
 */
import { open, readFile, readlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, type Outcome, processGone, runProgram } from "./support/command-line.ts";

const PROGRAMS = [
  "root",
  "/dev/fuse",
  "losetup",
  "lsblk",
  "nbdfuse",
  "fusermount3",
  "mkfs.ext4",
  "mount",
  "umount",
  "blockdev",
  "e2fsck",
  "resize2fs",
];

/** Bytes of the stand-in device: the smallest default volume needs 5063921664. */
const DEVICE_BYTES = 6 * 1024 ** 3;

let commands: CommandLine;
let disk: string;

async function must(program: string, ...words: string[]): Promise<string> {
  const { status, out, err } = await runProgram(program, words);
  if (status !== 0) throw new Error(`${program} ${words.join(" ")}: status ${status}: ${err}${out}`);
  return out.trim();
}

/** Loop devices and mounts that lie in the test's folder, the stand-in device excepted. */
async function leftovers(): Promise<string[]> {
  const mounts = await readFile("/proc/self/mounts", "utf8");
  const loops = await must("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE");
  return `${mounts}\n${loops}`
    .split("\n")
    .filter((line) => line.includes(commands.folder) && !line.startsWith(`${disk} `));
}

const mountPoint = () => join(commands.folder, "mnt");
const device = () => join(commands.folder, "dev/vdo0");

function suite(): void {
  beforeAll(async () => {
    commands = await CommandLine.make({ apart: true });
    const image = join(commands.folder, "sdb.img");
    await writeFile(image, "");
    await truncate(image, DEVICE_BYTES);
    disk = await must("losetup", "--find", "--show", image);
    await must("mkdir", mountPoint());
  });
  afterAll(async () => {
    await runProgram("umount", [mountPoint()]);
    await commands.vdo("stop", "--all", "--force");
    await runProgram("losetup", ["-d", disk]);
    await commands.remove();
  });

  test("vdo create --name=vdo0 --device=/dev/… and vdostats --human-readable work as typed", async () => {
    const created = await commands.vdo("create", "--name=vdo0", `--device=${disk}`);
    expect(created).toMatchObject({ status: 0, err: "" });
    const lines = created.out.split("\n");
    expect(lines[0]).toBe("Creating VDO vdo0");
    expect(lines).toContain("      The VDO volume can address 2.00 GB in 1 data slab.");
    expect(lines.at(-2)).toBe(`VDO instance 0 volume is ready at ${device()}`);
    expect(await readlink(device())).toMatch(/^\/dev\/(nbd|loop)\d+$/);
    const stats = await commands.vdostats("--human-readable");
    expect(stats).toMatchObject({ status: 0, err: "" });
    expect(stats.out).toMatch(
      /^Device {6}Size {6}Used Available Use% Space saving%\nvdo0 {8}6\.0G {6}4\.0G {6}2\.0G {2}67% {12}0%\n$/,
    );
  });

  test("the storage is nobody else's while the volume runs", async () => {
    const formatted = await runProgram("mkfs.ext4", ["-q", disk]);
    expect(formatted.status).not.toBe(0);
    expect(formatted.err).toMatch(/in use/);
  });

  test("a file system on it keeps two copies of a file in the space of one", async () => {
    await must("mkfs.ext4", "-q", "-E", "nodiscard", device());
    await must("mount", device(), mountPoint());
    const data = new Random(7).fill(new Uint8Array(16 * 1024 ** 2));
    for (const name of ["one", "two"]) await writeFile(join(mountPoint(), name), data);
    await must("sync", "-f", mountPoint());
    const [entry] = JSON.parse((await commands.vdostats("--json")).out) as { stats: Record<string, number> }[];
    expect(entry?.stats["dataBlocksUsed"]).toBeGreaterThanOrEqual(4096);
    expect(entry?.stats["dataBlocksUsed"]).toBeLessThan(4096 + 600);
    const refused = await commands.vdo("stop", "--name=vdo0");
    const [error, next] = refused.err.split("\n");
    expect([refused.status, error]).toEqual([5, "vdo: ERROR - cannot stop VDO volume with mounts vdo0"]);
    expect(next).toMatch(/^ {6}Unmount it \(umount \/dev\/\S+\), or use --force\.$/);
  });

  test("a growth under a mounted file system succeeds, is told, and does not disturb it; unused, the device grows with it", async () => {
    const size = async (): Promise<number> => Number(await must("blockdev", "--getsize64", device()));
    const before = await size();
    const grown = await commands.vdo("growLogical", "--name=vdo0", "--vdoLogicalSize=10G");
    expect(grown).toMatchObject({ status: 0, out: "" });
    expect(grown.err).toBe(
      "vdo: WARNING - VDO vdo0 has grown; its device is in use and keeps its size until it is unmounted, and the volume stopped and started\n",
    );
    expect(await size()).toBe(before);
    await writeFile(join(mountPoint(), "three"), "still writable");
    await must("sync", "-f", mountPoint());
    await must("umount", mountPoint());
    expect(await commands.vdo("growLogical", "--name=vdo0", "--vdoLogicalSize=12G")).toEqual({
      status: 0,
      out: "",
      err: "",
    });
    expect(await size()).toBe(12 * 1024 ** 3);
    await must("e2fsck", "-fp", device());
    await must("resize2fs", device());
    await must("mount", device(), mountPoint());
    expect(await readFile(join(mountPoint(), "three"), "utf8")).toBe("still writable");
  });

  test("after a stop and a start everything is there, and nothing was left in between", async () => {
    await must("umount", mountPoint());
    expect(await commands.vdo("stop", "--name=vdo0")).toEqual({ status: 0, out: "Stopping VDO vdo0\n", err: "" });
    expect(await leftovers()).toEqual([]);
    expect((await commands.vdo("start", "--name=vdo0")).status).toBe(0);
    await must("e2fsck", "-fn", device());
    await must("mount", "-o", "ro", device(), mountPoint());
    const data = new Random(7).fill(new Uint8Array(16 * 1024 ** 2));
    for (const name of ["one", "two"]) {
      expect(Buffer.compare(await readFile(join(mountPoint(), name)), data)).toBe(0);
    }
    await must("umount", mountPoint());
  });

  test("stopping by force unmounts", async () => {
    await must("mount", "-o", "ro", device(), mountPoint());
    expect((await commands.vdo("stop", "--name=vdo0", "--force")).status).toBe(0);
    expect(await leftovers()).toEqual([]);
  });

  test("what a killed daemon leaves is detached by the next command", async () => {
    expect((await commands.vdo("start", "--name=vdo0")).status).toBe(0);
    const { pid } = await commands.state("vdo0");
    process.kill(pid, "SIGKILL");
    await processGone(pid);
    const stopped: Outcome = await commands.vdo("stop", "--name=vdo0");
    expect(stopped).toMatchObject({ status: 0, err: "vdo: WARNING - VDO service vdo0 already stopped\n" });
    expect(await leftovers()).toEqual([]);
  });

  test("a block device is named by its number, too, and remembered by its path", async () => {
    const number = (await must("lsblk", "--noheadings", "--nodeps", "--output", "MAJ:MIN", disk)).trim();
    const { status, out } = await commands.vdo("dumpConfig", `--device=${number}`);
    expect([status, out.split("\n")[0]]).toEqual([0, "VDOConfig:"]);
    await commands.vdo("remove", "--name=vdo0", "--force");
    const created = await commands.vdo("create", "--name=vdo0", `--device=${number}`, "--attach=none");
    expect(created).toMatchObject({ status: 0, err: "" });
    expect((await commands.vdo("printConfigFile")).out).toContain(`      device: ${disk}\n`);
    const missing = await commands.vdo("create", "--name=vdo1", "--device=259:1048575");
    expect(missing.status).toBe(7);
    expect(missing.err).toBe("vdo: ERROR - Device 259:1048575 not found: this machine has no such block device\n");
  });

  test("a file that is behind a loop device is somebody's", async () => {
    const image = join(commands.folder, "sdb.img");
    const refused = await commands.vdo("create", "--name=vdo1", `--device=${image}`, "--attach=none");
    expect(refused.status).toBe(5);
    expect(refused.err).toContain(`it is the backing file of ${disk}; let it go with losetup -d ${disk}.`);
  });

  test("remove clears the first block of a block device", async () => {
    expect((await commands.vdo("remove", "--name=vdo0")).status).toBe(0);
    const handle = await open(disk);
    const { buffer } = await handle.read(Buffer.alloc(8), 0, 8, 0);
    await handle.close();
    expect(buffer.every((byte) => byte === 0)).toBe(true);
  });

  test("a device with a file system is not formatted without force", async () => {
    await must("mkfs.ext4", "-q", "-E", "nodiscard", disk);
    const refused = await commands.vdo("create", "--name=vdo0", `--device=${disk}`);
    expect(refused.status).toBe(5);
    expect(refused.err).toMatch(
      /^vdo: ERROR - Found existing signature on \/dev\/loop\d+ at offset 1080: LABEL="\(null\)" UUID="[-0-9a-f]{36}" TYPE="ext4" USAGE="filesystem"\.\nCannot format device/,
    );
    await must("e2fsck", "-fn", disk);
    const forced = await commands.vdo("create", "--name=vdo0", `--device=${disk}`, "--force", "--attach=none");
    expect(forced).toMatchObject({ status: 0, err: "" });
    expect(forced.out).toContain("      Formatting device already containing a known signature.\n");
  });
}

describeWith(PROGRAMS, "volumes as block devices", suite, { describe, test });
