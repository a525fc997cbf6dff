import { toHex } from "@vdo/base";
import { expect, test } from "vitest";
import { loadRecordNamer } from "./index.ts";

test("record names are XXH64 with two seeds, the same for the same block and into any array", async () => {
  const recordName = await loadRecordNamer();
  expect(await loadRecordNamer()).toBe(recordName);
  // XXH64 of no bytes with seed 0 is ef46db3751d8e999 (the reference's vector).
  expect(toHex(recordName(new Uint8Array(0))).slice(0, 16)).toBe("ef46db3751d8e999");
  const block = new Uint8Array(4096).fill(3);
  const target = new Uint8Array(40);
  recordName(block, target.subarray(8, 24));
  expect(toHex(target.subarray(8, 24))).toBe(toHex(recordName(block)));
  expect(toHex(recordName(block))).not.toBe(toHex(recordName(block.fill(4, 0, 1))));
});
