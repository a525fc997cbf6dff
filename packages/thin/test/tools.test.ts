import { isVdoError } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import {
  check,
  delta,
  dump,
  formatDelta,
  formatReverseMap,
  isHealthy,
  ls,
  metadataBytes,
  parseRegion,
  reverseMap,
  trim,
} from "../src/index.ts";
import { mergeRuns } from "../src/tools/delta.ts";
import { goldenDevice, goldenMetadata, goldenXml, lifeMetadata, lifeXml, textOf } from "./support/golden.ts";

describe("the kernel's pool", () => {
  test("is dumped byte for byte as thin_dump does", async () => {
    expect(await textOf(dump(goldenDevice()))).toBe(goldenXml);
  });

  test("with internal nodes and shared ones is dumped and healthy too", async () => {
    const device = MemoryDevice.from(lifeMetadata());
    expect(await textOf(dump(device))).toBe(lifeXml);
    expect((await check(device)).problems).toEqual([]);
    const snapshot = await check(device, { metadataSnapshot: true });
    expect(snapshot.problems).toEqual([]);
  });

  test("is read from a device with 512-byte blocks as well", async () => {
    const device = MemoryDevice.from(goldenMetadata(), 512);
    expect(await textOf(dump(device))).toBe(goldenXml);
  });

  test("is healthy", async () => {
    const report = await check(goldenDevice());
    expect(report.problems).toEqual([]);
    expect(isHealthy(report)).toBe(true);
    expect(report.superblock?.transactionId).toBe(5n);
  });

  test("shows its metadata snapshot, without the last write", async () => {
    const text = await textOf(dump(goldenDevice(), { metadataSnapshot: true, devices: [2] }));
    expect(text).toContain('nr_data_blocks="0"');
    expect(text).not.toContain('origin_begin="300"');
    expect(await textOf(dump(goldenDevice(), { metadataSnapshot: 56, devices: [2] }))).toBe(text);
    await expect(textOf(dump(goldenDevice(), { metadataSnapshot: 57 }))).rejects.toThrow(/at block 56/);
  });

  test("is listed as thin_ls does", async () => {
    expect(await ls(goldenDevice())).toBe(
      [
        "DEV  MAPPED CREATE_TIME SNAP_TIME ",
        "  0 8192KiB           0         1 ",
        "  1 7936KiB           1         2 ",
        "  2    9MiB           2         2 ",
        "",
      ].join("\n"),
    );
    const fields = ["DEV", "MAPPED_BLOCKS", "EXCLUSIVE_BLOCKS", "SHARED_BYTES", "SHARED", "TRANSACTION"];
    const snapshot = { fields, noHeaders: true, metadataSnapshot: true };
    expect(await ls(goldenDevice(), snapshot)).toBe(
      "0 128 32 6291456 6144KiB 0 \n1 124  2 7995392 7808KiB 0 \n2 128  0 8388608 8192KiB 0 \n",
    );
    await expect(ls(goldenDevice(), { fields: ["FOO"] })).rejects.toThrow(/Unknown field: FOO/);
  });

  test("is mapped back as thin_rmap does", async () => {
    expect(formatReverseMap(await reverseMap(goldenDevice(), [parseRegion("120..161")]))).toBe(
      [
        "data 120..128 -> thin(0) 120..128",
        "data 120..128 -> thin(1) 120..128",
        "data 120..128 -> thin(2) 120..128",
        "data 128..160 -> thin(0) 16..48",
        "data 160..161 -> thin(1) 6..7",
        "",
      ].join("\n"),
    );
    expect(() => parseRegion("5")).toThrow(/5\.\.45/);
    expect(() => parseRegion("9..9")).toThrow();
  });

  test("has differences as thin_delta finds them", async () => {
    const text = formatDelta(await delta(goldenDevice(), { left: 0, right: 2 }));
    expect(text).toBe(
      [
        '<superblock uuid="" time="2" transaction="5" data_block_size="128" nr_data_blocks="2048" metadata_snap="56">',
        '  <diff left="0" right="2">',
        '    <same begin="0" length="16"/>',
        '    <different begin="16" length="32"/>',
        '    <same begin="48" length="80"/>',
        '    <right_only begin="300" length="16"/>',
        "  </diff>",
        "</superblock>",
        "",
      ].join("\n"),
    );
    const unknown = delta(goldenDevice(), { left: 0, right: 77 });
    await expect(unknown).rejects.toSatisfy((error) => isVdoError(error, "VDO_THIN_NOT_FOUND"));
  });

  test("has its free data blocks trimmed, and no others", async () => {
    const data = new MemoryDevice({ blockCount: 2048 * 16 });
    const ones = new Uint8Array(65536).fill(1);
    for (let block = 0; block < 200; block++) await data.write(block * 16, ones);
    // 178 of 2048 blocks are in use, 0 to 180 but for three.
    expect(await trim(goldenDevice(), data)).toBe(2048 - 178);
    const target = new Uint8Array(65536);
    await data.read(180 * 16, target);
    expect(target[0]).toBe(1);
    await data.read(181 * 16, target);
    expect(target[0]).toBe(0);
    const small = new MemoryDevice({ blockCount: 100 });
    await expect(trim(goldenDevice(), small)).rejects.toThrow(/wanted 134217728 bytes/);
  });
});

describe("a delta", () => {
  test("agrees with a comparison block by block", () => {
    const left = [
      { begin: 0, data: 0, length: 5, time: 0 },
      { begin: 5, data: 300, length: 5, time: 0 },
      { begin: 20, data: 50, length: 10, time: 0 },
    ];
    const right = [
      { begin: 2, data: 2, length: 6, time: 0 },
      { begin: 18, data: 48, length: 5, time: 0 },
      { begin: 40, data: 1, length: 1, time: 0 },
    ];
    expect(mergeRuns(left, right).map(({ kind, begin, length }) => `${kind} ${begin} ${length}`)).toEqual([
      "left_only 0 2",
      "same 2 3",
      "different 5 3",
      "left_only 8 2",
      "right_only 18 2",
      "same 20 3",
      "left_only 23 7",
      "right_only 40 1",
    ]);
  });
});

describe("the size of metadata", () => {
  test("is estimated as thin_metadata_size does", () => {
    const size = metadataBytes({ blockBytes: 65536, poolBytes: 2 ** 40, thins: 1000 });
    expect(size / 512).toBe(1_073_224);
    expect(metadataBytes({ blockBytes: 65536, poolBytes: 2 ** 50, thins: 1 }) / 4096).toBe(4_161_600);
    expect(() => metadataBytes({ blockBytes: 65000, poolBytes: 2 ** 40, thins: 1 })).toThrow(/multiple of 64 KiB/);
    expect(() => metadataBytes({ blockBytes: 65536, poolBytes: 1, thins: 1 })).toThrow(/at least one block/);
  });
});
