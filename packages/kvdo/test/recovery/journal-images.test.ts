/** Recovery journals made by hand, sound and damaged: exactly the entries that count are applied, or the volume is read-only. */
import type { MemoryDevice } from "@vdo/block-device";
import { RecordingDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import {
  journalCheckByte,
  journalSectorAt,
  journalSectorHeader,
  OLD_JOURNAL_MAPPING_AT,
  oldJournalEntryAt,
  recoveryJournalHeader,
  setPageInitialised,
  VOLUME_STATE,
  writeJournalEntry,
  writeMapping,
} from "../../src/format/index.ts";
import { readVolumeInfo, VdoVolume } from "../../src/index.ts";
import { copyDevice } from "../support/crash-copy.ts";
import {
  editSuperBlock,
  entryPlace,
  type HandEntry,
  type JournalImage,
  journalImage,
  OPTIONS,
  PER_BLOCK,
  putEntry,
} from "../support/journal-image.ts";
import { type Mappings, recovered } from "../support/recovered.ts";

/** Entries of the images: three full blocks, and one with 100 entries, the last 7 of them in its fourth sector. */
const ENTRIES = 3 * PER_BLOCK + 100;
const HEADER = recoveryJournalHeader.at;

/** Ranges of entries, the last one not included. */
type Ranges = readonly (readonly [from: number, to: number])[];

interface Row {
  what: string;
  damage: (image: JournalImage) => Promise<void>;
  /** What recovery applies; or that the volume is read-only. */
  recovery: Ranges | "read-only";
  /** What a rebuild saves. */
  rebuild: Ranges;
}

const ALL: Ranges = [[0, ENTRIES]];
const hole = (n: number) => (image: JournalImage) => image.edit(n, (bytes) => void bytes.fill(0));
const header =
  (n: number, edit: (view: DataView) => void) =>
  (image: JournalImage): Promise<void> =>
    image.edit(n, (_bytes, view) => edit(view));
const sector = (n: number, s: number, field: "checkByte" | "recoveryCount" | "entryCount", value: number) =>
  header(n, (view) => journalSectorHeader.at[field].set(view, journalSectorAt(s), value));
const both =
  (...damages: ((image: JournalImage) => Promise<void>)[]) =>
  async (image: JournalImage): Promise<void> => {
    for (const damage of damages) await damage(image);
  };
/** Another entry `i` in place of the sound one. */
const entry = (i: number, make: (image: JournalImage) => HandEntry) => (image: JournalImage) =>
  image.edit(Math.floor(i / PER_BLOCK), (bytes) =>
    putEntry(bytes, i % PER_BLOCK, { slotPbn: image.leaf, ...make(image) }),
  );
const without = (from: number, to: number): Ranges => [
  [0, from],
  [to, ENTRIES],
];
const blockRange = (n: number): [number, number] => [n * PER_BLOCK, (n + 1) * PER_BLOCK];

const HOLES: Row[] = [
  { what: "whole, with a short last block", damage: async () => undefined, recovery: ALL, rebuild: ALL },
  { what: "the last block missing", damage: hole(3), recovery: [[0, 651]], rebuild: [[0, 651]] },
  { what: "a hole at the head", damage: hole(0), recovery: [], rebuild: [[217, ENTRIES]] },
  { what: "a hole in the middle", damage: hole(1), recovery: [[0, 217]], rebuild: without(...blockRange(1)) },
  { what: "a hole before the tail", damage: hole(2), recovery: [[0, 434]], rebuild: without(...blockRange(2)) },
  {
    what: "two holes",
    damage: both(hole(1), hole(3)),
    recovery: [[0, 217]],
    rebuild: [
      [0, 217],
      [434, 651],
    ],
  },
];

const SECTORS: Row[] = [
  {
    what: "a bad check byte in a sector",
    damage: sector(1, 4, "checkByte", 0x33),
    recovery: [[0, 217 + 93]],
    rebuild: without(217 + 93, 217 + 124),
  },
  {
    what: "the recovery count of another life in a sector",
    damage: sector(1, 1, "recoveryCount", 9),
    recovery: [[0, 217]],
    rebuild: without(217, 248),
  },
  {
    what: "a sector with more entries than it can hold",
    damage: sector(2, 2, "entryCount", 32),
    recovery: [[0, 434 + 31]],
    rebuild: ALL,
  },
  {
    what: "a sector that is not full before others",
    damage: sector(1, 3, "entryCount", 10),
    recovery: [[0, 217 + 72]],
    rebuild: without(217 + 72, 217 + 93),
  },
  {
    what: "a partly written last block: its third sector is old",
    damage: (image) => image.edit(3, (bytes) => void bytes.fill(0, journalSectorAt(3), journalSectorAt(4))),
    recovery: [[0, 651 + 62]],
    rebuild: without(651 + 62, 651 + 93),
  },
  {
    what: "a partly written last block: only its header is new",
    damage: (image) => image.edit(3, (bytes) => void bytes.fill(0, journalSectorAt(1))),
    recovery: [[0, 651]],
    rebuild: [[0, 651]],
  },
  {
    what: "a partly written last block: its header is old and claims less",
    damage: header(3, (view) => HEADER.entryCount.set(view, 0, 40)),
    recovery: [[0, 651 + 40]],
    rebuild: [[0, 651 + 40]],
  },
];

const HEADERS: Row[] = [
  {
    // Found by damaged image 2060 to 2079 of 10,000.
    what: "counts of use in the last block that no volume has",
    damage: header(3, (view) => view.setUint32(HEADER.blockMapDataBlocks.offset + 4, 0x200001, true)),
    recovery: "read-only",
    rebuild: ALL,
  },
  ...[
    { what: "another volume's nonce", edit: (view: DataView) => HEADER.nonce.set(view, 0, 7n) },
    { what: "another life's recovery count", edit: (view: DataView) => HEADER.recoveryCount.set(view, 0, 3) },
    { what: "too many entries", edit: (view: DataView) => HEADER.entryCount.set(view, 0, 218) },
    { what: "an unknown type", edit: (view: DataView) => HEADER.metadataType.set(view, 0, 2) },
    { what: "the sequence number of another place", edit: (view: DataView) => HEADER.sequence.set(view, 0, 77) },
    { what: "the sequence number of the last lap", edit: (view: DataView) => lastLap(view) },
  ].map(
    ({ what, edit }): Row => ({
      what: `${what} in a header`,
      damage: header(2, edit),
      recovery: [[0, 434]],
      rebuild: without(...blockRange(2)),
    }),
  ),
  {
    what: "a damaged header and a hole",
    damage: both(
      header(1, (view) => HEADER.nonce.set(view, 0, 7n)),
      hole(2),
    ),
    recovery: [[0, 217]],
    rebuild: without(217, 651),
  },
  {
    what: "a tail before the slab journal head",
    damage: both(
      header(3, (view) => HEADER.slabJournalHead.set(view, 0, HEADER.sequence.get(view, 0) - 1)),
      hole(1),
    ),
    recovery: "read-only",
    rebuild: without(...blockRange(1)),
  },
  {
    what: "the block map head gone while the other head is greater",
    damage: both(
      header(3, (view) => HEADER.slabJournalHead.set(view, 0, HEADER.sequence.get(view, 0))),
      hole(0),
    ),
    recovery: "read-only",
    rebuild: [[217, ENTRIES]],
  },
  {
    what: "a block of the old format among others",
    damage: header(1, (view) => HEADER.metadataType.set(view, 0, 1)),
    recovery: "read-only",
    rebuild: without(...blockRange(1)),
  },
];

/** A sequence number one lap back. */
function lastLap(view: DataView): void {
  HEADER.sequence.set(view, 0, HEADER.sequence.get(view, 0) - 32 < 0 ? 2 ** 40 : HEADER.sequence.get(view, 0) - 32);
}

const BAD = 300;
const ENTRY_ROWS: Row[] = (
  [
    ["a slot that no page has", ({ pbnOf }) => ({ slot: 900, newPbn: pbnOf(BAD) })],
    ["a page beyond the volume", ({ pbnOf }) => ({ slotPbn: 2 ** 32, slot: 5, newPbn: pbnOf(BAD) })],
    ["a new block beyond the volume", () => ({ slot: BAD + 1, newPbn: 2 ** 31 })],
    ["a new block in a slab's metadata", ({ regions }) => ({ slot: BAD + 1, newPbn: regions.slab(0).counts.start })],
    ["a new mapping to a block that is unmapped", ({ pbnOf }) => ({ slot: BAD + 1, newPbn: pbnOf(BAD), newState: 0 })],
    ["a new mapping to a fragment of nothing", () => ({ slot: BAD + 1, newPbn: 0, newState: 4 })],
    [
      "an old mapping in a slab's metadata",
      ({ pbnOf, regions }) => ({
        slot: BAD + 1,
        newPbn: pbnOf(BAD),
        oldPbn: regions.slab(1).journal.start,
        oldState: 1,
      }),
    ],
    ["an operation of the old format", ({ pbnOf }) => ({ operation: 3, slot: BAD + 1, newPbn: pbnOf(BAD) })],
    ["a page that is compressed", ({ pbnOf }) => ({ operation: 1, slot: BAD + 1, newPbn: pbnOf(BAD), newState: 3 })],
    ["no page where one was made", () => ({ operation: 1, slot: BAD + 1, newPbn: 0, newState: 1 })],
    [
      "a page where one was before",
      ({ pbnOf }) => ({ operation: 1, slot: BAD + 1, newPbn: pbnOf(BAD), oldPbn: pbnOf(900), oldState: 1 }),
    ],
  ] as const satisfies readonly (readonly [string, (image: JournalImage) => HandEntry])[]
).map(([what, make]) => ({
  what: `an entry with ${what}`,
  damage: entry(BAD, make),
  recovery: "read-only",
  rebuild: without(BAD, BAD + 1),
}));

const ROWS = [...HOLES, ...SECTORS, ...HEADERS, ...ENTRY_ROWS];

/** Logical block 0 is mapped, and those of the entries in `ranges`, to where they say. */
function expectMapped(mappings: Mappings, { pbnOf }: JournalImage, ranges: Ranges): void {
  const expected = ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
  const found = [...mappings].filter(([lbn]) => lbn > 0).sort(([a], [b]) => a - b);
  expect(found).toEqual(expected.map((i) => [i + 1, [pbnOf(i), 1]]));
  expect(mappings.has(0)).toBe(true);
}

describe.each(ROWS)("a recovery journal with $what", ({ damage, recovery, rebuild }) => {
  test("is recovered as far as it counts", async () => {
    const image = await journalImage({ entries: ENTRIES });
    await damage(image);
    const result = await recovered(image.device);
    if (recovery === "read-only") {
      expect(result).toMatchObject({ mode: "read-only", state: "READ_ONLY_MODE", completeRecoveries: 0 });
      return;
    }
    expect(result).toMatchObject({ state: "CLEAN", problems: [], completeRecoveries: 1 });
    expectMapped(result.mappings, image, recovery);
  });

  test("can be read without a byte written, before it is recovered", async () => {
    const image = await journalImage({ entries: ENTRIES });
    await damage(image);
    const device = new RecordingDevice(image.device);
    const volume = await VdoVolume.open(device, { ...OPTIONS, readOnly: true });
    const block = new Uint8Array(4096);
    await volume.read(0, block);
    expect(block[0]).not.toBe(0);
    await volume.close();
    expect(writesOf(device)).toEqual([]);
  });

  test("is saved as far as it makes sense by a rebuild", async () => {
    const image = await journalImage({ entries: ENTRIES, state: VOLUME_STATE.forceRebuild });
    await damage(image);
    const result = await recovered(image.device);
    expect(result).toMatchObject({ mode: "normal", state: "CLEAN", problems: [], readOnlyRecoveries: 1 });
    expectMapped(result.mappings, image, rebuild);
  });
});

function writesOf(device: RecordingDevice): unknown[] {
  return device.log.filter(({ kind }) => !["read", "extents", "close"].includes(kind));
}

test("a journal without entries, and one without blocks, are nothing to replay", async () => {
  for (const entries of [0, PER_BLOCK]) {
    const image = await journalImage({ entries });
    if (entries > 0) {
      await image.edit(0, (bytes, view) => {
        HEADER.entryCount.set(view, 0, 0);
        bytes.fill(0, journalSectorAt(1));
      });
    }
    const result = await recovered(image.device);
    expect(result).toMatchObject({ state: "CLEAN", problems: [], completeRecoveries: 1 });
    expectMapped(result.mappings, image, []);
  }
});

test.each([30, 31, 32, 62, 64, 32 * 128 - 2])("a journal that goes around its ring from block %i", async (start) => {
  const image = await journalImage({ entries: ENTRIES, start });
  expect(journalCheckByte(start, 32)).toBeGreaterThanOrEqual(0x80);
  const result = await recovered(image.device);
  expect(result).toMatchObject({ state: "CLEAN", problems: [] });
  expectMapped(result.mappings, image, ALL);
});

test("the journal goes on behind the newest block that was seen, and older ones never count again", async () => {
  const image = await journalImage({ entries: ENTRIES });
  await image.edit(1, (bytes) => void bytes.fill(0));
  const volume = await VdoVolume.open(image.device, OPTIONS);
  await volume.write(40_000, new Uint8Array(4096).fill(7));
  await volume.flush();
  const crashed = await copyDevice(image.device);
  await volume.close();
  const result = await recovered(crashed);
  expect(result).toMatchObject({ state: "CLEAN", problems: [], completeRecoveries: 2 });
  expect([...result.mappings.keys()].filter((lbn) => lbn > 217)).toEqual([40_000]);
});

// --- the format before 8.3

/** Makes the journal one of the old format: `count` increments, in one block. */
async function oldJournal(count: number): Promise<JournalImage> {
  const image = await journalImage({ entries: count });
  await image.edit(0, (bytes, view) => {
    const checkByte = HEADER.checkByte.get(view, 0);
    bytes.fill(0, journalSectorAt(1));
    HEADER.metadataType.set(view, 0, 1);
    for (let i = 0; i < count; i++) {
      const at = oldJournalEntryAt(i);
      const scratch = new Uint8Array(32);
      writeJournalEntry(scratch, 0, 1, image.leaf, i + 1, 0, 0, 0, 0);
      bytes.set(scratch.subarray(0, 6), at);
      writeMapping(bytes, at + OLD_JOURNAL_MAPPING_AT, image.pbnOf(i), 1);
    }
    for (let s = 1; (s - 1) * 46 < count; s++) {
      const entryCount = Math.min(46, count - (s - 1) * 46);
      journalSectorHeader.set(view, journalSectorAt(s), { checkByte, recoveryCount: 0, entryCount });
    }
  });
  return image;
}

describe("a journal of the old format", () => {
  test("keeps a dirty volume from being opened, and nothing is changed", async () => {
    const { device } = await oldJournal(60);
    const recording = new RecordingDevice(device);
    await expect(VdoVolume.open(recording, OPTIONS)).rejects.toMatchObject({ code: "VDO_UNSUPPORTED_VERSION" });
    expect(writesOf(recording)).toEqual([]);
    expect((await readVolumeInfo(device)).state).toBe("DIRTY");
  });

  test("is applied to what is read from the volume, without a byte written", async () => {
    const { device, pbnOf } = await oldJournal(60);
    const block = new Uint8Array(4096).fill(0x5a);
    await device.write(pbnOf(41), block);
    const recording = new RecordingDevice(device);
    const volume = await VdoVolume.open(recording, { ...OPTIONS, readOnly: true });
    const read = new Uint8Array(4096);
    await volume.read(42, read);
    expect(Buffer.compare(read, block)).toBe(0);
    await expect(volume.write(0, block)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await volume.close();
    expect(writesOf(recording)).toEqual([]);
  });

  test("is used by a rebuild", async () => {
    const image = await oldJournal(60);
    await setForceRebuild(image.device);
    const result = await recovered(image.device);
    expect(result).toMatchObject({ state: "CLEAN", problems: [] });
    expectMapped(result.mappings, image, [[0, 60]]);
  });

  test("does no harm in a volume that was stopped cleanly", async () => {
    const image = await oldJournal(60);
    await editSuperBlock(image.device, (value) => {
      value.vdo.state = VOLUME_STATE.clean;
      value.recoveryJournal.journalStart = image.start + 1;
    });
    const result = await recovered(image.device);
    expect(result).toMatchObject({ mode: "normal", state: "CLEAN", problems: [], completeRecoveries: 0 });
    expectMapped(result.mappings, image, []);
  });
});

function setForceRebuild(device: MemoryDevice): Promise<void> {
  return editSuperBlock(device, (value) => {
    value.vdo.state = VOLUME_STATE.forceRebuild;
  });
}

test("a leaf page that was never written whole is made anew by the journal", async () => {
  const image = await journalImage({ entries: 50 });
  const [, at] = entryPlace(0);
  expect(at).toBeGreaterThan(512);
  // Logical block 0 stands in the page as it was before, which a first write that was cut short does not hold.
  const bytes = new Uint8Array(4096);
  await image.device.read(image.leaf, bytes);
  setPageInitialised(bytes, false);
  await image.device.write(image.leaf, bytes);
  const volume = await VdoVolume.open(image.device, { ...OPTIONS, readOnly: true });
  const [first] = await volume.extents(0, 1);
  expect(first).toMatchObject({ hole: true });
  await volume.close();
});
