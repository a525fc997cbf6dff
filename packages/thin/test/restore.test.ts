import { firstDifference, Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { check, clearNeedsCheck, dump, fixLeaks, repair, restore, ThinPool } from "../src/index.ts";
import { Surgery } from "./support/damage.ts";
import { goldenXml, lifeMetadata, lifeXml, textOf } from "./support/golden.ts";

/** The text in pieces of 1 to 200 characters. */
async function* piecesOf(text: string): AsyncGenerator<string> {
  const random = new Random(1);
  for (let at = 0; at < text.length; ) {
    const length = 1 + random.below(200);
    yield text.slice(at, at + length);
    at += length;
  }
}

describe("a restored pool", () => {
  test.each([
    ["thin", goldenXml],
    ["life", lifeXml],
  ])("is clean and has the same dump: %s", async (_name, xml) => {
    const output = MemoryDevice.from(new Random(1).fill(new Uint8Array(1024 * 4096)));
    await restore(piecesOf(xml), output);
    expect((await check(output)).problems).toEqual([]);
    expect(await textOf(dump(output))).toBe(xml);
    const data = new MemoryDevice({ blockCount: 5120 * 16 });
    const pool = await ThinPool.open({ metadata: output, data, blockSectors: 128 });
    await pool.createSnapshot(500, 0);
    await pool.close();
    expect((await check(output)).problems).toEqual([]);
  });

  test("has the figures it was told, where they raise those of the dump", async () => {
    const output = new MemoryDevice({ blockCount: 1024 });
    await restore(piecesOf(goldenXml), output, { transactionId: 77n, dataBlocks: 9000 });
    expect(await textOf(dump(output))).toContain(
      'transaction="77" flags="0" version="2" data_block_size="128" nr_data_blocks="9000"',
    );
    await restore(piecesOf(goldenXml), output, { transactionId: 1n, dataBlocks: 1 });
    expect(await textOf(dump(output))).toBe(goldenXml);
  });

  test.each([
    ["", "ends before"],
    ["<superblock", "ends before"],
    ['<pool uuid=""/>', "unknown tag type <pool>"],
    [goldenXml.replace("</superblock>", ""), "ends before"],
    [goldenXml.replace(' time="2"', ""), "superblock has no time"],
    [goldenXml.replace('dev_id="1"', 'dev_id="0"'), "device 0 comes after device 0"],
    [goldenXml.replace('origin_begin="48"', 'origin_begin="47"'), "block 47 comes after block 47"],
    [goldenXml.replace('data_begin="128"', 'data_begin="2040"'), "block out of bounds"],
    [goldenXml.replace('length="32"', 'length="x"'), "is not a number"],
    [goldenXml.replace('data_block_size="128"', 'data_block_size="100"'), "Invalid block size"],
    [goldenXml.replace("<device", "<def name='1'/><device"), "unknown tag type <def>"],
  ])("is not made of what is no dump (%#)", async (xml, text) => {
    const output = new MemoryDevice({ blockCount: 1024 });
    await expect(restore(piecesOf(xml), output)).rejects.toThrow(text);
    const report = await check(output);
    expect(report.superblock).toBeUndefined();
  });

  test("does not fit on a device that is too small", async () => {
    const small = new MemoryDevice({ blockCount: 12 });
    await expect(restore(piecesOf(lifeXml), small)).rejects.toThrow();
  });
});

describe("a repair", () => {
  test("of space maps loses nothing", async () => {
    const on = await Surgery.begin();
    on.flip(on.at.dataBitmap);
    on.flip(on.at.metadataIndex);
    const output = new MemoryDevice({ blockCount: 2048 });
    const report = await repair(MemoryDevice.from(on.image), output);
    expect(report.lost).toEqual([]);
    expect(await textOf(dump(output))).toBe(lifeXml);
    expect((await check(output)).problems).toEqual([]);
  });

  test("of a lost leaf keeps the devices and says what is gone", async () => {
    const on = await Surgery.begin();
    on.flip(on.at.leaves[3] as number);
    const output = new MemoryDevice({ blockCount: 2048 });
    const report = await repair(MemoryDevice.from(on.image), output);
    expect(report.devices).toEqual([0, 1, 2, 3, 4, 5, 10, 11]);
    expect(report.lost.map(({ tree, begin, end }) => `${tree} ${begin} ${end}`)).toEqual([
      "mappings of device 10 744 870",
      "mappings of device 11 744 870",
    ]);
    expect((await check(output)).problems).toEqual([]);
  });

  test("gives devices without details back with all their mappings", async () => {
    const on = await Surgery.begin();
    on.flip(on.at.details);
    const output = new MemoryDevice({ blockCount: 2048 });
    await repair(MemoryDevice.from(on.image), output);
    expect((await check(output)).problems).toEqual([]);
    expect(await textOf(dump(output))).toContain('dev_id="11" mapped_blocks="1100"');
  });

  test("of the present roots refuses what has no readable superblock or devices", async () => {
    const output = new MemoryDevice({ blockCount: 2048 });
    const blank = MemoryDevice.from(lifeMetadata().fill(0, 0, 4096));
    await expect(repair(blank, output, { roots: "present" })).rejects.toThrow(/superblock/);
    const on = await Surgery.begin();
    on.flip(on.at.mappings);
    const present = repair(MemoryDevice.from(on.image), output, { roots: "present" });
    await expect(present).rejects.toThrow(/no device can be read/);
  });
});

describe("in place", () => {
  test("leaks are freed, and nothing else is touched", async () => {
    const on = await Surgery.begin();
    on.count(on.at.dataBitmap, 5000, 1);
    on.count(on.at.metadataBitmap, 1500, 1);
    const device = MemoryDevice.from(on.image);
    expect(await fixLeaks(device, await check(device))).toBe(2);
    expect((await check(device)).problems).toEqual([]);
    const image = new Uint8Array(2048 * 4096);
    await device.read(0, image);
    expect(firstDifference(image, lifeMetadata())).toBe(-1);
  });

  test("needs_check is cleared where the check found nothing", async () => {
    const on = await Surgery.begin();
    on.superblock((view, at) => at.flags.set(view, 0, 1));
    const device = MemoryDevice.from(on.image);
    await clearNeedsCheck(device, await check(device));
    const image = new Uint8Array(2048 * 4096);
    await device.read(0, image);
    expect(firstDifference(image, lifeMetadata())).toBe(-1);
    on.count(on.at.dataBitmap, 8, 2);
    const damaged = MemoryDevice.from(on.image);
    await expect(clearNeedsCheck(damaged, await check(damaged))).rejects.toThrow(/not put right in place/);
    await expect(fixLeaks(damaged, await check(damaged))).rejects.toThrow(/vdo thin repair/);
  });
});
