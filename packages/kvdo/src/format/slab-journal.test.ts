import { firstDifference, toHex } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { around } from "../../test/support/arbitraries.ts";
import { goldenBlock } from "../../test/support/golden.ts";
import { SLAB_JOURNAL_ENTRIES_PER_BLOCK, SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK } from "../constants.ts";
import {
  readRecoveryPointEntry,
  readRecoveryPointSequence,
  slabJournalHeader,
  writeRecoveryPoint,
} from "./slab-journal-block.ts";
import {
  clearSlabJournalBlockMapEntries,
  isSlabJournalBlockMapEntry,
  isSlabJournalIncrement,
  markSlabJournalBlockMapEntry,
  readSlabJournalOffset,
  SLAB_JOURNAL_BITMAP_OFFSET,
  slabJournalEntryAt,
  writeSlabJournalEntry,
} from "./slab-journal-entry.ts";

const indices = around(SLAB_JOURNAL_ENTRIES_PER_BLOCK);
const sbns = around(2 ** 23);

test("every entry survives writing and reading, and nothing beside it is touched", () => {
  fc.assert(
    fc.property(indices, sbns, fc.boolean(), (index, sbn, increment) => {
      const block = new Uint8Array(4096).fill(0xee);
      writeSlabJournalEntry(block, index, sbn, increment);
      expect(readSlabJournalOffset(block, index)).toBe(sbn);
      expect(isSlabJournalIncrement(block, index)).toBe(increment);
      block.fill(0xee, slabJournalEntryAt(index), slabJournalEntryAt(index) + 3);
      expect(block.every((byte) => byte === 0xee)).toBe(true);
    }),
  );
});

test("entries are three bytes, as in a real journal", () => {
  const block = new Uint8Array(4096);
  writeSlabJournalEntry(block, 0, 4, true);
  writeSlabJournalEntry(block, 1, 304, false);
  writeSlabJournalEntry(block, 2, 2 ** 23 - 1, true);
  expect(toHex(block.subarray(36, 45))).toBe("040080300100ffffff");
});

test("1353 entries end within the block; with the bit map, 1299 end before it", () => {
  expect(slabJournalEntryAt(SLAB_JOURNAL_ENTRIES_PER_BLOCK)).toBe(4095);
  expect(SLAB_JOURNAL_BITMAP_OFFSET).toBe(3933);
  expect(slabJournalEntryAt(SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK)).toBe(3933);
});

test("the bit map marks the entries that were marked, and no others", () => {
  fc.assert(
    fc.property(fc.uniqueArray(around(SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK), { maxLength: 30 }), (marked) => {
      const block = new Uint8Array(4096).fill(0xff);
      clearSlabJournalBlockMapEntries(block);
      for (const index of marked) markSlabJournalBlockMapEntry(block, index);
      for (let i = 0; i < SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK; i++) {
        expect(isSlabJournalBlockMapEntry(block, i)).toBe(marked.includes(i));
      }
      expect(block.subarray(0, SLAB_JOURNAL_BITMAP_OFFSET).every((byte) => byte === 0xff)).toBe(true);
    }),
    { numRuns: 20 },
  );
});

test("recovery points keep 48 bits of sequence and 16 of entry", () => {
  fc.assert(
    fc.property(around(2 ** 48), around(2 ** 16), (sequence, entry) => {
      const view = new DataView(new ArrayBuffer(4096));
      writeRecoveryPoint(view, sequence, entry);
      expect(view.getBigUint64(16, true)).toBe((BigInt(sequence) << 16n) | BigInt(entry));
      expect([readRecoveryPointSequence(view), readRecoveryPointEntry(view)]).toEqual([sequence, entry]);
      expect(slabJournalHeader.at.recoveryPoint.get(view, 0)).toEqual({ sequence, entry });
    }),
  );
  expect(() => writeRecoveryPoint(new DataView(new ArrayBuffer(64)), 2 ** 48, 0)).toThrow("2^48");
});

test("the kernel's slab journal block is read and written byte for byte", () => {
  const golden = goldenBlock("slab-journal-block");
  const header = slabJournalHeader.decode(golden);
  expect(header).toMatchObject({
    head: 1,
    sequence: 1,
    recoveryPoint: { sequence: 7, entry: 376 },
    metadataType: 2,
    hasBlockMapIncrements: 1,
    entryCount: 1299,
  });
  const block = new Uint8Array(4096).fill(0xee);
  slabJournalHeader.set(new DataView(block.buffer), 0, header);
  clearSlabJournalBlockMapEntries(block);
  let pages = 0;
  for (let i = 0; i < header.entryCount; i++) {
    writeSlabJournalEntry(block, i, readSlabJournalOffset(golden, i), isSlabJournalIncrement(golden, i));
    if (!isSlabJournalBlockMapEntry(golden, i)) continue;
    markSlabJournalBlockMapEntry(block, i);
    expect(isSlabJournalIncrement(golden, i)).toBe(true);
    pages++;
  }
  // The first write of a volume allocates the four pages of its tree.
  expect([0, 1, 2, 3].every((i) => isSlabJournalBlockMapEntry(golden, i))).toBe(true);
  expect(pages).toBeGreaterThanOrEqual(4);
  expect(firstDifference(block, golden)).toBe(-1);
});
