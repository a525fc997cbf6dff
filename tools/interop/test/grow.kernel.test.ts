/** Volumes that grew here open in the kernel, and the other way round: every block right, no fault found. */
import { truncateSync } from "node:fs";
import { FileDevice } from "@vdo/block-device";
import { auditVolume, format, VdoVolume } from "@vdo/kvdo";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { differences, expectedSums, sumLines, sumsScript } from "./support/area.ts";
import { BLOCK, content, ExpectedContent } from "./support/content.ts";
import { Workplace } from "./support/workplace.ts";

const GIB = 2 ** 30;
const SMALL = 4 * GIB;
const LARGE = 5 * GIB;
/** Blocks: before and after the growth. */
const LOGICAL = (2 * GIB) / BLOCK;
const GROWN = (64 * GIB) / BLOCK;

const BEFORE = { start: 1000, count: 1024 };
const AFTER = { start: GROWN - 2048, count: 1024 };
const MORE = { start: 5000, count: 512 };
const AREAS = [BEFORE, AFTER, MORE];

async function makeVolume(image: string): Promise<void> {
  const device = await FileDevice.open({ path: image });
  await format(device, { logicalSize: LOGICAL * BLOCK, slabBits: 13, indexMemory: 0.25 });
  await device.close();
}

async function auditText(image: string): Promise<string> {
  const device = await FileDevice.open({ path: image, readOnly: true });
  try {
    const lines: string[] = [];
    await auditVolume(device, { name: image, onLine: ({ text }) => lines.push(text) });
    return lines.join("\n");
  } finally {
    await device.close();
  }
}

describeWithKernel(
  "growth",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());

    test("the kernel opens a volume that we grew, logically and physically", async () => {
      const image = workplace.image("ours.img", SMALL);
      await makeVolume(image);
      const expected = new ExpectedContent();
      const device = await FileDevice.open({ path: image });
      const volume = await VdoVolume.open(device, {});
      const write = async ({ start, count }: { start: number; count: number }, seed: number): Promise<void> => {
        const data = content(seed, count);
        expected.write(start, data);
        await volume.write(start, data);
      };
      await write(BEFORE, 1);
      await volume.growLogical(GROWN);
      await write(AFTER, 2);
      truncateSync(image, LARGE);
      await device.refresh();
      await volume.growPhysical(LARGE / BLOCK);
      await write(MORE, 3);
      await volume.flush();
      await volume.close();
      await device.close();
      const guest = await runGuest({
        disks: [image],
        script: `set -e
          audit /dev/vda
          vdo_start vdo0 /dev/vda
          echo "sectors $(blockdev --getsz /dev/mapper/vdo0)"
          echo "physical $(vdo_stat vdo0 'physical blocks')"
          ${sumsScript("/dev/mapper/vdo0", AREAS)}
          vdo_stop vdo0
          audit /dev/vda`,
      });
      expect(sumLines(guest.output), guest.output).toEqual(expectedSums(expected, AREAS));
      expect(guest.output).toContain(`sectors ${GROWN * 8}`);
      expect(guest.output).toContain(`physical ${LARGE / BLOCK}`);
      expect(guest.output.match(/All pbn references matched/g)).toHaveLength(2);
      expect(guest.exitCode).toBe(0);
    });

    test("we open a volume that the kernel grew", async () => {
      const image = workplace.image("kernels.img", SMALL);
      await makeVolume(image);
      truncateSync(image, LARGE);
      const expected = new ExpectedContent();
      const data = content(4, 1024);
      const known = workplace.dataImage("known.img", data);
      expected.write(BEFORE.start, data);
      expected.write(AFTER.start, data);
      const small = (SMALL / BLOCK) * 8;
      const line = (sectors: number, device: string, blocks: number): string =>
        `0 ${sectors} vdo V4 ${device} ${blocks} 4096 32768 16380`;
      const guest = await runGuest({
        disks: [image, { path: known, readOnly: true }],
        script: `set -e; trap 'dmesg | tail -5' EXIT
          dmsetup create part --table '0 ${small} linear /dev/vda 0'
          dmsetup mknodes
          dmsetup create vdo0 --table '${line(LOGICAL * 8, "/dev/mapper/part", SMALL / BLOCK)}'
          dmsetup mknodes
          copy_blocks /dev/vdb 0 /dev/mapper/vdo0 ${BEFORE.start} ${BEFORE.count}
          dmsetup reload vdo0 --table '${line(GROWN * 8, "/dev/mapper/part", SMALL / BLOCK)}'
          dmsetup suspend vdo0; dmsetup resume vdo0
          dmsetup reload part --table '0 ${(LARGE / BLOCK) * 8} linear /dev/vda 0'
          dmsetup suspend vdo0; dmsetup suspend part; dmsetup resume part; dmsetup resume vdo0
          dmsetup reload vdo0 --table '${line(GROWN * 8, "/dev/mapper/part", LARGE / BLOCK)}'
          dmsetup suspend vdo0; dmsetup resume vdo0
          copy_blocks /dev/vdb 0 /dev/mapper/vdo0 ${AFTER.start} ${AFTER.count}
          dmsetup table vdo0
          dmsetup remove vdo0
          dmsetup remove part
          audit /dev/vda`,
      });
      expect(guest.exitCode, guest.output).toBe(0);
      expect(await auditText(image)).toContain("All pbn references matched");
      await workplace.withVolume(image, {}, async (volume) => {
        expect(volume.blockCount).toBe(GROWN);
        expect(volume.config().physicalBlocks).toBe(LARGE / BLOCK);
        expect(await differences(volume, expected, AREAS)).toEqual([]);
      });
      expect(await auditText(image)).toContain("All pbn references matched");
    });
  },
  { describe, test },
);
