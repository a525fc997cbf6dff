import { expect, test } from "vitest";
import { findChapterBoundaries, findUsedChapters } from "./chapter-boundaries.ts";

const BAD = -1;

test.each([
  { chapters: [0, 1, 2, 3], lowest: 0, highest: 3 },
  { chapters: [BAD, BAD, 2, 3, 4], lowest: 2, highest: 4 },
  { chapters: [BAD, 1, 2, 3, BAD, BAD], lowest: 1, highest: 3 },
  { chapters: [10, 11, 12, 13, BAD, BAD, BAD, BAD, 8, 9], lowest: 8, highest: 13 },
  { chapters: [30, BAD, BAD, BAD, BAD, BAD, BAD, 27, 28, 29], lowest: 27, highest: 30 },
  { chapters: [10, 1, 2, 3, 4, 5, 6, 7, 8, 9], lowest: 1, highest: 10 },
])("the chapters $chapters run from $lowest to $highest", async ({ chapters, lowest, highest }) => {
  const probe = async (physical: number): Promise<number> => chapters[physical] as number;
  expect(await findChapterBoundaries(probe, chapters.length)).toEqual({ lowest, highest });
});

test("an empty volume is probed with growing strides", async () => {
  const probed: number[] = [];
  const limit = await findUsedChapters(async (physical) => {
    probed.push(physical);
    return BAD;
  }, 1024);
  expect(limit).toBe(0);
  expect(probed).toEqual([1023, 1022, 1020, 1016, 1008, 992, 960, 896, 768, 512, 0]);
  expect(await findChapterBoundaries(async () => BAD, 16)).toBeUndefined();
});

test("more than 100 bad chapters in a row are damage", async () => {
  const withGap = (gap: number) => async (physical: number) =>
    physical < 5 ? 400 + physical : physical < 5 + gap ? BAD : physical;
  await expect(findChapterBoundaries(withGap(100), 300)).resolves.toEqual({ lowest: 105, highest: 404 });
  await expect(findChapterBoundaries(withGap(101), 300)).rejects.toMatchObject({ code: "VDO_CORRUPT" });
});
