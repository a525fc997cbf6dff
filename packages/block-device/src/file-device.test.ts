import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FileDevice } from "./file-device.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "file-device-"));
});
afterAll(() => rm(directory, { recursive: true }));

describe("a file device", () => {
  test("has as many blocks as fit whole", async () => {
    const path = join(directory, "odd");
    await writeFile(path, new Uint8Array(4096 * 3 + 100));
    const device = await FileDevice.open({ path });
    expect(device.blockCount).toBe(3);
    await device.close();
  });

  test("of a missing file is refused with VDO_IO, of a folder with VDO_BAD_ARGUMENT", async () => {
    await expect(FileDevice.open({ path: join(directory, "none") })).rejects.toMatchObject({
      code: "VDO_IO",
      data: { operation: "open" },
    });
    await expect(FileDevice.open({ path: directory })).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
    await expect(FileDevice.open({ path: "/dev/null" })).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
  });

  test("refuses block sizes that are none", async () => {
    for (const blockSize of [0, 256, 1000, 131072, Number.NaN]) {
      await expect(FileDevice.open({ path: directory, blockSize })).rejects.toMatchObject({
        code: "VDO_BAD_ARGUMENT",
        data: { argument: "blockSize" },
      });
    }
  });

  test("reports a read beyond the end of a file that shrank as VDO_IO with its block", async () => {
    const path = join(directory, "shrinks");
    await writeFile(path, new Uint8Array(4096 * 8));
    const device = await FileDevice.open({ path });
    await truncate(path, 4096 * 5);
    await expect(device.read(4, new Uint8Array(4096 * 2))).rejects.toMatchObject({
      code: "VDO_IO",
      data: { operation: "read", block: 5 },
    });
    await device.close();
  });

  test("writes vectors of more parts than one system call takes", async () => {
    const path = join(directory, "vector");
    await writeFile(path, "");
    await truncate(path, 512 * 3000);
    const device = await FileDevice.open({ path, blockSize: 512 });
    await device.writeVector(
      0,
      Array.from({ length: 2500 }, (_, i) => new Uint8Array(512).fill(i % 251)),
      { fua: true },
    );
    const block = new Uint8Array(512);
    for (const i of [0, 1023, 1024, 2499]) {
      await device.read(i, block);
      expect(block[0]).toBe(i % 251);
    }
    await device.close();
  });
});

test("a file that grew is larger after a refresh, and not before", async () => {
  const folder = await mkdtemp(join(tmpdir(), "vdo-refresh-"));
  try {
    const path = join(folder, "disk");
    await writeFile(path, new Uint8Array(8192));
    const device = await FileDevice.open({ path });
    await truncate(path, 40_960);
    expect(device.blockCount).toBe(2);
    expect(await device.refresh()).toBe(10);
    await device.write(9, new Uint8Array(4096).fill(1));
    await truncate(path, 4096);
    expect(await device.refresh()).toBe(10);
    await device.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});
