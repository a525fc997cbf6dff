import { VdoError } from "@vdo/base";
import { describe, expect, test } from "vitest";
import * as values from "./values.ts";

type Case = [check: (text: string) => unknown, text: string, expected: unknown];

const GOOD: Case[] = [
  [values.integer(1, 100), "+5", 5],
  [values.integer(1, 100), " 5", 5],
  [values.integer(1, 100), "1_0", 10],
  [values.blockMapCacheSize, "128M", 134217728],
  [values.blockMapCacheSize, "1.5G", 1610612736],
  [values.maxDiscardSize, "5000B", 4096],
  [values.maxDiscardSize, "4k", 4096],
  [values.logicalSize, "10000000B", 9764 * 1024],
  [values.logicalSize, "4096T", 4503599627370496],
  [values.logicalSize, "0", 0],
  [values.slabSize, "128M", 134217728],
  [values.slabSize, "32G", 34359738368],
  [values.indexMemory, "0,5", 0.5],
  [values.indexMemory, "0.25", 0.25],
  [values.indexMemory, "1024", 1024],
  [values.uuid, "{1C5D5E9A-7E0E-4D4E-8D0B-6A3F1C7D9A10}", "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10"],
  [values.uuid, "urn:uuid:1c5d5e9a7e0e4d4e8d0b6a3f1c7d9a10", "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10"],
  [values.uuid, "", ""],
  [values.volumeName, "a.b#c+d:e@f_g-h", "a.b#c+d:e@f_g-h"],
  [values.volumeName, "", ""],
  [values.absolutePath, "/dev/sdb", "/dev/sdb"],
];

const BAD: [check: (text: string) => unknown, text: string, message: string][] = [
  [values.integer(0, 16), "17", "must be an integer at least 0 and less than or equal to 16"],
  [values.integer(0, 16), "0x1", "must be an integer at least 0 and less than or equal to 16"],
  [values.integer(0, 16), "1.0", "must be an integer at least 0 and less than or equal to 16"],
  [values.integer(0, 16), "1__0", "must be an integer at least 0 and less than or equal to 16"],
  [values.integer(0, 16), "", "must be an integer at least 0 and less than or equal to 16"],
  [values.blockMapCacheSize, "127M", "must be at least 128M and less than 16T"],
  [values.blockMapCacheSize, "16T", "must be at least 128M and less than 16T"],
  [values.blockMapCacheSize, "400000s", "must be an SI-style size string"],
  [values.maxDiscardSize, "", "must be an SI-style size string"],
  [values.maxDiscardSize, "4G", "must be at least 4K and less than 4G"],
  [values.maxDiscardSize, "4095B", "must be at least 4K and less than 4G"],
  [values.logicalSize, "4097T", "must be less than or equal to 4P"],
  [values.logicalSize, "ten", "must be an LVM-style size string"],
  [values.slabSize, "3G", "must be a power of two between 128M and 32G"],
  [values.slabSize, "64M", "must be a power of two between 128M and 32G"],
  [
    values.indexMemory,
    "0.50",
    "must be an integer at least 1 and less than or equal to 1024 or one of the special values of 0.25, 0.5, or 0.75",
  ],
  [values.uuid, "1c5d5e9a", "must be a valid UUID or empty string"],
  [values.volumeName, "a b", "VDO device names may only contain characters in 'A-Za-z0-9#+.:@_-': bad value 'a b'"],
  [values.volumeName, "../x", "VDO device names may only contain characters in 'A-Za-z0-9#+.:@_-': bad value '../x'"],
  [values.volumeName, "-x", "VDO device names may not start with '-': bad value '-x'"],
  [values.volumeName, "..", "VDO device names may not be '.', '..' or '.s': bad value '..'"],
  [values.absolutePath, "sdb", "must be an absolute pathname"],
];

describe("option values", () => {
  test.each(GOOD)("%o takes %j", (check, text, expected) => expect(check(text)).toBe(expected));

  test.each(BAD)("%o refuses %j with the legacy text", (check, text, message) => {
    expect(() => check(text)).toThrowError(
      new VdoError("VDO_BAD_ARGUMENT", message, { argument: "value", value: text }),
    );
  });

  test("a UUID survives the way to bytes and back", () => {
    const text = "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10";
    expect(values.uuidText(values.uuidBytes(text))).toBe(text);
    expect(values.uuidText(values.uuidBytes(""))).not.toBe(values.uuidText(values.uuidBytes("")));
  });
});
