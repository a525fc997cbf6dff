import { createHash } from "node:crypto";
import { isVdoError, toHex } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import { FORMAT_NONCE, FORMAT_SETS, FORMAT_UUID } from "../../test/support/format-sets.ts";
import { decodeGeometryBlock } from "../format/index.ts";
import { format } from "./format.ts";
import { planFormat } from "./format-plan.ts";
import { readVolumeInfo, setVolumeUuid } from "./volume-info.ts";

/** The smallest volume, and the options for it. */
const SMALLEST = 720213;
const small = { slabBits: 13, nonce: FORMAT_NONCE, uuid: FORMAT_UUID };

async function readBlock(device: BlockDevice, block: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(4096);
  await device.read(block, bytes);
  return bytes;
}

const hash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

test.each(FORMAT_SETS)("$name has the geometry block and super block of vdoformat", async (set) => {
  const device = new MemoryDevice({ blockCount: set.physicalBlocks });
  const { slabBits, indexMemory, sparse, logicalSize } = set;
  const options = { slabBits, indexMemory, sparse, logicalSize };
  const report = await format(device, { ...options, nonce: FORMAT_NONCE, uuid: FORMAT_UUID });
  expect(report).toMatchObject({
    logicalBlocks: set.logicalBlocks,
    slabCount: set.slabCount,
    slabBlocks: 2 ** slabBits,
  });
  expect(report).toMatchObject(planFormat(set.physicalBlocks, options));
  expect(hash(await readBlock(device, 0))).toBe(set.geometryHash);
  expect(hash(await readBlock(device, set.indexBlocks + 1))).toBe(set.superHash);
  const info = await readVolumeInfo(device);
  expect(info).toMatchObject({
    state: "NEW",
    nonce: FORMAT_NONCE,
    uuid: FORMAT_UUID,
    physicalBlocks: set.physicalBlocks,
    logicalBlocks: set.logicalBlocks,
    slabBlocks: 2 ** slabBits,
    slabCount: set.slabCount,
    indexMemory,
    indexSparse: sparse,
    indexBlocks: set.indexBlocks,
  });
});

test("exactly the blocks that vdoformat touches are touched", async () => {
  const device = new RecordingDevice(new MemoryDevice({ blockCount: SMALLEST + 5 }));
  await format(device, { ...small, physicalBlocks: SMALLEST, force: true });
  const changes = device.log.filter(({ kind }) => kind === "write" || kind === "zero" || kind === "flush");
  expect(changes.map(({ kind, start, count }) => [kind, start, count])).toEqual([
    ["zero", 1, 1],
    ["zero", 0, 1],
    ["flush", 0, 0],
    ["zero", 679129, 60],
    ["zero", SMALLEST - 32832, 32768],
    ["write", 679128, 1],
    ["flush", 0, 0],
    ["write", 0, 1],
    ["flush", 0, 0],
  ]);
});

test("old content goes where the format needs zeros, and stays everywhere else", async () => {
  const device = new MemoryDevice({ blockCount: SMALLEST });
  const filler = new Uint8Array(4096).fill(0x77);
  const old = [
    0,
    1,
    2,
    679127,
    679128,
    679129,
    679188,
    679189,
    687380,
    687381,
    SMALLEST - 65,
    SMALLEST - 64,
    SMALLEST - 1,
  ];
  for (const block of old) await device.write(block, filler);
  await format(device, { ...small, force: true });
  const kept: number[] = [];
  for (const block of old) if ((await readBlock(device, block))[9] === 0x77) kept.push(block);
  expect(kept).toEqual([2, 679127, 679189, 687380, SMALLEST - 64, SMALLEST - 1]);
  for (const block of [1, 679129, 679188, 687381, SMALLEST - 65]) {
    expect(
      (await readBlock(device, block)).every((byte) => byte === 0),
      `block ${block}`,
    ).toBe(true);
  }
});

const REFUSED: [string, object, number, string, object][] = [
  ["slab bits 12", { slabBits: 12 }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "slabBits" }],
  ["slab bits 24", { slabBits: 24 }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "slabBits" }],
  ["slab bits 13.5", { slabBits: 13.5 }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "slabBits" }],
  ["index memory 0.3", { indexMemory: 0.3 }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "indexMemory" }],
  ["index memory 1025", { indexMemory: 1025 }, SMALLEST, "VDO_BAD_ARGUMENT", { value: 1025 }],
  ["a logical size of 10 bytes", { logicalSize: 10 }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "logicalSize" }],
  ["a negative logical size", { logicalSize: -4096 }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "logicalSize" }],
  ["5 PiB logical", { logicalSize: 5 * 2 ** 50 }, SMALLEST, "VDO_SIZE_LIMIT", { limit: 2 ** 52 }],
  ["more blocks than there are", { physicalBlocks: SMALLEST + 1 }, SMALLEST, "VDO_BAD_ARGUMENT", {}],
  ["a nonce of 65 bits", { nonce: 1n << 64n }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "nonce" }],
  ["a negative nonce", { nonce: -1n }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "nonce" }],
  ["a UUID of 15 bytes", { uuid: new Uint8Array(15) }, SMALLEST, "VDO_BAD_ARGUMENT", { argument: "uuid" }],
  ["one block too few", {}, SMALLEST - 1, "VDO_DEVICE_TOO_SMALL", { minimumBlocks: SMALLEST, indexBlocks: 679127 }],
  ["no block at all", {}, 0, "VDO_DEVICE_TOO_SMALL", { physicalBlocks: 0 }],
  ["a few blocks", {}, 3, "VDO_DEVICE_TOO_SMALL", { physicalBlocks: 3 }],
  ["an index larger than the device", { indexMemory: 1 }, 2097152, "VDO_DEVICE_TOO_SMALL", { indexBlocks: 2732747 }],
  ["too many slabs", {}, 679127 + 62 + 32832 + 8193 * 8192, "VDO_TOO_MANY_SLABS", { slabCount: 8193 }],
  ["257 TiB", { slabBits: 23 }, 257 * 2 ** 28, "VDO_SIZE_LIMIT", { limit: 2 ** 48 }],
];

test.each(REFUSED)("%s is refused before the first write", async (_, options, blockCount, code, facts) => {
  const device = new RecordingDevice(new MemoryDevice({ blockCount }));
  const error: unknown = await format(device, { ...small, ...options }).catch((reason: unknown) => reason);
  if (!isVdoError(error)) throw error;
  expect(error.code).toBe(code);
  expect(error.data).toMatchObject(facts);
  expect(device.log.filter(({ kind }) => kind !== "read")).toEqual([]);
});

test("what is on the device is named and kept, unless forced", async () => {
  const device = new RecordingDevice(new MemoryDevice({ blockCount: SMALLEST }));
  await format(device, small);
  device.log.length = 0;
  const error: unknown = await format(device, { slabBits: 13 }).catch((reason: unknown) => reason);
  if (!isVdoError(error, "VDO_SIGNATURE_FOUND")) throw error;
  expect(error.data.signatures).toEqual([
    { type: "vdo", usage: "other", offset: 0, uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f" },
  ]);
  expect(device.log.every(({ kind }) => kind === "read")).toBe(true);
  await format(device, { ...small, nonce: 7n, force: true });
  expect((await readVolumeInfo(device)).nonce).toBe(7n);
});

test("a read-only device is refused", async () => {
  const device = new MemoryDevice({ blockCount: SMALLEST });
  const readOnly: BlockDevice = Object.assign(Object.create(device) as BlockDevice, { readOnly: true });
  await expect(format(readOnly, small)).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
});

test("a format that fails at any write or flush leaves no volume behind", async () => {
  for (const operation of ["write", "flush"] as const) {
    const steps = operation === "write" ? 6 : 3;
    for (let after = 0; after < steps; after++) {
      const disk = new MemoryDevice({ blockCount: SMALLEST });
      await format(disk, small);
      const device = new FaultyDevice(disk, [{ operation, after }]);
      await expect(format(device, { ...small, nonce: 9n, force: true })).rejects.toMatchObject({ code: "VDO_IO" });
      const info = await readVolumeInfo(disk).catch(() => undefined);
      // Before block 0 was zeroed the old volume is still there; after the geometry was written the new one is.
      const expected = operation === "flush" ? [undefined, undefined, 9n] : [FORMAT_NONCE, FORMAT_NONCE];
      expect(info?.nonce, `${operation} ${after}`).toBe(expected[after]);
    }
  }
});

test("a device that does not keep what is written is noticed", async () => {
  const disk = new MemoryDevice({ blockCount: SMALLEST });
  const forgetful: BlockDevice = Object.assign(Object.create(disk) as BlockDevice, {
    write: async (): Promise<void> => {},
    read: (start: number, target: Uint8Array) => disk.read(start, target),
    flush: () => disk.flush(),
    writeZeroes: (start: number, count: number) => disk.writeZeroes(start, count),
  });
  await expect(format(forgetful, small)).rejects.toMatchObject({ code: "VDO_CORRUPT" });
});

test("blocks of 512 bytes make the same volume; a rest of the last block is not used", async () => {
  const device = new MemoryDevice({ blockCount: SMALLEST * 8 + 7, blockSize: 512 });
  const report = await format(device, small);
  expect(report.physicalBlocks).toBe(SMALLEST);
  const geometry = new Uint8Array(4096);
  await device.read(0, geometry);
  expect(decodeGeometryBlock(geometry).dataStart).toBe(679128);
  expect((await readVolumeInfo(device)).slabCount).toBe(1);
  await expect(format(new MemoryDevice({ blockCount: SMALLEST, blockSize: 8192 }), small)).rejects.toMatchObject({
    code: "VDO_BAD_ARGUMENT",
  });
});

test("nonce and UUID come from the clock and from chance when they are not given", async () => {
  const clock = { now: () => 0, wallMicroseconds: () => 1_795_000_000_000_000, after: () => () => {} };
  const one = await format(new MemoryDevice({ blockCount: SMALLEST }), { slabBits: 13, clock });
  const other = await format(new MemoryDevice({ blockCount: SMALLEST }), { slabBits: 13, clock });
  expect(one.nonce).toBe(1_795_000_000_000_000n);
  expect(toHex(one.uuid)).toMatch(/^.{12}4.{3}[89ab].{15}$/);
  expect(toHex(one.uuid)).not.toBe(toHex(other.uuid));
});

test("the UUID can be changed, and nothing else changes with it", async () => {
  const device = new MemoryDevice({ blockCount: SMALLEST });
  await format(device, small);
  const before = await readVolumeInfo(device);
  const uuid = new Uint8Array(16).fill(0xab);
  await setVolumeUuid(device, uuid);
  const after = await readVolumeInfo(device);
  expect(after).toEqual({ ...before, uuid, geometry: { ...before.geometry, uuid } });
  await expect(setVolumeUuid(device, new Uint8Array(4))).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
});
