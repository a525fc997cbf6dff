import { firstDifference, toHex } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { around } from "../../test/support/arbitraries.ts";
import { goldenBlock } from "../../test/support/golden.ts";
import { COUNTS_PER_SECTOR, slabJournalFlushingDeadline, slabJournalThresholds } from "../constants.ts";
import { expandedEntry, isBefore } from "./journal-point.ts";
import { REFERENCE_COUNTS_AT, readCommitPoint, referenceSector, writeCommitPoint } from "./reference-block.ts";
import { computeSlabConfig, fullnessHint, fullnessHintShift, usedReferenceBlocks } from "./slab-geometry.ts";
import {
  decodeSummaryEntry,
  defaultSummaryEntry,
  encodeSummaryEntry,
  packSummaryEntry,
  readSummaryEntry,
  summaryEntryAt,
  summaryFullnessHint,
  summaryIsDirty,
  summaryLoadsCounts,
  summaryTailOffset,
  writeSummaryEntry,
} from "./slab-summary-entry.ts";

/** Slab bits, blocks, data blocks, reserved and used reference blocks, shift of the hint: of real volumes. */
test.each([
  [13, 8192, 7966, 2, 2, 7],
  [14, 16384, 16155, 5, 5, 8],
  [15, 32768, 32535, 9, 9, 9],
  [16, 65536, 65295, 17, 17, 10],
  [17, 131072, 130815, 33, 33, 11],
  [18, 262144, 261855, 65, 65, 12],
  [19, 524288, 523934, 130, 130, 13],
  [20, 1048576, 1048091, 261, 260, 14],
  [21, 2097152, 2096407, 521, 520, 15],
  [22, 4194304, 4193039, 1041, 1040, 16],
  [23, 8388608, 8386303, 2081, 2080, 17],
])("slabs of 2^%i blocks have the shape of real ones", (bits, slabBlocks, dataBlocks, reserved, used, shift) => {
  const config = computeSlabConfig(2 ** bits);
  expect(config).toEqual({
    slabBlocks,
    dataBlocks,
    referenceCountBlocks: reserved,
    slabJournalBlocks: 224,
    flushingThreshold: 168,
    blockingThreshold: 208,
    scrubbingThreshold: 222,
  });
  expect(usedReferenceBlocks(config)).toBe(used);
  expect(fullnessHintShift(slabBlocks)).toBe(shift);
});

test("slabs that leave no room for data, or are no power of two, are refused", () => {
  for (const [blocks, journal] of [
    [128, 224],
    [224, 224],
    [8193, 224],
    [2 ** 24, 224],
    [8192, 1],
    [0, 2],
  ] as const) {
    expect(() => computeSlabConfig(blocks, journal), `${blocks} blocks`).toThrow("slab configuration");
  }
  expect(() => computeSlabConfig(4, 3)).toThrow("dataBlocks");
});

test("thresholds keep their order for every journal size from 16 blocks", () => {
  for (let size = 16; size <= 300; size++) {
    const thresholds = slabJournalThresholds(size);
    const { flushing, blocking, scrubbing } = thresholds;
    const deadline = slabJournalFlushingDeadline(thresholds);
    expect(flushing <= deadline && deadline <= blocking && blocking <= scrubbing && scrubbing <= size, `${size}`).toBe(
      true,
    );
  }
  expect(slabJournalFlushingDeadline(slabJournalThresholds(224))).toBe(203);
});

test("the fullness hint is 0 only for a full slab", () => {
  const shift = fullnessHintShift(32768);
  expect([0, 1, 511, 512, 16267, 32535].map((free) => fullnessHint(free, shift))).toEqual([0, 1, 1, 1, 31, 63]);
  expect(fullnessHint(7966, fullnessHintShift(8192))).toBe(62);
});

test("every summary entry survives packing, in both forms, and nothing beside it is touched", () => {
  fc.assert(
    fc.property(around(256), around(64), fc.boolean(), fc.boolean(), (tailOffset, hint, loadCounts, isDirty) => {
      const entry = packSummaryEntry(tailOffset, hint, loadCounts, isDirty);
      expect(summaryTailOffset(entry)).toBe(tailOffset);
      expect(summaryFullnessHint(entry)).toBe(hint);
      expect(summaryLoadsCounts(entry)).toBe(loadCounts);
      expect(summaryIsDirty(entry)).toBe(isDirty);
      const bytes = new Uint8Array(4).fill(0xee);
      writeSummaryEntry(bytes, 1, entry);
      expect(readSummaryEntry(bytes, 1)).toBe(entry);
      const decoded = decodeSummaryEntry(bytes, 1);
      expect(decoded).toEqual({ tailOffset, fullnessHint: hint, loadCounts, isDirty });
      const again = new Uint8Array(4).fill(0xee);
      encodeSummaryEntry(again, 1, decoded);
      expect(toHex(again)).toBe(toHex(bytes));
      expect([bytes[0], bytes[3]]).toEqual([0xee, 0xee]);
    }),
  );
});

/** Bytes of real summaries. */
test.each([
  ["027e", 2, 62, true, false],
  ["5ce3", 92, 35, true, true],
  ["5fa1", 95, 33, false, true],
  ["003f", 0, 63, false, false],
])("the summary entry %s is understood", (hex, tailOffset, hint, loadCounts, isDirty) => {
  const bytes = Buffer.from(hex, "hex");
  expect(decodeSummaryEntry(bytes, 0)).toEqual({ tailOffset, fullnessHint: hint, loadCounts, isDirty });
});

test("the kernel's summary block is read and written byte for byte", () => {
  const golden = goldenBlock("slab-summary-block");
  const block = new Uint8Array(4096);
  for (let slab = 0; slab < 2048; slab++) {
    const at = summaryEntryAt(slab);
    const entry = decodeSummaryEntry(golden, at);
    encodeSummaryEntry(block, at, entry);
    if (slab > 0) expect(entry).toEqual(defaultSummaryEntry(62));
  }
  expect(decodeSummaryEntry(golden, 0)).toMatchObject({ tailOffset: 8, loadCounts: true, isDirty: false });
  expect(firstDifference(block, golden)).toBe(-1);
});

test("commit points keep 48 bits of sequence and 16 of entry", () => {
  fc.assert(
    fc.property(around(2 ** 48), around(2 ** 16), (sequence, entry) => {
      const block = new Uint8Array(1024);
      writeCommitPoint(block, 512, sequence, entry);
      const points = { sequences: new Float64Array(2), entries: new Uint16Array(2) };
      readCommitPoint(block, 512, points, 1);
      expect([points.sequences[1], points.entries[1]]).toEqual([sequence, entry]);
      expect(referenceSector.decode(block.subarray(512)).commitPoint).toEqual({ sequence, entry });
    }),
  );
});

test("the kernel's reference block is read and written byte for byte", () => {
  const golden = goldenBlock("reference-block");
  const block = new Uint8Array(4096);
  const points = { sequences: [] as number[], entries: [] as number[] };
  for (let sector = 0; sector < 8; sector++) {
    const at = sector * 512;
    readCommitPoint(golden, at, points, sector);
    writeCommitPoint(block, at, points.sequences[sector]!, points.entries[sector]!);
    const counts = golden.subarray(at + REFERENCE_COUNTS_AT, at + REFERENCE_COUNTS_AT + COUNTS_PER_SECTOR);
    block.set(counts, at + REFERENCE_COUNTS_AT);
  }
  // Written as one: all sectors have the same commit point. The first four blocks of the volume are block map pages.
  expect(new Set(points.sequences)).toEqual(new Set([7]));
  expect(new Set(points.entries)).toEqual(new Set([0x4be]));
  expect([...golden.subarray(8, 12)]).toEqual([254, 254, 254, 254]);
  expect(firstDifference(block, golden)).toBe(-1);
});

test("journal points are ordered by sequence, then entry; an entry's decrement comes right after its increment", () => {
  expect(isBefore(1, 5, 2, 0)).toBe(true);
  expect(isBefore(2, 4, 2, 5)).toBe(true);
  expect(isBefore(2, 5, 2, 5)).toBe(false);
  expect(isBefore(3, 0, 2, 5)).toBe(false);
  expect([expandedEntry(119, true), expandedEntry(119, false)]).toEqual([238, 239]);
});
