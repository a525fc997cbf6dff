/** The audit finds nothing on sound volumes, and each thing that is wrong on others; it writes nothing and never fails to end. */
import { isVdoError, Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { RecordingDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { mappingAt, summaryEntryAt, writeMapping } from "../src/format/index.ts";
import { auditVolume, VdoVolume, type VolumeAudit } from "../src/index.ts";
import { copyDevice, editBlock } from "./support/crash-copy.ts";
import { editSuperBlock, journalImage, OPTIONS, TINY } from "./support/journal-image.ts";
import { pagesOf, type Regions, regionsOf } from "./support/regions.ts";
import { formatTiny, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const WRITTEN = 600;
let sound: Promise<MemoryDevice> | undefined;

/** A volume that was stopped cleanly, with duplicates, fragments, zeros and trimmed blocks. */
async function image(): Promise<MemoryDevice> {
  sound ??= (async () => {
    const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
    await formatTiny(device, TINY);
    const volume = await VdoVolume.open(device, OPTIONS);
    for (let lbn = 0; lbn < WRITTEN; lbn++) {
      await volume.write(lbn, workloadBlock(lbn % 500, lbn % 3 === 0 ? 500 : 4096));
    }
    await volume.writeZeroes(10, 5);
    await volume.discard(20, 30);
    await volume.close();
    return device;
  })();
  return copyDevice(await sound);
}

interface Place {
  device: MemoryDevice;
  regions: Regions;
  pages: number[];
}

const setCount =
  (sbn: number, change: (count: number) => number) =>
  ({ device, regions }: Place): Promise<void> =>
    editBlock(device, regions.slab(0).counts.start, (bytes) => {
      const at = Math.floor(sbn / 504) * 512 + 8 + (sbn % 504);
      bytes[at] = change(bytes[at] as number);
    });
const put =
  (height: number, slot: number, make: (place: Place) => readonly [pbn: number, state: number]) =>
  (place: Place): Promise<void> =>
    editBlock(place.device, place.pages[height] as number, (bytes) =>
      writeMapping(bytes, mappingAt(slot), ...make(place)),
    );

interface Row {
  what: string;
  damage: (place: Place) => Promise<void>;
  found: Partial<VolumeAudit>;
  problem: RegExp;
}

const ROWS: Row[] = [
  {
    what: "a count that is too high",
    damage: setCount(100, (count) => count + 1),
    found: { exitStatus: 1, countErrors: 1, errorSlabs: 1, hintErrors: 0, ownProblems: [] },
    problem: /^Reference mismatch for pbn \d+: Block map had \d but slab 0 had \d$/,
  },
  {
    what: "a count of a page",
    damage: setCount(1, () => 9),
    found: { exitStatus: 1, countErrors: 1 },
    problem: /^Reference mismatch for tree page pbn/,
  },
  {
    what: "a hint",
    damage: ({ device, regions }) =>
      editBlock(device, regions.summary.start, (bytes) => {
        bytes[summaryEntryAt(0) + 1] = ((bytes[1] ?? 0) & 0xc0) | 1;
      }),
    found: { exitStatus: 1, hintErrors: 1, countErrors: 0 },
    problem: /^Slab summary reports roughly 32 free blocks in slab 0, instead of \d+ blocks$/,
  },
  {
    what: "the total of logical blocks",
    damage: ({ device }) => editSuperBlock(device, ({ recoveryJournal }) => void recoveryJournal.logicalBlocksUsed++),
    found: { exitStatus: 1, countErrors: 0 },
    problem: /^Logical block count mismatch! Expected 571, got 570$/,
  },
  {
    what: "the total of pages",
    damage: ({ device }) => editSuperBlock(device, ({ recoveryJournal }) => void recoveryJournal.blockMapDataBlocks++),
    found: { exitStatus: 0, countErrors: 0 },
    problem: /^the super block counts 5 block map pages, there are 4$/,
  },
  {
    what: "a mapping that makes no sense",
    damage: put(0, 3, () => [2 ** 33, 1]),
    found: { exitStatus: 1, mappingErrors: 1 },
    problem: /\(height 0\) refers to out-of-range physical block \(PBN 8589934592\)$/,
  },
  {
    what: "an interior entry that makes no sense",
    damage: put(2, 3, ({ regions }) => [regions.slab(1).journal.start, 1]),
    found: { exitStatus: 1, mappingErrors: 1 },
    problem: /\(height 2\) refers to slab metadata block/,
  },
  {
    what: "pages that refer to each other",
    damage: async (place) => {
      for (let slot = 1; slot < 40; slot++) {
        for (const height of [2, 1]) await put(height, slot, ({ pages }) => [pages[height] as number, 1])(place);
      }
    },
    found: { exitStatus: 1 },
    problem: /refers to previously referenced tree page/,
  },
  {
    what: "a page that is another one",
    damage: ({ device, pages }) => editBlock(device, pages[0] as number, (bytes) => void bytes.set([1], 17)),
    found: { exitStatus: 1 },
    problem: /of height 0 is another page$/,
  },
  {
    what: "a slab journal that is not where the summary says",
    damage: ({ device, regions }) =>
      editBlock(device, regions.summary.start, (bytes) => {
        bytes[summaryEntryAt(0)] = 6;
      }),
    found: { exitStatus: 0 },
    problem: /^slab 0: the newest block of its journal is not where the summary says$/,
  },
  {
    what: "counts newer than their journal",
    damage: ({ device, regions }) =>
      editBlock(device, regions.slab(0).counts.start, (bytes) => {
        bytes[6] = 9;
      }),
    found: { exitStatus: 0 },
    problem: /^slab 0: reference block 0 is newer than the slab's journal$/,
  },
  {
    what: "a journal that goes on after the clean stop",
    damage: ({ device }) =>
      editSuperBlock(device, ({ recoveryJournal }) => {
        recoveryJournal.journalStart = 1;
      }),
    found: { exitStatus: 0 },
    problem: /^recovery journal block \d+ is there, and the journal begins at 1$/,
  },
];

test("a sound volume has no problems, and the audit writes nothing", async () => {
  const device = new RecordingDevice(await image());
  const audit = await auditVolume(device, { name: "v0" });
  expect(audit).toMatchObject({ state: "CLEAN", exitStatus: 0, problems: [], notes: [], ownProblems: [] });
  expect(audit.logicalBlocks).toEqual({ stated: WRITTEN - 30, counted: WRITTEN - 30 });
  expect(audit.pages).toEqual({ stated: 4, counted: 4 });
  expect(audit.lines).toEqual([
    { stream: "error", text: "vdoaudit: Logical block count matched at 570" },
    { stream: "error", text: "vdoaudit: All pbn references matched." },
    { stream: "error", text: "" },
  ]);
  expect(device.of("write")).toEqual([]);
});

describe.each(ROWS)("an audit of a volume with $what damaged", ({ damage, found, problem }) => {
  test("says so", async () => {
    const device = await image();
    await damage({ device, regions: await regionsOf(device), pages: await pagesOf(device, 0) });
    const audit = await auditVolume(device);
    expect(audit).toMatchObject(found);
    expect(
      audit.problems.some((text) => problem.test(text)),
      audit.problems.join("\n"),
    ).toBe(true);
    expect(audit.problems.length).toBeLessThanOrEqual(500);
  });
});

test("a dirty volume is audited as it stands, without its journal", async () => {
  const { device } = await journalImage({ entries: 100 });
  const audit = await auditVolume(device);
  expect(audit).toMatchObject({ state: "DIRTY", exitStatus: 0, logicalBlocks: { counted: 1 } });
  expect(audit.lines[0]?.text).toBe("vdoaudit: WARNING: The VDO was not cleanly shut down (it has state 'DIRTY')");
});

test("metadata damaged at random is found, harmless, or refused: never more than that", async () => {
  const base = await image();
  const { superBlock, roots, slabs, summary } = await regionsOf(base);
  const parts = [superBlock, roots, { start: slabs.start, count: 8 }, summary];
  for (let seed = 0; seed < 150; seed++) {
    const random = new Random(seed);
    const device = await copyDevice(base);
    for (let i = 0; i <= random.below(6); i++) {
      const part = random.pick(parts);
      await editBlock(device, part.start + random.below(part.count), (bytes) => {
        const at = random.below(4096);
        const length = random.pick([1, 1, 8, 512]);
        random.fill(bytes.subarray(at, at + length));
      });
    }
    const outcome = await auditVolume(device, { verbose: seed % 2 === 0 }).catch((error: unknown) => error);
    if (outcome instanceof Error) expect(isVdoError(outcome), `seed ${seed}: ${outcome.stack}`).toBe(true);
    else expect((outcome as VolumeAudit).state).toBeTypeOf("string");
  }
});
