/** The kernel formats and writes; we open, read every block, and report the same statistics. */

import { FileDevice } from "@vdo/block-device";
import { readVolumeInfo, verboseLines } from "@vdo/kvdo";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { differences } from "./support/area.ts";
import { content, ExpectedContent } from "./support/content.ts";
import { Workplace } from "./support/workplace.ts";

/**
 * Lines of `vdostats --verbose` that are about this run of the kernel's module and not about the volume: its memory, the
 * number of the start, and the super block's write, which the kernel has or has not finished by the time we look.
 */
const OF_THE_RUN = /^(KVDO module|instance$|bios meta)/;

const AREAS = [
  { start: 0, count: 4096 },
  { start: 1_000_000, count: 4096 },
  { start: 5_000_000, count: 64 },
];

/** label → value of `vdostats --verbose` lines. */
function statistics(lines: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const match = /^ {2}(\S.*?) +: (.*)$/.exec(line);
    if (match !== null && !OF_THE_RUN.test(match[1] as string)) found.set(match[1] as string, match[2] as string);
  }
  return found;
}

describeWithKernel(
  "a volume that the kernel made",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());

    test("opens here with every block and the same statistics", async () => {
      const image = workplace.image("vdo.img", 4 * 2 ** 30);
      const data = content(1, 4096);
      const expected = new ExpectedContent();
      expected.write(0, data);
      expected.write(1_000_000, data);
      expected.clear(100, 50);
      expected.clear(1_001_000, 1000);
      expected.write(3000, data.slice(2000 * 4096, 2500 * 4096));
      const guest = await runGuest({
        disks: [image, { path: workplace.dataImage("data.img", data), readOnly: true }],
        collect: ["stats"],
        script: `set -e
          vdoformat --force --logical-size=64G --slab-bits=13 /dev/vda
          vdo_start vdo0 /dev/vda
          copy_blocks /dev/vdb 0 /dev/mapper/vdo0 0 4096
          copy_blocks /dev/vdb 0 /dev/mapper/vdo0 1000000 4096
          discard_blocks /dev/mapper/vdo0 100 50
          discard_blocks /dev/mapper/vdo0 1001000 1000
          copy_blocks /dev/vdb 2000 /dev/mapper/vdo0 3000 500
          vdo_stop vdo0
          vdo_start vdo0 /dev/vda
          vdostats --verbose vdo0 > stats
          vdo_stop vdo0
          audit /dev/vda`,
      });
      expect(guest.output).toContain("All pbn references matched");
      expect(guest.exitCode).toBe(0);

      const kernels = statistics(
        Buffer.from(guest.files.get("stats") ?? [])
          .toString()
          .split("\n"),
      );
      await workplace.withVolume(image, { readOnly: true }, async (volume) => {
        expect(await differences(volume, expected, AREAS)).toEqual([]);
      });
      await workplace.withVolume(image, {}, async (volume) => {
        const ours = statistics(verboseLines({ name: "vdo0", statistics: volume.statistics() }));
        expect([...ours]).toEqual([...kernels]);
        expect(Number(ours.get("logical blocks used"))).toBe(7142);
        expect(Number(ours.get("entries indexed"))).toBeGreaterThan(2000);
        expect(await differences(volume, expected, AREAS)).toEqual([]);
      });
      const device = await FileDevice.open({ path: image, readOnly: true });
      const info = await readVolumeInfo(device);
      await device.close();
      expect(info.state).toBe("CLEAN");
    });
  },
  { describe, test },
);
