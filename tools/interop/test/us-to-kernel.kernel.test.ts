/** We format and write; the kernel opens it, reads every block, finds no fault, and finds duplicates through our index. */
import { FileDevice } from "@vdo/block-device";
import { format } from "@vdo/kvdo";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { expectedSums, sumLines, sumsScript } from "./support/area.ts";
import { BLOCK, content, ExpectedContent, uniqueContent } from "./support/content.ts";
import { Workplace } from "./support/workplace.ts";

const AREAS = [
  { start: 0, count: 2048 },
  { start: 100_000, count: 2048 },
  { start: 200_000, count: 320 },
  { start: 300_000, count: 512 },
];

/** Everything a client can do to a volume: returns what it must hold afterwards. */
async function writeEverything(workplace: Workplace, image: string): Promise<ExpectedContent> {
  const expected = new ExpectedContent();
  const mixed = content(21, 2048);
  const unique = uniqueContent(22, 512);
  const one = uniqueContent(23, 1);
  await workplace.withVolume(image, {}, async (volume) => {
    const write = async (start: number, data: Uint8Array): Promise<void> => {
      for (let at = 0; at < data.length; at += 64 * BLOCK) {
        await volume.write(start + at / BLOCK, data.subarray(at, Math.min(at + 64 * BLOCK, data.length)));
      }
      expected.write(start, data);
    };
    await write(0, mixed);
    await volume.flush();
    await write(100_000, mixed);
    await write(300_000, unique);
    // 300 copies: more than the 254 references one block can have.
    for (let i = 0; i < 300; i++) await write(200_000 + i, one);
    await volume.write(200_310, one, { fua: true });
    expected.write(200_310, one);
    await volume.writeZeroes(300_100, 20, { mayUnmap: false });
    expected.clear(300_100, 20);
    await volume.discard(100_500, 700);
    expected.clear(100_500, 700);
    await write(50, mixed.slice(1000 * BLOCK, 1100 * BLOCK));
    await volume.flush();
  });
  await workplace.withVolume(image, { logicalBlockSize: 512 }, async (volume) => {
    const sectors = uniqueContent(24, 1).subarray(0, 3 * 512);
    await volume.write(300_200 * 8 + 6, sectors);
    const changed = expected.read(300_200, 2);
    changed.set(sectors, 6 * 512);
    expected.write(300_200, changed);
    await volume.flush();
  });
  return expected;
}

describeWithKernel(
  "a volume that we made",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());

    test("opens in the kernel with every block, a clean audit, and an index that finds our blocks", async () => {
      const image = workplace.image("vdo.img", 4 * 2 ** 30);
      const device = await FileDevice.open({ path: image });
      await format(device, { logicalSize: 16 * 2 ** 30, slabBits: 13, indexMemory: 0.25 });
      await device.close();
      const expected = await writeEverything(workplace, image);
      const known = workplace.dataImage("known.img", expected.read(300_300, 200));
      const guest = await runGuest({
        disks: [image, { path: known, readOnly: true }],
        script: `set -e
          audit /dev/vda
          vdo_start vdo0 /dev/vda
          ${sumsScript("/dev/mapper/vdo0", AREAS)}
          echo "advice before $(vdo_stat vdo0 'dedupe advice valid') data $(vdo_stat vdo0 'data blocks used')"
          copy_blocks /dev/vdb 0 /dev/mapper/vdo0 400000 200
          echo "advice after $(vdo_stat vdo0 'dedupe advice valid') data $(vdo_stat vdo0 'data blocks used')"
          echo "sum 400000 $(blocks_sum /dev/mapper/vdo0 400000 200)"
          vdo_stop vdo0
          audit /dev/vda`,
      });
      expected.write(400_000, expected.read(300_300, 200));
      const areas = [...AREAS, { start: 400_000, count: 200 }];
      expect(sumLines(guest.output), guest.output).toEqual(expectedSums(expected, areas));
      const before = /advice before (\d+) data (\d+)/.exec(guest.output);
      const after = /advice after (\d+) data (\d+)/.exec(guest.output);
      expect(Number(after?.[1]) - Number(before?.[1]), "blocks found through our saved index").toBe(200);
      expect(after?.[2], "nothing was stored again").toBe(before?.[2]);
      expect(guest.output.match(/All pbn references matched/g)).toHaveLength(2);
      expect(guest.exitCode).toBe(0);
    });
  },
  { describe, test },
);
