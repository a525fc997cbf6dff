/**
 * Which chapters are on a volume, found by probing few of them (Linux 6.12, volume: find_real_end_of_volume and
 * chapter boundaries). Assumes at most one run of bad chapters.
 */
import { BAD_CHAPTERS_MAX } from "../constants.ts";
import { corrupt } from "../errors.ts";

/** Virtual chapter stored in a physical one, or -1 when it holds none. */
export type ProbeChapter = (physicalChapter: number) => Promise<number>;

export interface ChapterBoundaries {
  readonly lowest: number;
  readonly highest: number;
}

/** Number of chapters from the start of the volume that are in use. */
export async function findUsedChapters(probe: ProbeChapter, chapters: number): Promise<number> {
  let limit = chapters;
  let span = 1;
  let tries = 0;
  while (limit > 0) {
    const chapter = span > limit ? 0 : limit - span;
    if ((await probe(chapter)) < 0) {
      limit = chapter;
      tries++;
      if (tries > 1) span *= 2;
    } else {
      if (span === 1) break;
      span = Math.floor(span / 2);
      tries = 0;
    }
  }
  return limit;
}

/** Lowest and highest virtual chapter of a volume; undefined when it is empty. Throws `VDO_CORRUPT` when too many are bad. */
export async function findChapterBoundaries(
  probe: ProbeChapter,
  chapters: number,
): Promise<ChapterBoundaries | undefined> {
  const limit = await findUsedChapters(probe, chapters);
  if (limit === 0) return undefined;
  // A bad chapter counts as higher than every good one.
  const numberOf = async (chapter: number): Promise<number> => {
    const virtual = await probe(chapter);
    return virtual < 0 ? Number.POSITIVE_INFINITY : virtual;
  };
  const zero = await numberOf(0);
  let left = 0;
  let right = limit;
  while (left < right) {
    const middle = Math.floor((left + right) / 2);
    if (zero <= (await numberOf(middle))) left = middle + 1;
    else right = middle;
  }
  const lowest = await numberOf(left >= limit ? 0 : left);
  for (let bad = 0; ; bad++) {
    if (bad > BAD_CHAPTERS_MAX)
      throw corrupt("chapters", "bad chapters in a row", { expected: BAD_CHAPTERS_MAX, actual: bad });
    right = (right === 0 ? limit : right) - 1;
    const highest = await probe(right);
    if (highest >= 0) return { lowest, highest };
  }
}
