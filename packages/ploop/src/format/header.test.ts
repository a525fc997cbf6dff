import { fromHex, isVdoError, toHex, viewOf } from "@vdo/base";
import { layoutLaws } from "@vdo/base/testing";
import { describe, expect, test } from "vitest";
import { imageHeader, newHeader, readHeader, SECTOR } from "./header.ts";

layoutLaws(imageHeader, { describe, test, snapshot: (table) => expect(table).toMatchSnapshot() });

const K = 2;
const M = 2048;
const G = 1024 * M;
const T = 1024 * G;

/** Size and cluster asked for; heads, cylinders, entries, size, first block, as ploop 9.0.30 writes them. */
const TABLE = [
  [64 * K, 64, 4, 1, 2, 128, 64],
  [10, 2048, 16, 4, 1, 2048, 2048],
  [8176 * K, 64, 16, 32, 256, 16384, 64],
  [33000, 64, 8, 129, 516, 33024, 64],
  [33000, 2048, 16, 68, 17, 34816, 2048],
  [16 * M, 64, 16, 64, 512, 32768, 64],
  [16 * M, 2048, 16, 64, 16, 32768, 2048],
  [255 * M, 64, 16, 1020, 8160, 522240, 64],
  [256 * M, 64, 16, 1024, 8192, 524288, 128],
  [261100 * K, 2048, 16, 1020, 255, 522240, 2048],
  [500 * M, 2048, 16, 2000, 500, 1024000, 2048],
  [504 * M, 2048, 16, 1024, 504, 1032192, 2048],
  [1040384, 2048, 16, 1032, 508, 1040384, 2048],
  [G, 512, 16, 2080, 4096, 2097152, 512],
  [G, 2048, 16, 2080, 1024, 2097152, 2048],
  [G, 131072, 16, 2080, 16, 2097152, 131072],
  [7 * G, 2048, 16, 14563, 7168, 14680064, 2048],
  [8 * G, 2048, 16, 32768, 8192, 16777216, 2048],
  [10 * G, 2048, 16, 40960, 10240, 20971520, 2048],
  [262128 * M, 2048, 16, 1048512, 262128, 536838144, 2048],
  [262129 * M, 2048, 16, 1048516, 262129, 536840192, 4096],
  [300 * G, 64, 16, 1228800, 9830400, 629145600, 76864],
  [T, 2048, 16, 4194304, 1048576, 2147483648, 10240],
  [4 * T, 2048, 16, 16777216, 4194304, 8589934592, 34816],
  [50 * T, 2048, 16, 209715200, 52428800, 107374182400, 411648],
] as const;

describe("a new header", () => {
  test.each(TABLE)(
    "of %i sectors, clusters of %i, is the original's",
    (size, cluster, heads, cylinders, n, rounded, first) => {
      const header = newHeader({ version: 2, sizeSectors: size, clusterSectors: cluster });
      expect(header).toMatchObject({ heads, cylinders, clusterCount: n, sizeSectors: rounded, firstBlock: first });
      expect(header).toMatchObject({ type: 2, inUse: 0, flags: 1, extensionOffset: 0 });
      expect(readHeader(imageHeader.encode(header), "image")).toEqual(header);
    },
  );

  test("of version 1, 16 MiB, and of version 2, 4 TiB, is the original's byte for byte", () => {
    const small = newHeader({ version: 1, sizeSectors: 16 * M, clusterSectors: 2048 });
    expect(toHex(imageHeader.encode(small))).toBe(
      toHex(
        fromHex(`5769 7468 6f75 7446 7265 6553 7061 6365 0200 0000 1000 0000 4000 0000 0008 0000
                 1000 0000 0080 0000 0000 0000 0000 0000 0008 0000 0100 0000 0000 0000 0000 0000`),
      ),
    );
    const large = newHeader({ version: 2, sizeSectors: 4 * T, clusterSectors: 2048 });
    expect(toHex(imageHeader.encode(large))).toBe(
      toHex(
        fromHex(`5769 7468 6f75 4672 6553 7061 6345 7874 0200 0000 1000 0000 0000 0001 0008 0000
                 0000 4000 0000 0000 0200 0000 0000 0000 0088 0000 0100 0000 0000 0000 0000 0000`),
      ),
    );
  });

  test.each([
    [{ clusterSectors: 32 }, "clusterSectors"],
    [{ clusterSectors: 3000 }, "clusterSectors"],
    [{ clusterSectors: 262144 }, "clusterSectors"],
    [{ sizeSectors: 0 }, "sizeSectors"],
    [{ sizeSectors: 1.5 }, "sizeSectors"],
    [{ version: 1 as const, sizeSectors: 2 * T }, "sizeSectors"],
    [{ sizeSectors: 2 ** 38, clusterSectors: 64 }, "sizeSectors"],
    [{ version: 3 as never }, "version"],
  ])("with %o is refused", (change, argument) => {
    const make = (): unknown => newHeader({ version: 2, sizeSectors: 16 * M, clusterSectors: 2048, ...change });
    expect(make).toThrow(
      expect.objectContaining({ code: "VDO_BAD_ARGUMENT", data: expect.objectContaining({ argument }) }),
    );
  });
});

describe("a header read", () => {
  const good = (version: 1 | 2): Uint8Array =>
    imageHeader.encode(newHeader({ version, sizeSectors: 16 * M, clusterSectors: 2048 }));

  test.each([
    ["signature", 0, 0],
    ["type", 16, 3],
    ["cluster size", 28, 252],
    ["cluster size", 28, 0],
    ["cluster size", 28, 262144],
    ["BAT size", 32, 0],
    ["first block offset", 32, 0x7fffffff],
    ["disk size", 36, 32769],
    ["disk size", 36, 30720],
    ["sizeSectors", 40, 0xffffffff],
    ["first block offset", 48, 0],
    ["first block offset", 48, 4096],
    ["first block offset", 48, 2049],
    ["extensionOffset", 60, 0xffffffff],
  ])("with a wrong %s (word at %i) is refused by that name", (field, offset, value) => {
    const bytes = good(2);
    viewOf(bytes).setUint32(offset, value, true);
    try {
      readHeader(bytes, "a.hds");
      expect.unreachable();
    } catch (error) {
      expect(isVdoError(error, "VDO_CORRUPT") && error.data).toMatchObject({ structure: "a.hds", field });
    }
  });

  test("of version 1 has 32 bits of size: the others hold anything", () => {
    const bytes = good(1);
    viewOf(bytes).setUint32(40, 0xdeadbeef, true);
    expect(readHeader(bytes, "a").sizeSectors * SECTOR).toBe(16 * 1024 * 1024);
  });

  test("that is too short is refused", () => {
    expect(() => readHeader(new Uint8Array(63), "a")).toThrow(expect.objectContaining({ code: "VDO_CORRUPT" }));
  });
});
