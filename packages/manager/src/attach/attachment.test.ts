import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestMachine } from "../testing/machine.ts";
import { type Attachment, attach, detach, useOf } from "./attachment.ts";

const ROOT = 0;

let machine: TestMachine;
beforeEach(async () => {
  machine = await TestMachine.make(ROOT);
  await mkdir(join(machine.folder, "dev"));
  await mkdir(join(machine.folder, "proc/self"), { recursive: true });
  await mkdir(join(machine.folder, "sys/block"), { recursive: true });
});
afterEach(() => machine.remove());

const place = (path: string, text = ""): void => {
  const file = join(machine.folder, path);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, text);
};

function request(choice: "auto" | "nbd" | "fuse" | "none") {
  const { environment, paths } = machine;
  return attach({ name: "v0", choice, readOnly: false, blockSize: 4096, environment, paths, log: 2 });
}

/** A kernel nbd driver with two devices, the first in use. */
function giveNbd(): void {
  place("dev/nbd0");
  place("sys/block/nbd0/size", "2048\n");
  place("sys/block/nbd0/pid", "77\n");
  place("sys/block/nbd1/size", "0\n");
  machine.programs.set("nbd-client", () => ({}));
}

/** nbdfuse and losetup, as they behave. */
function giveFuse(): void {
  place("dev/fuse");
  machine.programs.set("nbdfuse", ([folder = ""]) => {
    place(join(folder, "nbd").slice(machine.folder.length), "content");
    writeFileSync(join(machine.folder, "proc/self/mounts"), `nbdfuse ${folder} fuse.nbdfuse rw 0 0\n`);
    return { status: 0 };
  });
  machine.programs.set("losetup", ([first = "", ...rest]) => {
    if (first === "-d") rmSync(join(machine.folder, "sys/block/loop7"), { recursive: true, force: true });
    else place("sys/block/loop7/loop/backing_file", `${rest.at(-1)}\n`);
    return { stdout: "/dev/loop7\n" };
  });
  machine.programs.set("fusermount3", () => {
    writeFileSync(join(machine.folder, "proc/self/mounts"), "");
    return {};
  });
}

describe("attaching", () => {
  test("none is the NBD URI", async () => {
    expect(await request("none")).toMatchObject({
      kind: "none",
      path: `nbd+unix:///v0?socket=${machine.folder}/run/v0/nbd.sock`,
    });
  });

  test("auto prefers the kernel's client, takes the first free device and links it", async () => {
    giveNbd();
    const made = await request("auto");
    const link = join(machine.folder, "dev/vdo/v0");
    expect(made).toMatchObject({ kind: "nbd", path: link, link, device: "/dev/nbd1" });
    expect(await readlink(link)).toBe("/dev/nbd1");
    const socket = join(machine.folder, "run/v0/nbd.sock");
    expect(machine.ran).toContain(`nbd-client -unix ${socket} /dev/nbd1 -N v0 -b 4096`);
    await detach(made, machine.environment);
    expect(machine.ran.at(-1)).toBe("nbd-client -d /dev/nbd1");
    await expect(readlink(link)).rejects.toThrow("ENOENT");
  });

  test("auto goes on to nbdfuse and losetup and says why; detaching undoes both in order", async () => {
    giveFuse();
    const made = await request("auto");
    const fuse = join(machine.folder, "run/v0/fuse");
    expect(made).toMatchObject({ kind: "fuse", device: "/dev/loop7", mountDir: fuse });
    expect(made.reason).toBe("nbd: nbd-client was not found (package nbd-client)");
    expect(machine.ran).toContain(`losetup --find --show --sector-size 4096 --direct-io=on ${fuse}/nbd`);
    await detach(made, machine.environment);
    expect(machine.ran.slice(-2)).toEqual(["losetup -d /dev/loop7", `fusermount3 -u ${fuse}`]);
  });

  test("auto falls back to the socket and says why", async () => {
    expect(await request("auto")).toMatchObject({
      kind: "none",
      reason: "nbd: nbd-client was not found (package nbd-client); fuse: nbdfuse was not found (package libnbd-bin)",
    });
    const user = await TestMachine.make(1000);
    const { environment, paths } = user;
    const made = await attach({
      name: "v",
      choice: "auto",
      readOnly: false,
      blockSize: 512,
      environment,
      paths,
      log: 2,
    });
    expect(made).toMatchObject({ kind: "none", reason: "only root can make a block device" });
    await user.remove();
  });

  test("a kind that is asked for and impossible is an error of the system", async () => {
    await expect(request("nbd")).rejects.toMatchObject({
      code: "VDO_SYSTEM",
      message: "Cannot attach VDO v0: nbd-client was not found (package nbd-client)",
    });
    giveFuse();
    machine.programs.set("nbdfuse", () => ({ status: 1 }));
    await expect(request("fuse")).rejects.toThrow("Cannot attach VDO v0: nbdfuse ended with status 1");
    giveFuse();
    machine.programs.set("losetup", () => ({ status: 1, stderr: "losetup: cannot find an unused loop device\n" }));
    await expect(request("fuse")).rejects.toThrow("Cannot attach VDO v0: losetup: cannot find an unused loop device");
    expect(machine.ran.at(-1)).toContain("fusermount3 -u");
  });

  test("a mounted device and one that another block device holds are in use", async () => {
    const attachment: Attachment = { kind: "nbd", path: "/x", device: "/dev/nbd1", link: "/dev/vdo/v 0", reason: "" };
    expect(await useOf(attachment, machine.environment)).toBeUndefined();
    place("proc/self/mounts", "/dev/vdo/v\\0400 /mnt ext4 rw 0 0\n");
    expect(await useOf(attachment, machine.environment)).toBe("mounted");
    place("sys/class/block/nbd1/holders/dm-0");
    expect(await useOf(attachment, machine.environment)).toBe("held");
    expect(await useOf({ kind: "none", path: "nbd://", reason: "" }, machine.environment)).toBeUndefined();
  });
});
