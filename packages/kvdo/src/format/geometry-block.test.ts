import { firstDifference, fromHex, isVdoError, toHex } from "@vdo/base";
import { expect, test } from "vitest";
import { goldenBlock } from "../../test/support/golden.ts";
import { volumeChecksum } from "./checksum.ts";
import { decodeGeometryBlock, encodeGeometryBlock, geometryBlock, geometryBlock4 } from "./geometry-block.ts";

const UUID = fromHex("000102030405060708090a0b0c0d0e0f");
/** The same volume in version 5.0, as vdoformat 8.3 wrote it, and in version 4.0, which the kernel accepted. */
const FULL = fromHex(`646d76646f303031050000000500000000000000650000000000000000000000
  efcdab8967452301000102030405060708090a0b0c0d0e0f0000000000000000
  00000000010000000000000001000000d85c0a000000000000ffffff000000000084a87715`);
const OLD = fromHex(`646d76646f3030310500000004000000000000005d0000000000000000000000
  efcdab8967452301000102030405060708090a0b0c0d0e0f0000000001000000
  0000000001000000d85c0a000000000000ffffff000000000029f0be18`);

function block(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(4096);
  whole.set(bytes);
  return whole;
}

test.each([
  ["5.0", FULL, 5],
  ["4.0", OLD, 4],
] as const)("a geometry block of version %s is read and written byte for byte", (_, bytes, version) => {
  const geometry = decodeGeometryBlock(block(bytes));
  expect(geometry).toEqual({
    version,
    releaseNumber: 0,
    nonce: 0x0123456789abcdefn,
    uuid: UUID,
    bioOffset: 0,
    indexStart: 1,
    dataStart: 679128,
    index: { memory: -256, unused: 0, sparse: 0 },
  });
  expect(firstDifference(encodeGeometryBlock(geometry), block(bytes))).toBe(-1);
});

test("the kernel's geometry block is read and written byte for byte", () => {
  const golden = goldenBlock("geometry-block");
  const geometry = decodeGeometryBlock(golden);
  expect(geometry.dataStart).toBe(679128);
  expect(geometry.index).toEqual({ memory: -256, unused: 0, sparse: 0 });
  expect(firstDifference(encodeGeometryBlock(geometry), golden)).toBe(-1);
});

test.each([
  [FULL, geometryBlock.size],
  [OLD, geometryBlock4.size],
])("a geometry block with any one bit flipped is refused", (bytes, size) => {
  for (let bit = 0; bit < size * 8; bit++) {
    const damaged = block(bytes);
    damaged[bit >> 3] = damaged[bit >> 3]! ^ (1 << (bit & 7));
    expect(() => decodeGeometryBlock(damaged), `bit ${bit}`).toThrow();
  }
});

/** Changes a word, and makes the checksum right again. */
function altered(at: number, value: number, size: number = geometryBlock.size): Uint8Array {
  const bytes = block(FULL);
  const view = new DataView(bytes.buffer);
  view.setUint32(at, value, true);
  view.setUint32(size - 4, volumeChecksum(bytes.subarray(0, size - 4)), true);
  return bytes;
}

test.each([
  ["magic", altered(4, 0x32303030), "VDO_BAD_MAGIC", "magic"],
  ["id", altered(8, 6), "VDO_INCORRECT_COMPONENT", "id"],
  ["major version above", altered(12, 6), "VDO_UNSUPPORTED_VERSION", "version"],
  ["major version below", altered(12, 3), "VDO_UNSUPPORTED_VERSION", "version"],
  ["minor version", altered(16, 1), "VDO_UNSUPPORTED_VERSION", "version"],
  ["size", altered(20, 102), "VDO_UNSUPPORTED_VERSION", "size"],
  ["checksum", block(FULL).fill(0, 97, 101), "VDO_CHECKSUM", "checksum"],
  ["length", FULL.subarray(0, 90), "VDO_CORRUPT", "length"],
] as const)("a wrong %s is refused by its own code, with what was expected and found", (_, bytes, code, field) => {
  try {
    decodeGeometryBlock(bytes);
    expect.unreachable();
  } catch (error) {
    if (!isVdoError(error, code)) throw error;
    expect(error.data).toMatchObject({ structure: "GeometryBlock", field });
    expect(error.data.expected).not.toEqual(error.data.actual);
  }
});

test("the magic is checked before everything else, then id, version, size, checksum", () => {
  const bytes = new Uint8Array(4096).fill(0xa5);
  const refusals: string[] = [];
  const attempt = (): void => {
    try {
      decodeGeometryBlock(bytes);
    } catch (error) {
      refusals.push((error as Error & { code: string }).code);
    }
  };
  for (const [at, count] of [
    [0, 0],
    [0, 8],
    [8, 4],
    [12, 8],
    [20, 8],
  ] as const) {
    bytes.set(FULL.subarray(at, at + count), at);
    attempt();
  }
  expect(refusals).toEqual([
    "VDO_BAD_MAGIC",
    "VDO_INCORRECT_COMPONENT",
    "VDO_UNSUPPORTED_VERSION",
    "VDO_UNSUPPORTED_VERSION",
    "VDO_CHECKSUM",
  ]);
});

test("the checksum of the format is CRC-32 from 0: known values", () => {
  expect(volumeChecksum(new Uint8Array(0))).toBe(0xffffffff);
  expect(volumeChecksum(new Uint8Array(4096))).toBe(0xffffffff);
  expect(volumeChecksum(Uint8Array.of(0xff))).toBe(0xd2fd1072);
  expect(volumeChecksum(Buffer.from("123456789"))).toBe(0xd202d277);
  expect(toHex(FULL.subarray(97))).toBe("84a87715");
});
