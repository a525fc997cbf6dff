import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseSize, renderFormatterSize, renderSize, toBlocks, toSectors } from "./size.ts";

/** Vectors of the legacy manager, run in locale C. */
const VECTORS: readonly [text: string, bytes: bigint, rendered: string, sectors: bigint, blocks: bigint][] = [
  ["1", 1048576n, "1M", 2048n, 256n],
  ["1.5G", 1610612736n, "1536M", 3145728n, 393216n],
  ["0.5k", 512n, "512B", 1n, 0n],
  ["10s", 5120n, "5K", 10n, 1n],
  ["1000B", 1000n, "1000B", 2n, 0n],
  ["4096T", 4503599627370496n, "4P", 8796093022208n, 1099511627776n],
  ["0", 0n, "0M", 0n, 0n],
  ["1e3", 1048576000n, "1000M", 2048000n, 256000n],
  ["1 g", 1073741824n, "1G", 2097152n, 262144n],
  ["1025K", 1049600n, "1025K", 2050n, 256n],
  ["5.1G", 5476083302n, "5476083302B", 10695476n, 1336934n],
  ["1E", 2n ** 60n, "1E", 2n ** 51n, 2n ** 48n],
  ["2e", 2n ** 61n, "2E", 2n ** 52n, 2n ** 49n],
];

describe("size strings", () => {
  test.each(VECTORS)("%s is what the legacy manager makes of it", (text, bytes, rendered, sectors, blocks) => {
    expect(parseSize(text, "LVM")).toBe(bytes);
    expect(renderSize(bytes)).toBe(rendered);
    expect(toSectors(bytes)).toBe(sectors);
    expect(toBlocks(bytes)).toBe(blocks);
  });

  test.each(["0x10", "1,5G", "1Z", "1.5.2", "-1", "", " ", ".", "inf", "nan", "G", "1e99G", "--", "1 2"])(
    "%j is refused",
    (text) => {
      expect(parseSize(text, "LVM")).toBeUndefined();
      expect(parseSize(text, "SI")).toBeUndefined();
    },
  );

  test("sectors belong to the LVM set only", () => {
    expect(parseSize("8s", "LVM")).toBe(4096n);
    expect(parseSize("8s", "SI")).toBeUndefined();
  });

  test("what is rendered parses to the same number of bytes", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 62n }), (bytes) => parseSize(renderSize(bytes), "LVM") === bytes),
    );
  });

  test.each([
    [512, "512 B"],
    [2 * 1024 ** 3, "2.00 GB"],
    [169 * 32 * 1024 ** 2, "5.28 GB"],
    [16 * 1024 ** 4, "16.00 TB"],
    [128 * 1024 ** 2, "128.00 MB"],
  ])("the formatter prints %d bytes as %s", (bytes, text) => expect(renderFormatterSize(bytes)).toBe(text));
});
