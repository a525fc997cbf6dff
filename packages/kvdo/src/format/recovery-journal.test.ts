import { firstDifference, fromHex, toHex } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { around, pbns } from "../../test/support/arbitraries.ts";
import { goldenBlock } from "../../test/support/golden.ts";
import { readMappingPbn, readMappingState } from "./mapping.ts";
import {
  OLD_JOURNAL_ENTRIES_PER_BLOCK,
  OLD_JOURNAL_MAPPING_AT,
  OLD_JOURNAL_OPERATION,
  oldJournalEntryAt,
  oldJournalSectorCapacity,
} from "./old-journal-entry.ts";
import {
  isJournalBlockValid,
  journalCheckByte,
  journalSectorAt,
  journalSectorHeader,
  recoveryJournalHeader,
} from "./recovery-journal-block.ts";
import {
  JOURNAL_NEW_MAPPING_AT,
  JOURNAL_OLD_MAPPING_AT,
  journalEntryAt,
  readJournalEntryOperation,
  readJournalEntrySlot,
  readJournalEntrySlotPbn,
  writeJournalEntry,
} from "./recovery-journal-entry.ts";

interface Entry {
  operation: number;
  slotPbn: number;
  slot: number;
  oldPbn: number;
  oldState: number;
  newPbn: number;
  newState: number;
}

function write(bytes: Uint8Array, at: number, e: Entry): void {
  writeJournalEntry(bytes, at, e.operation, e.slotPbn, e.slot, e.oldPbn, e.oldState, e.newPbn, e.newState);
}

function read(bytes: Uint8Array, at: number): Entry {
  return {
    operation: readJournalEntryOperation(bytes, at),
    slotPbn: readJournalEntrySlotPbn(bytes, at),
    slot: readJournalEntrySlot(bytes, at),
    oldPbn: readMappingPbn(bytes, at + JOURNAL_OLD_MAPPING_AT),
    oldState: readMappingState(bytes, at + JOURNAL_OLD_MAPPING_AT),
    newPbn: readMappingPbn(bytes, at + JOURNAL_NEW_MAPPING_AT),
    newState: readMappingState(bytes, at + JOURNAL_NEW_MAPPING_AT),
  };
}

const entries = fc.record({
  operation: around(4),
  slotPbn: pbns,
  slot: around(1024),
  oldPbn: pbns,
  oldState: around(16),
  newPbn: pbns,
  newState: around(16),
});

test("every entry survives writing and reading, and nothing beside it is touched", () => {
  fc.assert(
    fc.property(entries, (entry) => {
      const bytes = new Uint8Array(24).fill(0xee);
      write(bytes, 4, entry);
      expect(read(bytes, 4)).toEqual(entry);
      expect(toHex(bytes.subarray(0, 4)) + toHex(bytes.subarray(20))).toBe("eeeeeeeeeeeeeeee");
    }),
  );
});

test("any sixteen bytes survive reading and writing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const copy = new Uint8Array(16);
      write(copy, 0, read(bytes, 0));
      expect(toHex(copy)).toBe(toHex(bytes));
    }),
  );
});

/** Entries of real volumes: page allocation, data, fragment, zero, discard, overwrite, and one beyond 32 bits. */
test.each([
  ["0100d95c0a00 01155d0a00 0000000000", [1, 679129, 0, 0, 0, 679189, 1]],
  ["0400185d0a00 011a5d0a00 0000000000", [0, 679192, 1, 0, 0, 679194, 1]],
  ["9003185d0a00 0f0a5e0a00 0000000000", [0, 679192, 228, 0, 0, 679434, 15]],
  ["b004185d0a00 0100000000 0000000000", [0, 679192, 300, 0, 0, 0, 1]],
  ["4006185d0a00 0000000000 01455e0a00", [0, 679192, 400, 679493, 1, 0, 0]],
  ["0000185d0a00 016d5e0a00 01195d0a00", [0, 679192, 0, 679193, 1, 679533, 1]],
  ["0110f56a8e0d 11316b8e0d 0000000000", [1, 0x10d8e6af5, 0, 0, 0, 0x10d8e6b31, 1]],
])("the entry %s of a real journal is understood", (hex, values) => {
  const entry = read(fromHex(hex), 0);
  const { operation, slotPbn, slot, oldPbn, oldState, newPbn, newState } = entry;
  expect([operation, slotPbn, slot, oldPbn, oldState, newPbn, newState]).toEqual(values);
});

test("217 entries lie in sectors 1 to 7, 31 in each, without touching", () => {
  expect(journalEntryAt(0)).toBe(515);
  expect(journalEntryAt(30)).toBe(515 + 30 * 16);
  expect(journalEntryAt(31)).toBe(1027);
  expect(journalEntryAt(216)).toBe(7 * 512 + 3 + 30 * 16);
  for (let i = 1; i < 217; i++) expect(journalEntryAt(i) - journalEntryAt(i - 1)).toBe(i % 31 === 0 ? 32 : 16);
});

test("the kernel's journal block is read and written byte for byte", () => {
  const golden = goldenBlock("recovery-journal-block");
  const header = recoveryJournalHeader.decode(golden);
  expect(header).toMatchObject({ sequence: 46, metadataType: 3, entryCount: 25, checkByte: 0x80, recoveryCount: 0 });
  expect(header.slabJournalHead).toBe(42);
  const block = new Uint8Array(4096);
  const view = new DataView(block.buffer);
  recoveryJournalHeader.set(view, 0, header);
  journalSectorHeader.set(view, journalSectorAt(1), { checkByte: 0x80, recoveryCount: 0, entryCount: 25 });
  for (let i = 0; i < header.entryCount; i++) write(block, journalEntryAt(i), read(golden, journalEntryAt(i)));
  expect(firstDifference(block, golden)).toBe(-1);
});

test("the check byte changes with each lap and always has its top bit", () => {
  expect(journalCheckByte(1, 32768)).toBe(0x80);
  expect(journalCheckByte(32767, 32768)).toBe(0x80);
  expect(journalCheckByte(32768, 32768)).toBe(0x81);
  expect(journalCheckByte(127 * 32768, 32768)).toBe(0xff);
  expect(journalCheckByte(128 * 32768, 32768)).toBe(0x80);
  expect(journalCheckByte(2 ** 48 - 1, 32768)).toBe(0xff);
});

test("a block is valid only with its nonce, recovery count, type, entry count and place", () => {
  const expectation = { nonce: 0n, recoveryCount: 0, position: 46, journalBlocks: 32768 };
  const valid = (change: (view: DataView) => void): boolean => {
    const view = new DataView(goldenBlock("recovery-journal-block").buffer);
    const nonce = recoveryJournalHeader.at.nonce.get(view, 0);
    change(view);
    return isJournalBlockValid(view, { ...expectation, nonce });
  };
  const at = recoveryJournalHeader.at;
  expect(valid(() => {})).toBe(true);
  expect(valid((view) => at.sequence.set(view, 0, 46 + 32768))).toBe(true);
  expect(valid((view) => at.metadataType.set(view, 0, 1))).toBe(true);
  expect(valid((view) => at.entryCount.set(view, 0, 217))).toBe(true);
  expect(valid((view) => at.nonce.set(view, 0, 1n))).toBe(false);
  expect(valid((view) => at.recoveryCount.set(view, 0, 1))).toBe(false);
  expect(valid((view) => at.metadataType.set(view, 0, 2))).toBe(false);
  expect(valid((view) => at.entryCount.set(view, 0, 218))).toBe(false);
  expect(valid((view) => at.sequence.set(view, 0, 47))).toBe(false);
  expect(valid((view) => view.setUint32(at.sequence.offset + 4, 0xffffffff, true))).toBe(false);
});

test("old journal blocks hold 311 entries, 46 in each of the sectors 1 to 6 and 35 in sector 7", () => {
  expect([1, 2, 3, 4, 5, 6, 7].map(oldJournalSectorCapacity)).toEqual([46, 46, 46, 46, 46, 46, 35]);
  expect(oldJournalEntryAt(0)).toBe(515);
  expect(oldJournalEntryAt(46)).toBe(1027);
  expect(oldJournalEntryAt(OLD_JOURNAL_ENTRIES_PER_BLOCK - 1)).toBe(7 * 512 + 3 + 34 * 11);
});

test("an old entry that the kernel's rebuild replayed is understood", () => {
  const bytes = fromHex("d107185d0a00 01195d0a00");
  expect(readJournalEntryOperation(bytes, 0)).toBe(OLD_JOURNAL_OPERATION.dataIncrement);
  expect(readJournalEntrySlot(bytes, 0)).toBe(500);
  expect(readJournalEntrySlotPbn(bytes, 0)).toBe(679192);
  expect(readMappingPbn(bytes, OLD_JOURNAL_MAPPING_AT)).toBe(679193);
  expect(readMappingState(bytes, OLD_JOURNAL_MAPPING_AT)).toBe(1);
});
