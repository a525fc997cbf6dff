import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isZero } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createPloopDisk, loadPloopDisk } from "./ploop-disk.ts";
import { punchHoles } from "./punch-holes.ts";

const MIB = 1 << 20;

describeWith(
  ["fallocate"],
  "holes in files of the host",
  () => {
    let folder = "";
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), "punch-"));
    });
    afterEach(() => rm(folder, { recursive: true, force: true }));

    const open = async () => (await loadPloopDisk(join(folder, "DiskDescriptor.xml"), { punch: true })).open();
    const used = async (file: string): Promise<number> => (await stat(join(folder, file))).blocks * 512;

    test("discarded clusters give their space back, in one delta and above another", async () => {
      const disk = await createPloopDisk(join(folder, "a.hds"), {
        version: 2,
        sizeSectors: 64 * 2048,
        clusterSectors: 2048,
      });
      const device = await open();
      await device.write(0, new Uint8Array(32 * MIB).fill(7));
      await device.flush();
      const full = await used("a.hds");
      await device.discard(2048, 20 * 2048);
      expect(await used("a.hds")).toBeLessThanOrEqual(full - 20 * MIB);
      const data = new Uint8Array(32 * MIB);
      await device.read(0, data);
      expect([data[0], isZero(data.subarray(MIB, 21 * MIB)), data[21 * MIB]]).toEqual([7, true, 7]);
      await device.close();
      await disk.snapshot();
      const above = await open();
      await above.write(0, new Uint8Array(8 * MIB).fill(9));
      const top = disk.chain().at(-1)?.file as string;
      const before = await used(top);
      await above.discard(0, 4 * 2048);
      expect(await used(top)).toBeLessThanOrEqual(before - 4 * MIB);
      await above.read(0, data);
      expect([isZero(data.subarray(0, 4 * MIB)), data[4 * MIB], data[30 * MIB]]).toEqual([true, 9, 7]);
      await above.close();
    });

    test("a file that cannot be punched is an error with the reason", async () => {
      const ranges = [{ offset: 0, length: 4096 }];
      await expect(punchHoles(join(folder, "nothing"), ranges)).rejects.toThrow(/cannot punch holes into .*nothing/);
    });
  },
  { describe, test },
);
