/**
 * `vdo import` of a volume that the kernel made as LVM makes one: formatted by the real vdoformat on a linear mapping that is a
 * slice of a disk (the pool's `_vdata`), with the users' volume as a slice of its logical space, 512 KiB from either end.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, runProgram } from "./support/command-line.ts";

const MIB = 1024 ** 2;
/** Of the data in the disk, as LVM's physical extents begin. */
const SLICE_MIB = 1;
/** Extents of 4 MiB. */
const POOL_MIB = 3000;
const HEADER_SECTORS = 1024;
const VOLUME_MIB = 60;

let commands: CommandLine;
let folder: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  folder = mkdtempSync(join(tmpdir(), "vdo-lvm-"));
});
afterAll(async () => {
  await commands.remove();
  rmSync(folder, { recursive: true });
});

function guest(disk: string) {
  return runGuest({
    disks: [disk],
    files: { data: new Random(7).fill(new Uint8Array(2 * MIB)) },
    script: [
      "set -e",
      `dmsetup create vg-vpool_vdata --table "0 ${POOL_MIB * 2048} linear /dev/vda ${SLICE_MIB * 2048}"`,
      "POOL=/dev/mapper/vg-vpool_vdata",
      `vdoformat --slab-bits=15 --logical-size=${VOLUME_MIB + 1}M $POOL`,
      "vdo_start vg-vpool-vpool $POOL",
      `dmsetup create vg-lv --table "0 ${VOLUME_MIB * 2048} linear /dev/mapper/vg-vpool-vpool ${HEADER_SECTORS}"`,
      "dd if=data of=/dev/mapper/vg-lv bs=1M seek=3 oflag=direct conv=fsync",
      "dmsetup remove vg-lv; vdo_stop vg-vpool-vpool; dmsetup remove vg-vpool_vdata",
    ].join("\n"),
  });
}

async function dd(...words: string[]): Promise<void> {
  expect((await runProgram("dd", [...words, "bs=1M", "status=none"])).err).toBe("");
}

describeWithKernel(
  "a volume of LVM",
  () => {
    test("is imported, and shows what LVM's users see", async () => {
      const disk = join(folder, "disk.img");
      const pool = join(folder, "vdata.img");
      await runProgram("truncate", ["-s", `${SLICE_MIB + POOL_MIB + 4}M`, disk]);
      expect(await guest(disk)).toMatchObject({ exitCode: 0 });
      await dd(`if=${disk}`, `of=${pool}`, `skip=${SLICE_MIB}`, `count=${POOL_MIB}`, "conv=sparse");
      const imported = await commands.vdo(
        "import",
        "--name=lv",
        `--device=${pool}`,
        "--skipHeader=512K",
        "--attach=none",
      );
      expect(imported).toMatchObject({ status: 0, err: "" });
      const status = (await commands.vdo("status", "--name=lv")).out;
      for (const line of [`Logical size: ${VOLUME_MIB + 1}M`, `Physical size: ${POOL_MIB}M`, "Slab size: 128M"]) {
        expect(status).toContain(`    ${line}\n`);
      }
      const client = await NbdClient.connect((await commands.state("lv")).attach.path);
      expect(client.blockCount * client.blockSize).toBe(VOLUME_MIB * MIB);
      const data = new Random(7).fill(new Uint8Array(2 * MIB));
      const back = new Uint8Array(2 * MIB);
      await client.read(3 * 256, back);
      expect(firstDifference(back, data)).toBe(-1);
      await client.close();
      expect((await commands.vdo("remove", "--name=lv")).status).toBe(0);
    });
  },
  { describe, test },
);
