/**
 * Storage that is not what it should be. Each kind of damage is either refused, with code, place and next step, or the
 * volume opens and says what it cannot read. Never a hang, a crash, or wrong data in place of an error.
 */
import { isVdoError, Random, type VdoError } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { encodeSuperBlock, PARTITION, volumeChecksum } from "../src/format/index.ts";
import { readVolumeInfo, VdoVolume, type VolumeOptions } from "../src/index.ts";
import { pagesOf, type Regions, readBlock, regionsOf } from "./support/regions.ts";
import { allSettle, settles } from "./support/settles.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./support/tiny-volume.ts";
import { workloadBlock } from "./support/workload-block.ts";

const BLOCK = 4096;
const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 3,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 200_000,
};
const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, dataVios: 64, maximumAge: 4 };
const WRITTEN = 300;

/** A cleanly stopped volume with {@link WRITTEN} unique blocks at logical block 0, and what lies where. */
async function soundVolume(): Promise<{ device: MemoryDevice; regions: Regions }> {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const volume = await VdoVolume.open(device, OPTIONS);
  await Promise.all(Array.from({ length: WRITTEN }, (_, i) => volume.write(i, workloadBlock(i))));
  await volume.close();
  return { device, regions: await regionsOf(device) };
}

async function change(device: MemoryDevice, block: number, edit: (bytes: Uint8Array) => void): Promise<void> {
  const bytes = await readBlock(device, block);
  edit(bytes);
  await device.write(block, bytes);
}

/** The error of `work`, which must be one of ours and end in time. */
async function refusal(work: Promise<unknown>): Promise<VdoError> {
  const error = await settles(
    "the refusal",
    work.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
  );
  expect(isVdoError(error), String((error as Error | undefined)?.stack)).toBe(true);
  return error as VdoError;
}

interface Refused {
  what: string;
  code: string;
  /** What the message says: the place, or the next step. */
  says: RegExp;
  damage: (device: MemoryDevice, regions: Regions) => Promise<unknown>;
}

/** Changes the super block and makes its checksum right again (it covers all before its last 4 bytes). */
async function reseal(
  device: MemoryDevice,
  { superBlock, decoded }: Regions,
  edit: (value: Regions["decoded"]) => void,
): Promise<void> {
  edit(decoded);
  await device.write(superBlock.start, encodeSuperBlock(decoded));
}

const REFUSED: Refused[] = [
  {
    what: "another magic number in the geometry block",
    code: "VDO_BAD_MAGIC",
    says: /not a VDO volume: block 0/,
    damage: (device) => change(device, 0, (bytes) => bytes.set([120], 0)),
  },
  {
    what: "a geometry block of zeros",
    code: "VDO_BAD_MAGIC",
    says: /not a VDO volume: block 0/,
    damage: (device) => device.write(0, new Uint8Array(BLOCK)),
  },
  {
    what: "a flipped bit in the geometry block",
    code: "VDO_CHECKSUM",
    says: /GeometryBlock|geometry/,
    damage: (device) =>
      change(device, 0, (bytes) => {
        bytes[40]! ^= 4;
      }),
  },
  {
    what: "an unknown version of the geometry block",
    code: "VDO_UNSUPPORTED_VERSION",
    says: /version/,
    damage: (device) =>
      change(device, 0, (bytes) => {
        bytes[12] = 9;
        const view = new DataView(bytes.buffer);
        const size = view.getUint32(20, true);
        view.setUint32(28 + size - 4 - 0, volumeChecksum(bytes.subarray(0, 28 + size - 4)), true);
      }),
  },
  {
    what: "a flipped bit in the super block",
    code: "VDO_CHECKSUM",
    says: /SuperBlock|super block/,
    damage: (device, { superBlock }) =>
      change(device, superBlock.start, (bytes) => {
        bytes[100]! ^= 1;
      }),
  },
  {
    what: "a super block of zeros",
    code: "VDO_UNSUPPORTED_VERSION",
    says: /SuperBlock|super block/,
    damage: (device, { superBlock }) => device.write(superBlock.start, new Uint8Array(BLOCK)),
  },
  {
    what: "an unknown version of the volume",
    code: "VDO_UNSUPPORTED_VERSION",
    says: /version/,
    damage: (device, regions) =>
      reseal(device, regions, (value) => {
        value.volumeVersion = { ...value.volumeVersion, major: 70 };
      }),
  },
  {
    what: "an unknown state",
    code: "VDO_CORRUPT",
    says: /state 17/,
    damage: (device, regions) =>
      reseal(device, regions, (value) => {
        value.vdo.state = 17;
      }),
  },
  {
    what: "a super block of another volume",
    code: "VDO_BAD_NONCE",
    says: /nonce/,
    damage: (device, regions) =>
      reseal(device, regions, (value) => {
        value.vdo.nonce += 1n;
      }),
  },
  {
    what: "more physical blocks in the super block than the device has",
    code: "VDO_PARAMETER_MISMATCH",
    says: /the device only \d+: part of it is missing/,
    damage: (device, regions) =>
      reseal(device, regions, (value) => {
        value.vdo.config.physicalBlocks += 1000;
        for (const partition of value.layout.partitions)
          if (partition.id === PARTITION.slabSummary) partition.count += 1000;
      }),
  },
  {
    what: "partitions that overlap",
    code: "VDO_BAD_LAYOUT",
    says: /partition/i,
    damage: (device, regions) =>
      reseal(device, regions, (value) => {
        value.layout.partitions[0]!.start -= 5;
      }),
  },
];

describe.each(REFUSED)("a volume with $what", ({ code, says, damage }) => {
  test(`is refused with ${code}, and not changed`, async () => {
    const { device, regions } = await soundVolume();
    await damage(device, regions);
    const before = await readBlock(device, regions.superBlock.start);
    const error = await refusal(VdoVolume.open(device, OPTIONS));
    expect(error.code, error.message).toBe(code);
    expect(error.message).toMatch(says);
    expect(Buffer.compare(await readBlock(device, regions.superBlock.start), before)).toBe(0);
  });
});

test.each([
  { what: "a tail offset outside the slab journal", entry: 0x40ff, says: /slab 0, slab summary: tail offset is 255/ },
  {
    what: "a dirty slab whose journal block is none",
    entry: 0xc005,
    says: /slab 0, journal tail block: metadata type/,
  },
])("a slab summary with $what: the volume comes up readable, and read-only for good", async ({ entry, says }) => {
  const { device, regions } = await soundVolume();
  await change(device, regions.summary.start, (bytes) => new DataView(bytes.buffer).setUint16(0, entry, true));
  const errors: unknown[] = [];
  const onChange: NonNullable<VolumeOptions["onChange"]> = (event) => {
    if (event.type === "readOnly") errors.push(event.error);
  };
  const volume = await VdoVolume.open(device, { ...OPTIONS, onChange });
  expect(volume.status().mode).toBe("read-only");
  expect(errors).toHaveLength(1);
  expect((errors[0] as Error).message).toMatch(says);
  expect((errors[0] as Error).message).toMatch(/vdo forceRebuild/);
  const target = new Uint8Array(BLOCK);
  for (const lbn of [0, 100, WRITTEN - 1]) {
    await volume.read(lbn, target);
    expect(Buffer.compare(target, workloadBlock(lbn))).toBe(0);
  }
  expect((await refusal(volume.write(0, target))).code).toBe("VDO_READ_ONLY");
  await settles("close", volume.close());
  expect((await readVolumeInfo(device)).state).toBe("READ_ONLY_MODE");
});

describe("a device that was cut short", () => {
  const whole = tinyBlocks(TINY);
  test.each([0, 1, 2, 1000, 679_128, 679_200, whole - 1])("to %i blocks is refused", async (blocks) => {
    const { device } = await soundVolume();
    const short = new MemoryDevice({ blockCount: blocks });
    for (const block of [0, 679_128]) if (block < blocks) await short.write(block, await readBlock(device, block));
    for (const open of [() => VdoVolume.open(short, OPTIONS), () => readVolumeInfo(short)]) {
      const error = await refusal(open());
      expect(["VDO_BAD_MAGIC", "VDO_PARAMETER_MISMATCH", "VDO_CORRUPT", "VDO_INCORRECT_COMPONENT"]).toContain(
        error.code,
      );
      expect(error.message.length).toBeGreaterThan(20);
    }
  });
});

interface Garbage {
  what: string;
  where: (device: MemoryDevice, regions: Regions) => Promise<number>;
  /** What reads of the written blocks may give. */
  reads: "right" | "error" | "right or error" | "error or zeros";
}

/** Zeros are listed where the format itself cannot tell damage from emptiness (W18 of the original). */
const GARBAGE: Garbage[] = [
  { what: "a leaf", where: async (device) => (await pagesOf(device, 0))[0]!, reads: "error or zeros" },
  { what: "an interior page", where: async (device) => (await pagesOf(device, 0))[2]!, reads: "error or zeros" },
  { what: "a root page", where: async (device) => (await pagesOf(device, 0))[4]!, reads: "right or error" },
  { what: "the last slab journal block", where: async (_, { slab }) => slab(0).journal.start + 1, reads: "right" },
  { what: "the reference counts", where: async (_, { slab }) => slab(0).counts.start, reads: "right" },
  { what: "the slab summary", where: async (_, { summary }) => summary.start, reads: "right" },
  { what: "the recovery journal", where: async (_, { journal }) => journal.start + 1, reads: "right" },
  { what: "the index", where: async (_, { index }) => index.start, reads: "right" },
];

const FILLERS: { filler: string; fill: (bytes: Uint8Array) => void }[] = [
  { filler: "random bytes", fill: (bytes) => void new Random(5).fill(bytes) },
  { filler: "ones", fill: (bytes) => void bytes.fill(0xff) },
  { filler: "random bytes behind the header", fill: (bytes) => void new Random(6).fill(bytes.subarray(64)) },
];

describe.each(GARBAGE)("garbage in $what", ({ where, reads }) => {
  test.each(FILLERS)("$filler: opens or refuses, and never gives wrong data", async ({ fill }) => {
    const { device, regions } = await soundVolume();
    await change(device, await where(device, regions), fill);
    let volume: VdoVolume;
    try {
      volume = await settles("open", VdoVolume.open(device, OPTIONS));
    } catch (error) {
      expect(isVdoError(error), String(error)).toBe(true);
      return;
    }
    const targets = Array.from({ length: WRITTEN }, () => new Uint8Array(BLOCK));
    const outcomes = await allSettle(
      "reads",
      targets.map((target, i) => volume.read(i, target)),
    );
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.status === "rejected") {
        expect(isVdoError(outcome.reason), String(outcome.reason)).toBe(true);
        expect(reads).not.toBe("right");
        continue;
      }
      const isRight = Buffer.compare(targets[i]!, workloadBlock(i)) === 0;
      const isZero = targets[i]!.every((byte) => byte === 0);
      expect(isRight || (isZero && reads === "error or zeros"), `block ${i}`).toBe(true);
    }
    // Writes go on, or are refused with a reason; and the end comes.
    const writes = Array.from({ length: 40 }, (_, i) => volume.write(i * 5, workloadBlock(9000 + i)));
    for (const outcome of await allSettle("writes", [...writes, volume.flush()])) {
      if (outcome.status === "rejected") expect(isVdoError(outcome.reason), String(outcome.reason)).toBe(true);
    }
    await settles(
      "close",
      volume.close().catch((error: unknown) => expect(isVdoError(error), String(error)).toBe(true)),
    );
  });
});

test("a full volume refuses new data and goes on with reads, zeros, discards and duplicates", async () => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const events: string[] = [];
  const volume = await VdoVolume.open(device, { ...OPTIONS, onChange: ({ type }) => void events.push(type) });
  const total = TINY.slabs * 2 ** TINY.slabBits;
  const outcomes = await allSettle(
    "the filling",
    Array.from({ length: total }, (_, i) => volume.write(i, workloadBlock(i))),
    30_000,
  );
  const refused = outcomes.flatMap((outcome, i) => (outcome.status === "rejected" ? [i] : []));
  expect(refused.length).toBeGreaterThan(0);
  for (const i of refused)
    expect((outcomes[i] as PromiseRejectedResult).reason).toMatchObject({ code: "VDO_NO_SPACE" });
  expect(events).toContain("full");
  expect(volume.statistics().errors.noSpaceErrorCount).toBeGreaterThan(0);
  expect(volume.status().mode).toBe("normal");

  const stored = outcomes.findIndex((outcome) => outcome.status === "fulfilled");
  const target = new Uint8Array(BLOCK);
  await settles("a read", volume.read(stored, target));
  expect(Buffer.compare(target, workloadBlock(stored))).toBe(0);
  await settles("a read of what was refused", volume.read(refused[0]!, target));
  expect(target.every((byte) => byte === 0)).toBe(true);
  const message = (await refusal(volume.write(stored, workloadBlock(99_999), { fua: true }))).message;
  expect(message).toMatch(/discard/);
  await settles("a read of what was to be overwritten", volume.read(stored, target));
  expect(Buffer.compare(target, workloadBlock(stored))).toBe(0);

  await settles("flush", volume.flush());
  await settles("zero write", volume.writeZeroes(stored, 1));
  await settles("discard", volume.discard(stored + 1, 1));
  await settles("flush", volume.flush());
  // Two blocks are free now: one for new data, and while it is being written its duplicates need none.
  const copies = Array.from({ length: 20 }, (_, i) =>
    volume.write(refused[0]! + (i % refused.length), workloadBlock(77_777)),
  );
  for (const outcome of await allSettle("duplicates", copies)) expect(outcome.status).toBe("fulfilled");
  await settles("close", volume.close());
  expect((await readVolumeInfo(device)).state).toBe("CLEAN");
});

test("a root page whose first write was torn is an empty one, not a damaged one", async () => {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const { roots } = await regionsOf(device);
  await change(device, roots.start, (bytes) => void bytes.fill(0x11, 512));
  const volume = await VdoVolume.open(device, OPTIONS);
  const target = new Uint8Array(BLOCK).fill(1);
  await volume.read(0, target);
  expect(target.every((byte) => byte === 0)).toBe(true);
  await volume.write(0, workloadBlock(1));
  await volume.close();
  expect((await readVolumeInfo(device)).state).toBe("CLEAN");
});
