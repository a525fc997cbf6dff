/** File devices on real block devices: size, exclusive use, the contract. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileDevice } from "./file-device.ts";
import { probeSize } from "./file-size.ts";
import { blockDeviceCompliance } from "./testing/compliance.ts";
import { describeWith } from "./testing/requirements.ts";

const SIZE = 8 << 20;
const directory = mkdtempSync(join(tmpdir(), "file-device-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let loop = "";

function attach(): string {
  const image = join(directory, "image");
  writeFileSync(image, "");
  truncateSync(image, SIZE);
  return execFileSync("losetup", ["-f", "--show", image], { encoding: "utf8" }).trim();
}

describeWith(
  ["root", "/dev/loop-control", "losetup"],
  "a file device on a block device",
  () => {
    beforeEach(() => {
      loop = attach();
    });
    afterEach(() => {
      execFileSync("losetup", ["-d", loop]);
    });

    test("has the size the kernel tells, and probing finds the same", async () => {
      const device = await FileDevice.open({ path: loop });
      expect(device.blockCount).toBe(SIZE / 4096);
      await device.close();
      const handle = await open(loop, "r");
      expect(await probeSize(handle)).toBe(SIZE);
      await handle.close();
    });

    test("is opened for writing by one only; reading is open to all", async () => {
      const device = await FileDevice.open({ path: loop });
      const second = FileDevice.open({ path: loop });
      await expect(second).rejects.toMatchObject({ code: "VDO_IO", data: { operation: "open" } });
      await expect(second).rejects.toThrow("has to let it go first");
      const reader = await FileDevice.open({ path: loop, readOnly: true });
      await device.write(1, new Uint8Array(4096).fill(3));
      const target = new Uint8Array(4096);
      await reader.read(1, target);
      expect(target[100]).toBe(3);
      await reader.close();
      await device.close();
      await (await FileDevice.open({ path: loop })).close();
    });

    blockDeviceCompliance(
      "FileDevice on a loop device",
      () => FileDevice.open({ path: loop }),
      { describe, test },
      {
        blockCount: SIZE / 4096,
        reopen: async (device) => {
          await device.close();
          return FileDevice.open({ path: loop });
        },
        openReadOnly: () => FileDevice.open({ path: loop, readOnly: true }),
      },
    );
  },
  { describe, test },
);
