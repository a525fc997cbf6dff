import { crc32 as zlibCrc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { crc32, crc32c } from "./crc32.ts";
import { Random } from "./random.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** CRC bit by bit, as its definition says. */
function slowly(polynomial: number, data: Uint8Array, start: number, finalXor: number): number {
  let crc = start;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
  }
  return (crc ^ finalXor) >>> 0;
}

describe("checksums", () => {
  test("of the standard's check text are the published ones", () => {
    expect(crc32(text("123456789"))).toBe(0xcbf43926);
    expect(crc32c(text("123456789"))).toBe(0xe3069283);
    expect(crc32(new Uint8Array(0))).toBe(0);
    expect(crc32c(new Uint8Array(0))).toBe(0);
  });

  test("of iSCSI's example data are those of RFC 3720, appendix B.4", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i))).toBe(0x113fdb5c);
  });

  test("start at 0 and end with 0xFFFFFFFF where the VDO format wants it", () => {
    // The start value drops out for zeros only when it is 0: what is left is the final exclusive-or.
    expect(crc32(new Uint8Array(97), 0, 0xffffffff)).toBe(0xffffffff);
    expect(crc32(text("123456789"), 0, 0xffffffff)).toBe(slowly(0xedb88320, text("123456789"), 0, 0xffffffff));
    expect(crc32(text("123456789"), 0, 0xffffffff)).not.toBe(crc32(text("123456789")));
  });

  test("agree with the definition at every length and alignment", () => {
    const random = new Random(5);
    const memory = random.fill(new Uint8Array(300));
    for (let length = 0; length <= 130; length++) {
      const data = memory.subarray(length % 9, (length % 9) + length);
      const start = random.next32();
      expect(crc32(data, start, 0)).toBe(slowly(0xedb88320, data, start, 0));
      expect(crc32c(data, start, 0)).toBe(slowly(0x82f63b78, data, start, 0));
    }
  });

  test("agree with zlib", () => {
    const data = new Random(6).fill(new Uint8Array(10_000));
    expect(crc32(data)).toBe(zlibCrc32(data));
  });
});
