import { describe, expect, test } from "vitest";
import { toHex } from "./bytes.ts";
import {
  array,
  ascii,
  bytes,
  getU64,
  setU64,
  struct,
  u8,
  u16be,
  u16le,
  u32be,
  u32le,
  u64be,
  u64beBig,
  u64le,
  u64leBig,
  viewOf,
} from "./layout.ts";
import { layoutLaws, layoutTable } from "./testing/layout-laws.ts";

const inner = struct("Inner", 3, { small: u8, pair: u16be });
const everything = struct("Everything", 69, {
  tag: ascii(4),
  one: u8,
  two: u16le,
  twoBig: u16be,
  four: u32le,
  fourBig: u32be,
  count: u64le,
  countBig: u64be,
  nonce: u64leBig,
  nonceBig: u64beBig,
  raw: bytes(5),
  inner,
  list: array(inner, 4),
});

const snapshot = (table: string): void => {
  expect(table).toMatchInlineSnapshot(`
    "Everything: 69 bytes
         0      4  ascii[4]         tag
         4      1  u8               one
         5      2  u16le            two
         7      2  u16be            twoBig
         9      4  u32le            four
        13      4  u32be            fourBig
        17      8  u64le            count
        25      8  u64be            countBig
        33      8  u64le (opaque)   nonce
        41      8  u64be (opaque)   nonceBig
        49      5  bytes[5]         raw
        54      3  Inner            inner
        57     12  Inner[4]         list"
  `);
};
layoutLaws(everything, { describe, test, snapshot });
layoutLaws(inner, { describe, test });

describe("a layout", () => {
  test("stores values where and how it says", () => {
    const value = struct("Numbers", 15, { a: u8, b: u16le, c: u32be, d: u64le }).encode({
      a: 1,
      b: 0x0203,
      c: 0x04050607,
      d: 0x0809_0a0b_0c0d,
    });
    expect(toHex(value)).toBe("01" + "0302" + "04050607" + "0d0c0b0a09080000");
  });

  test("whose fields do not add up is a bug, found when it is declared", () => {
    expect(() => struct("Wrong", 4, { a: u8, b: u16le })).toThrow("add up");
  });

  test("refuses counts above 2^53 - 1, reading and writing", () => {
    const counts = struct("Counts", 8, { count: u64le });
    const most = Number.MAX_SAFE_INTEGER;
    expect(counts.decode(counts.encode({ count: most })).count).toBe(most);
    expect(() => counts.decode(Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0))).toThrow("2^53 - 1");
    for (const count of [-1, 0.5, 2 ** 53, Number.NaN]) {
      expect(() => counts.encode({ count })).toThrow(expect.objectContaining({ code: "VDO_CORRUPT" }));
    }
  });

  test("reads 64-bit numbers of either byte order at every boundary of the halves", () => {
    const view = viewOf(new Uint8Array(8));
    for (const value of [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x1_ffff_ffff, Number.MAX_SAFE_INTEGER]) {
      for (const little of [true, false]) {
        setU64(view, 0, value, little);
        expect(view.getBigUint64(0, little)).toBe(BigInt(value));
        expect(getU64(view, 0, little)).toBe(value);
      }
    }
  });

  test("refuses values of the wrong length", () => {
    const fields = struct("Fixed", 6, { text: ascii(2), raw: bytes(2), list: array(u8, 2) });
    const good = { text: "ab", raw: Uint8Array.of(1, 2), list: [3, 4] };
    expect(() => fields.encode({ ...good, text: "abc" })).toThrow(expect.objectContaining({ code: "VDO_INVARIANT" }));
    expect(() => fields.encode({ ...good, raw: new Uint8Array(3) })).toThrow();
    expect(() => fields.encode({ ...good, list: [1] })).toThrow();
  });

  test("has a printable table", () => {
    expect(layoutTable(inner)).toBe(
      "Inner: 3 bytes\n     0      1  u8               small\n     1      2  u16be            pair",
    );
  });
});

describe("layout laws", () => {
  test("catch a field that loses bits and one that overlaps its neighbour", () => {
    const lossy = { ...u8, set: (view: DataView, at: number, value: number) => view.setUint8(at, value & 0x7f) };
    const spilling = { ...u8, set: (view: DataView, at: number, value: number) => view.setUint16(at, value << 8) };
    for (const broken of [lossy, spilling]) {
      const failures: string[] = [];
      layoutLaws(struct("Broken", 2, { first: broken, second: u8 }), {
        describe: (_, body) => body(),
        test: (name, body) => {
          try {
            body();
          } catch {
            failures.push(name);
          }
        },
      });
      expect(failures.length).toBeGreaterThan(0);
    }
  });
});
