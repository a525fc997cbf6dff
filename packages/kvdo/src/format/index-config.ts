/**
 * How large the deduplication index of a volume is: memory and density, as stored in the geometry block.
 *
 * Stored memory: -256, -512, -768 for 0.25, 0.5, 0.75 GiB; 1 to 1024 for whole GiB. Volumes converted to LVM have
 * "reduced" values, one chapter shorter: -1280, -1536, -1792 and 4097 to 5120.
 */
import { type Field, struct, u8, u32le, type ValueOf, VdoError } from "@vdo/base";
import type {} from "../errors.ts";

const s32le: Field<number> = {
  size: 4,
  kind: "s32le",
  get: (view, at) => view.getInt32(at, true),
  set: (view, at, value) => view.setInt32(at, value, true),
};

export const indexConfig = struct("IndexConfig", 9, {
  memory: s32le,
  /** Written as 0; version 6.2 kept a checkpoint frequency here. */
  unused: u32le,
  /** 0 or 1. */
  sparse: u8,
});
export type IndexConfig = ValueOf<typeof indexConfig>;

/** What an index of some memory is made of. */
export interface IndexGeometry {
  /** Gibibytes of memory: 0.25, 0.5, 0.75 or 1 to 1024. */
  gib: number;
  sparse: boolean;
  /** One chapter shorter than usual. */
  reduced: boolean;
  /** Chapters of the volume, and how many of them are sparse. */
  chapters: number;
  sparseChapters: number;
  /** Record pages of a chapter, of 1024 records each. */
  recordPagesPerChapter: number;
}

const SMALL: Readonly<Record<number, number>> = { 256: 0.25, 512: 0.5, 768: 0.75 };
const REDUCED_SMALL = 1024;
const REDUCED_LARGE = 4096;
const GIB_MAX = 1024;
const MEMORY_CHOICES = `0.25, 0.5, 0.75 or 1 to ${GIB_MAX} GiB`;

function badMemory(value: number): never {
  throw new VdoError("VDO_BAD_CONFIGURATION", `IndexConfig: memory ${value} names no index: ${MEMORY_CHOICES}`, {
    structure: "IndexConfig",
    field: "memory",
    expected: MEMORY_CHOICES,
    actual: value,
  });
}

/** The stored value for 0.25, 0.5, 0.75 or 1 to 1024 GiB. Throws `VDO_BAD_ARGUMENT` for anything else. */
export function indexMemoryFromGib(gib: number): number {
  if (gib === 0.25 || gib === 0.5 || gib === 0.75) return -gib * 1024;
  if (Number.isInteger(gib) && gib >= 1 && gib <= GIB_MAX) return gib;
  throw new VdoError("VDO_BAD_ARGUMENT", `index memory ${gib} is not possible: ${MEMORY_CHOICES}`, {
    argument: "indexMemory",
    value: gib,
  });
}

/** Decodes a stored memory value. Throws `VDO_BAD_CONFIGURATION` for one that names no index. */
export function indexGeometry({ memory, sparse }: { memory: number; sparse: number | boolean }): IndexGeometry {
  const isSparse = Boolean(sparse);
  const reduced = memory > REDUCED_LARGE || memory < -REDUCED_SMALL;
  let gib: number | undefined;
  if (memory < 0) gib = SMALL[-memory - (reduced ? REDUCED_SMALL : 0)];
  else gib = memory - (reduced ? REDUCED_LARGE : 0);
  if (gib === undefined || gib === 0 || gib > GIB_MAX) return badMemory(memory);
  const baseChapters = 1024 * Math.max(1, gib);
  return {
    gib,
    sparse: isSparse,
    reduced,
    chapters: baseChapters * (isSparse ? 10 : 1) - (reduced ? 1 : 0),
    sparseChapters: isSparse ? (baseChapters * 19) / 2 : 0,
    recordPagesPerChapter: gib < 1 ? gib * 256 : 256,
  };
}
