import { toHex } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { pbns } from "../../test/support/arbitraries.ts";
import { isValidMapping, readMappingPbn, readMappingState, writeMapping } from "./mapping.ts";

const states = fc.integer({ min: 0, max: 15 });

test("every block number and state survives writing and reading, and nothing beside them is touched", () => {
  fc.assert(
    fc.property(pbns, states, fc.integer({ min: 0, max: 7 }), (pbn, state, at) => {
      const bytes = new Uint8Array(12).fill(0xee);
      writeMapping(bytes, at, pbn, state);
      expect([readMappingPbn(bytes, at), readMappingState(bytes, at)]).toEqual([pbn, state]);
      bytes.fill(0xee, at, at + 5);
      expect(bytes.every((byte) => byte === 0xee)).toBe(true);
    }),
  );
});

test("any five bytes survive reading and writing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 5, maxLength: 5 }), (bytes) => {
      const copy = new Uint8Array(5);
      writeMapping(copy, 0, readMappingPbn(bytes, 0), readMappingState(bytes, 0));
      expect(toHex(copy)).toBe(toHex(bytes));
    }),
  );
});

/** Entries of real volumes, the last two of one of 17 TiB. */
test.each([
  [679533, 1, "016d5e0a00"],
  [679406, 15, "0fee5d0a00"],
  [0, 1, "0100000000"],
  [0, 0, "0000000000"],
  [0x10d8e6bfd, 1, "11fd6b8e0d"],
  [0x10d8e6ba6, 15, "1fa66b8e0d"],
])("block %i in state %i is %s", (pbn, state, hex) => {
  const bytes = new Uint8Array(5);
  writeMapping(bytes, 0, pbn, state);
  expect(toHex(bytes)).toBe(hex);
});

test("block 0 has state 0 or 1, any other block a state above 0", () => {
  for (let state = 0; state < 16; state++) {
    expect(isValidMapping(0, state)).toBe(state <= 1);
    for (const pbn of [1, 2 ** 32, 2 ** 36 - 1]) expect(isValidMapping(pbn, state)).toBe(state >= 1);
  }
});
