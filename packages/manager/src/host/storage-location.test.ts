/** Names of one storage: links, numbers, URIs. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Programs } from "./programs.ts";
import { isDeviceNumber, isNbdUri, locateStorage, prepareFile, stablePath } from "./storage-location.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-location-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the name that is remembered", () => {
  const UUID = "0e4ee0ee-cbd1-4bb2-ae1a-5c2c7cdc2c52";

  /** What is stored for the block device `disk` with these links in /dev/disk/by-id, given as `given`. */
  async function remembered(links: readonly string[], given: string, uuid = ""): Promise<string> {
    const disk = join(folder, "disk");
    await writeFile(disk, "");
    await writeFile(join(folder, "other"), "");
    await mkdir(join(folder, "dev/disk/by-id"), { recursive: true });
    for (const link of links) await symlink(disk, join(folder, "dev/disk/by-id", link));
    await symlink(join(folder, "other"), join(folder, "dev/disk/by-id", "aaa-other"));
    const programs: Programs = {
      find: (name) => (name === "blkid" && uuid !== "" ? "/usr/sbin/blkid" : undefined),
      run: async () => ({ status: 0, stdout: `${uuid}\n`, stderr: "" }),
      background: () => ({ pid: 1, ended: Promise.resolve(0) }),
    };
    return stablePath(given, { path: disk, kind: "block", identity: "" }, { programs, systemRoot: folder });
  }

  test("is the first link in /dev/disk/by-id that leads to the device", async () => {
    expect(await remembered(["wwn-1", "scsi-2"], "/dev/sdb")).toBe("/dev/disk/by-id/scsi-2");
  });

  test("is a link by UUID of the device mapper or of RAID before others", async () => {
    expect(await remembered(["dm-name-a", "dm-uuid-LVM-x", "md-uuid-y"], "/dev/dm-3")).toBe(
      "/dev/disk/by-id/dm-uuid-LVM-x",
    );
  });

  test("is no link that carries the UUID of what is on the device now", async () => {
    expect(await remembered([`dm-uuid-${UUID}`, "scsi-2"], "/dev/sdb", UUID)).toBe("/dev/disk/by-id/scsi-2");
  });

  test("is what was given where there is no link, and the node for a number", async () => {
    expect(await remembered([], "/dev/mapper/a")).toBe("/dev/mapper/a");
    await rm(join(folder, "dev"), { recursive: true });
    expect(await remembered([], "8:16")).toBe(join(folder, "disk"));
  });
});

describe("where a storage is", () => {
  test("two spellings of one export are the same storage, two exports are not", async () => {
    const identity = async (uri: string): Promise<string> => (await locateStorage(uri, "start")).identity;
    expect(await identity("nbd://Host/x")).toBe(await identity("NBD://host:10809/x"));
    expect(await identity("nbd://host/x")).not.toBe(await identity("nbd://host/y"));
    expect(await identity("nbd://[::1]:7/")).toBe("nbd://[::1]:7/");
    await writeFile(join(folder, "a b.sock"), "");
    await symlink(join(folder, "a b.sock"), join(folder, "link.sock"));
    expect(await identity(`nbd+unix:///x?socket=${folder}/link.sock`)).toBe(
      await identity(`nbd+unix:///x?socket=${encodeURIComponent(`${folder}/a b.sock`)}`),
    );
  });

  test("what is no storage is told apart from what is missing", async () => {
    await expect(locateStorage(folder, "start")).rejects.toThrow(/neither a block device nor a regular file/);
    await expect(locateStorage(join(folder, "none"), "start")).rejects.toThrow(/not found/);
    await expect(locateStorage("4095:1048575", "start")).rejects.toThrow(/Device 4095:1048575 not found/);
    await expect(locateStorage("nbds://host/x", "start")).rejects.toMatchObject({ code: "VDO_USER" });
    await expect(prepareFile("nbd://host/x", 4096, "create")).rejects.toThrow(/is for regular files/);
    expect([isDeviceNumber("8:16"), isDeviceNumber("/dev/8:16"), isNbdUri("NBD+UNIX:///x?socket=/s")]).toEqual([
      true,
      false,
      true,
    ]);
  });
});
