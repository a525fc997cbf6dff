/** The kernel and we take turns on one volume, three rounds, with data that grows; each checks all that both wrote. */

import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { type Area, differences, expectedSums, sumLines, sumsScript } from "./support/area.ts";
import { BLOCK, content, ExpectedContent } from "./support/content.ts";
import { Workplace } from "./support/workplace.ts";

const ROUNDS = 3;

describeWithKernel(
  "a volume passed to and fro",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());
    const image = workplace.image("vdo.img", 4 * 2 ** 30);
    const expected = new ExpectedContent();
    const areas: Area[] = [];

    /** Notes that `data` is written at `start`. */
    function note(start: number, data: Uint8Array): void {
      expected.write(start, data);
      areas.push({ start, count: data.length / BLOCK });
    }

    test.each([1, 2, 3])("holds what both wrote, round %i of three", async (round) => {
      const size = 512 * round;
      const seen = [...areas];
      const before = expectedSums(expected, seen);
      const theirs = content(100 + round, size);
      const at = round * 100_000;
      const guest = await runGuest({
        disks: [image, { path: workplace.dataImage(`data-${round}.img`, theirs), readOnly: true }],
        script: `set -e
          ${round === 1 ? "vdoformat --force --logical-size=16G --slab-bits=13 /dev/vda" : "audit /dev/vda"}
          vdo_start vdo0 /dev/vda
          ${sumsScript("/dev/mapper/vdo0", seen)}
          copy_blocks /dev/vdb 0 /dev/mapper/vdo0 ${at} ${size}
          discard_blocks /dev/mapper/vdo0 ${at + 100} 50
          vdo_stop vdo0
          audit /dev/vda`,
      });
      expect(sumLines(guest.output), guest.output).toEqual(before);
      expect(guest.exitCode, guest.output).toBe(0);
      note(at, theirs);
      expected.clear(at + 100, 50);

      await workplace.withVolume(image, {}, async (volume) => {
        expect(await differences(volume, expected, areas)).toEqual([]);
        // Half of it the kernel's data of this round, half new.
        const ours = content(200 + round, size);
        ours.set(theirs.subarray(0, ours.length / 2));
        const stored = volume.statistics().dataBlocksUsed;
        await volume.write(at + 50_000, ours);
        note(at + 50_000, ours);
        await volume.discard(at + 50_010, 7);
        expected.clear(at + 50_010, 7);
        await volume.flush();
        const grown = volume.statistics().dataBlocksUsed - stored;
        expect(grown, "the kernel's blocks were found through the kernel's index").toBeLessThan(size / 2);
        expect(await differences(volume, expected, areas)).toEqual([]);
      });
      if (round === ROUNDS) {
        const last = await runGuest({ disks: [image], script: `audit /dev/vda` });
        expect(last.output).toContain("All pbn references matched");
      }
    });
  },
  { describe, test },
);
