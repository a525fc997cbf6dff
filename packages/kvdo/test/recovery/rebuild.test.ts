/** The read-only rebuild of damaged block maps: what makes no sense is reported first and erased then, all else is kept. */
import type { MemoryDevice } from "@vdo/block-device";
import { MemoryDevice as Memory } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { mappingAt, readMappingPbn, writeMapping } from "../../src/format/index.ts";
import { forceRebuild, type RebuildReport, readVolumeInfo, setReadOnly, VdoVolume } from "../../src/index.ts";
import { audit } from "../support/audit.ts";
import { copyDevice, editBlock } from "../support/crash-copy.ts";
import { OPTIONS } from "../support/journal-image.ts";
import { recovered, scrubbed } from "../support/recovered.ts";
import { pagesOf, type Regions, regionsOf } from "../support/regions.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../support/tiny-volume.ts";
import { workloadBlock } from "../support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 11,
  slabs: 3,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 60_000,
};
/** Logical blocks 0 to 399 in one leaf; 812 × i for others, each with its own leaf in its own tree. */
const DENSE = 400;
const LEAVES = 6;
const sparse = (i: number): number => (i + 1) * 812 + 3;
/** The last logical block, which is not the last one of its leaf. */
const LAST = TINY.logicalBlocks - 1;
/** Some compressible, some the same as others. */
const content = (lbn: number): Uint8Array => workloadBlock(lbn % 90, lbn % 3 === 0 ? 600 : 4096);

interface Damaged {
  device: MemoryDevice;
  regions: Regions;
  /** Pages that lead to logical block 0, by height; the leaf first. */
  pages: number[];
  /** Data block of logical block 1. */
  data: number;
  /** Changes entries of the page of logical block 0 at `height`. */
  put: (height: number, slot: number, pbn: number, state: number) => Promise<void>;
}

let sound: Promise<MemoryDevice> | undefined;

async function image(): Promise<Damaged> {
  sound ??= (async () => {
    const made = new Memory({ blockCount: tinyBlocks(TINY) });
    await formatTiny(made, TINY);
    const volume = await VdoVolume.open(made, OPTIONS);
    for (let lbn = 0; lbn < DENSE; lbn++) await volume.write(lbn, content(lbn));
    for (let i = 0; i < LEAVES; i++) await volume.write(sparse(i), content(sparse(i)));
    await volume.writeZeroes(500, 10);
    await volume.write(LAST, content(LAST));
    await volume.close();
    await setReadOnly(made);
    return made;
  })();
  const device = await copyDevice(await sound);
  const pages = await pagesOf(device, 0);
  const leaf = new Uint8Array(4096);
  await device.read(pages[0] as number, leaf);
  return {
    ...{ device, pages, regions: await regionsOf(device), data: readMappingPbn(leaf, mappingAt(1)) },
    put: (height, slot, pbn, state) =>
      editBlock(device, pages[height] as number, (bytes) => writeMapping(bytes, mappingAt(slot), pbn, state)),
  };
}

/** Mappings in all. */
const MAPPED = DENSE + LEAVES + 10 + 1;

interface Row {
  what: string;
  damage: (damaged: Damaged) => Promise<unknown>;
  report: Partial<RebuildReport>;
  /** Logical blocks that are gone. */
  gone?: readonly number[];
}

const LEAF_ROWS: Row[] = (
  [
    ["unmapped with a block", ({ data }) => [data, 0]],
    ["compressed without a block", () => [0, 7]],
    ["of a block beyond the volume", () => [2 ** 33, 1]],
    ["of a block below the slabs", () => [100, 1]],
    ["of a slab's reference counts", ({ regions }) => [regions.slab(1).counts.start, 1]],
    ["of a slab's journal", ({ regions }) => [regions.slab(0).journal.start + 1, 3]],
    ["of a page of the block map", ({ pages }) => [pages[1] as number, 1]],
    ["of the leaf itself", ({ pages }) => [pages[0] as number, 4]],
  ] as const satisfies readonly (readonly [string, (damaged: Damaged) => readonly [number, number]])[]
).map(([what, make]) => ({
  what: `a leaf entry ${what}`,
  damage: (damaged) => damaged.put(0, 7, ...make(damaged)),
  report: { erasedMappings: 1, erasedPages: 0, lostPages: 0, logicalBlocksUsed: MAPPED - 1 },
  gone: [7],
}));

const INTERIOR_ROWS: Row[] = (
  [
    ["of a block beyond the volume", () => [2 ** 33, 1]],
    ["of zeros", () => [0, 1]],
    ["of a slab's reference counts", ({ regions }) => [regions.slab(2).counts.start, 1]],
    ["that is compressed", ({ regions }) => [regions.slab(2).data.start + 9, 5]],
    ["of a page that another entry names", ({ pages }) => [pages[0] as number, 1]],
    ["of the page above it", ({ pages }) => [pages[2] as number, 1]],
    ["that is unmapped with a block", ({ data }) => [data, 0]],
  ] as const satisfies readonly (readonly [string, (damaged: Damaged) => readonly [number, number]])[]
).map(([what, make]) => ({
  what: `an interior entry ${what}`,
  // Slot 1 leads to leaf 60, which exists in no volume of this size without a page.
  damage: (damaged) => damaged.put(1, 1, ...make(damaged)),
  report: { erasedPages: 1, erasedMappings: 0, lostPages: 0, logicalBlocksUsed: MAPPED },
}));

const PAGE_ROWS: Row[] = [
  { what: "nothing at all", damage: async () => undefined, report: { logicalBlocksUsed: MAPPED, samples: [] } },
  {
    what: "a leaf that is another page",
    damage: ({ device, pages }) =>
      editBlock(device, pages[0] as number, (bytes) => new DataView(bytes.buffer).setUint32(16, 12_345, true)),
    report: { lostPages: 1, logicalBlocksUsed: LEAVES + 1 },
    gone: Array.from({ length: 510 }, (_, lbn) => lbn),
  },
  {
    what: "a leaf of zeros",
    damage: ({ device, pages }) => editBlock(device, pages[0] as number, (bytes) => bytes.fill(0)),
    report: { lostPages: 0, logicalBlocksUsed: LEAVES + 1 },
    gone: Array.from({ length: 510 }, (_, lbn) => lbn),
  },
  {
    what: "a mapping beyond the logical size",
    damage: ({ device, data }) => overrun(device, data),
    report: { erasedMappings: 1, logicalBlocksUsed: MAPPED },
  },
  {
    what: "more references than a block can have",
    damage: async ({ put, data }) => {
      for (let slot = 100; slot < 400; slot++) await put(0, slot, data, 1);
    },
    report: { lostPages: 0, erasedPages: 0 },
    gone: Array.from({ length: 300 }, (_, i) => 100 + i),
  },
];

/** Maps the logical block behind the last one. */
async function overrun(device: MemoryDevice, data: number): Promise<void> {
  const [leaf = 0] = await pagesOf(device, LAST);
  const slot = TINY.logicalBlocks % 812;
  await editBlock(device, leaf, (bytes) => writeMapping(bytes, mappingAt(slot), data, 1));
}

describe.each([...LEAF_ROWS, ...INTERIOR_ROWS, ...PAGE_ROWS])(
  "a block map with $what",
  ({ damage, report, gone = [] }) => {
    test("is reported first and rebuilt then", async () => {
      const damaged = await image();
      await damage(damaged);
      const { device } = damaged;
      const recording = new RecordingDevice(device);
      const planned = await forceRebuild(recording, { dryRun: true });
      expect(planned).toMatchObject(report);
      expect(recording.log.filter(({ kind }) => ["write", "zero", "discard"].includes(kind))).toEqual([]);
      expect(await forceRebuild(device)).toEqual(planned);
      const result = await recovered(device);
      expect(result).toMatchObject({ mode: "normal", state: "CLEAN", problems: [], readOnlyRecoveries: 1 });
      expect(result.mappings.size).toBe(planned.logicalBlocksUsed);
      const volume = await VdoVolume.open(device, OPTIONS);
      const block = new Uint8Array(4096);
      for (let lbn = 0; lbn < DENSE; lbn++) {
        await volume.read(lbn, block);
        if (gone.includes(lbn)) continue;
        expect(Buffer.compare(block, content(lbn)), `logical block ${lbn}`).toBe(0);
      }
      await volume.discard(0, TINY.logicalBlocks);
      await volume.flush();
      expect(volume.statistics()).toMatchObject({ dataBlocksUsed: 0, logicalBlocksUsed: 0, mode: "normal" });
      await volume.close();
      expect((await audit(device)).problems).toEqual([]);
    });
  },
);

test("a page that cannot be read is lost with what it maps, and told so", async () => {
  const { device, pages } = await image();
  const faulty = new FaultyDevice(device);
  const leaf = pages[0] as number;
  faulty.add({ operation: "read", blocks: { start: leaf, count: 1 } });
  const report = await forceRebuild(faulty);
  expect(report).toMatchObject({ lostPages: 1, logicalBlocksUsed: LEAVES + 1 });
  expect(report.samples[0]).toContain(`block map page ${leaf}`);
  const volume = await VdoVolume.open(faulty, OPTIONS);
  expect(volume.status().mode).toBe("normal");
  const block = new Uint8Array(4096);
  for (let i = 0; i < LEAVES; i++) {
    await volume.read(sparse(i), block);
    expect(Buffer.compare(block, content(sparse(i)))).toBe(0);
  }
  await volume.close();
});

test("rebuilt again and again, with new data, crashes and recoveries in between", async () => {
  const { device: first } = await image();
  let device = first;
  const expected = new Map<number, Uint8Array>(Array.from({ length: DENSE }, (_, lbn) => [lbn, content(lbn)]));
  for (let round = 1; round <= 3; round++) {
    await forceRebuild(device);
    let volume = await VdoVolume.open(device, OPTIONS);
    expect(volume.statistics().readOnlyRecoveries).toBe(round);
    for (let lbn = 1000 * round; lbn < 1000 * round + 100; lbn++) {
      await volume.write(lbn, content(lbn));
      expected.set(lbn, content(lbn));
    }
    await volume.flush();
    device = await copyDevice(device);
    await volume.close();
    volume = await VdoVolume.open(device, OPTIONS);
    await scrubbed(volume);
    const block = new Uint8Array(4096);
    for (const [lbn, data] of expected) {
      await volume.read(lbn, block);
      expect(Buffer.compare(block, data), `round ${round}, logical block ${lbn}`).toBe(0);
    }
    await volume.close();
    expect((await audit(device)).problems).toEqual([]);
    await setReadOnly(device);
    expect((await readVolumeInfo(device)).state).toBe("READ_ONLY_MODE");
  }
});
