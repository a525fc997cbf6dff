import { fromHex, isVdoError, toHex } from "@vdo/base";
import { layoutLaws } from "@vdo/base/testing";
import { describe, expect, test } from "vitest";
import {
  BITMAP_MAGIC,
  decodeBitmapTable,
  decodeExtension,
  dirtyBitmapHeader,
  encodeBitmapTable,
  encodeExtension,
  extensionElement,
  extensionHeader,
} from "./extension.ts";

for (const layout of [extensionHeader, extensionElement, dirtyBitmapHeader]) {
  layoutLaws(layout, { describe, test, snapshot: (table) => expect(table).toMatchSnapshot() });
}

const MIB = 1 << 20;
/** A bitmap in one cluster at sector 4096 of a 16 MiB image, as QEMU and ploop 9.0.30 read it. */
const TABLE = {
  sizeSectors: 32768,
  uuid: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
  granularity: 128,
  table: [4096],
};
const IMAGE = { name: "a.hds", sizeSectors: 32768, clusterSectors: 2048, fileLength: 4 * MIB };
const element = (data = encodeBitmapTable(TABLE)) => ({ magic: BITMAP_MAGIC, flags: 0n, data });

/** The field that the error of `act` names. */
function fieldOf(act: () => unknown): string {
  try {
    act();
    return "none";
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    expect(error.data.structure).toBe("a.hds");
    return error.data.field;
  }
}

describe("a format extension", () => {
  test("with a dirty bitmap is what the originals write, byte for byte", () => {
    const cluster = encodeExtension([element()], MIB) as Uint8Array;
    const expected = fromHex(`
      87ea dc23 ef4c 23ab b82e a515 e7f1 b47c 7a1d bdf0 f020 9ab6 4ab3 2c25 ae5f 3820
      0000 0000 0000 0000 2800 0000 0000 0000 0080 0000 0000 0000 0a1b 2c3d 4e5f 6071
      8293 a4b5 c6d7 e8f9 8000 0000 0100 0000 0010 0000 0000 0000`);
    expect(toHex(cluster.subarray(0, expected.length))).toBe(toHex(expected));
    const [found] = decodeExtension(cluster, "a.hds");
    expect(decodeBitmapTable(found?.data as Uint8Array, IMAGE)).toEqual(TABLE);
  });

  test("keeps several elements; what does not fit is told", () => {
    const odd = { magic: 5n, flags: 2n, data: new Uint8Array(13).fill(7) };
    const cluster = encodeExtension([odd, element()], 32768) as Uint8Array;
    expect(decodeExtension(cluster, "a.hds")).toEqual([odd, element()]);
    expect(encodeExtension([{ ...odd, data: new Uint8Array(32768) }], 32768)).toBeUndefined();
  });

  test("of which any bit is flipped is refused by name", () => {
    const cluster = encodeExtension([element()], 32768) as Uint8Array;
    for (let at = 0; at < 120; at++) {
      const bad = cluster.slice();
      bad[at] = (bad[at] as number) ^ (1 << (at & 7));
      expect(fieldOf(() => decodeExtension(bad, "a.hds"))).toBe(at < 8 ? "extension magic" : "extension checksum");
    }
    const cut = encodeExtension([{ ...element(), data: new Uint8Array(32000) }], 32768) as Uint8Array;
    expect(fieldOf(() => decodeExtension(resummed(cut.subarray(0, 4096)), "a.hds"))).toBe("extension element size");
  });

  test.each([
    ["size", { sizeSectors: 32769 }],
    ["granularity", { granularity: 96 }],
    ["table size", { table: [0, 0] }],
    ["table entry 0", { table: [2] }],
    ["table entry 0", { table: [4097] }],
    ["table entry 0", { table: [8192] }],
  ])("whose bitmap has a wrong %s is refused by that name", (field, change) => {
    expect(fieldOf(() => decodeBitmapTable(encodeBitmapTable({ ...TABLE, ...change }), IMAGE))).toBe(
      `dirty bitmap ${field}`,
    );
  });

  test("whose bitmap has no table, as ploop 9.0.30 writes an empty one, is all zeros", () => {
    const data = encodeBitmapTable({ ...TABLE, table: [] });
    expect(decodeBitmapTable(data, IMAGE).table).toEqual([0]);
    expect(fieldOf(() => decodeBitmapTable(data.subarray(0, 31), IMAGE))).toBe("dirty bitmap element size");
    const huge = encodeBitmapTable({ ...TABLE, table: [0] });
    huge.fill(0xff, 0, 8);
    expect(fieldOf(() => decodeBitmapTable(huge, IMAGE))).toBe("dirty bitmap sizeSectors");
  });
});

/** The same bytes with the checksum that the error asks for. */
function resummed(cluster: Uint8Array): Uint8Array {
  const copy = cluster.slice();
  try {
    decodeExtension(copy, "a.hds");
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    copy.set(fromHex(String(error.data.expected)), 8);
  }
  return copy;
}
