import { firstDifference, isVdoError, Random } from "@vdo/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeLz4 } from "../../test/support/lz4-reference.ts";
import { workloadBlock } from "../../test/support/workload-block.ts";
import { BlockCompressor } from "./block-compressor.ts";

const compressor = new BlockCompressor();

/** A block of runs, repeats and noise in a mixture that the seed chooses. */
function mixedBlock(seed: number): Uint8Array {
  const random = new Random(seed);
  const block = new Uint8Array(4096);
  for (let at = 0; at < 4096; ) {
    const length = Math.min(1 + random.below(1 << random.below(10)), 4096 - at);
    const kind = random.below(3);
    if (kind === 0) random.fill(block.subarray(at, at + length));
    else if (kind === 1 || at === 0) block.fill(random.below(256), at, at + length);
    else {
      const distance = 1 + random.below(Math.min(at, 1 << random.below(12)));
      for (let i = at; i < at + length; i++) block[i] = block[i - distance]!;
    }
    at += length;
  }
  return block;
}

test("what was compressed is restored, by the fast decoder and by the plain one", () => {
  const target = new Uint8Array(4200);
  const restored = new Uint8Array(4096);
  for (let seed = 0; seed < 400; seed++) {
    const block = mixedBlock(seed);
    const size = compressor.compress(block, target, 77);
    if (size === 0) continue;
    compressor.decompress(target, 77, size, restored);
    expect(firstDifference(restored, block), `seed ${seed}`).toBe(-1);
    expect(firstDifference(decodeLz4(target.subarray(77, 77 + size), 4096)!, block), `seed ${seed}`).toBe(-1);
  }
});

test("workload blocks compress so well that 3, or 14, of them share a block; noise does not compress", () => {
  const target = new Uint8Array(4096);
  for (let n = 1; n <= 300; n++) {
    expect(compressor.compress(workloadBlock(n), target, 0)).toBe(0);
    expect(Math.floor(4060 / compressor.compress(workloadBlock(n, 1024), target, 0))).toBe(3);
    expect(Math.floor(4060 / compressor.compress(workloadBlock(n, 200), target, 0))).toBeGreaterThanOrEqual(14);
  }
});

test("a result above the limit leaves the target as it was", () => {
  const target = new Uint8Array(4096).fill(9);
  expect(new BlockCompressor({ limit: 1000 }).compress(workloadBlock(1, 1024), target, 0)).toBe(0);
  expect(target.every((byte) => byte === 9)).toBe(true);
});

/** Pieces of LZ4 that are nearly right: valid sequences, some of them with a lie in a length or a distance. */
const hostile = fc
  .array(
    fc.record({
      literals: fc.uint8Array({ maxLength: 40 }),
      claimed: fc.integer({ min: -2, max: 2 }),
      distance: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 65535 })),
      match: fc.oneof(fc.integer({ min: 0, max: 14 }), fc.integer({ min: 15, max: 4200 })),
      lies: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    }),
    { maxLength: 30 },
  )
  .map((sequences) => {
    const bytes: number[] = [];
    const extend = (length: number): void => {
      if (length < 15) return;
      for (let rest = length - 15; ; rest -= 255) {
        bytes.push(Math.min(rest, 255));
        if (rest < 255) return;
      }
    };
    for (const { literals, claimed, distance, match, lies } of sequences) {
      const length = Math.max(0, literals.length + (lies ? claimed : 0));
      bytes.push((Math.min(length, 15) << 4) | Math.min(match, 15));
      extend(length);
      bytes.push(...literals, distance & 255, distance >> 8);
      extend(match);
    }
    return Uint8Array.from(bytes);
  });

function agrees(source: Uint8Array): void {
  const target = new Uint8Array(4096).fill(7);
  const expected = source.length <= 4096 ? decodeLz4(source, 4096) : undefined;
  expect(compressor.tryDecompress(source, 0, source.length, target)).toBe(expected !== undefined);
  expect(firstDifference(target, expected ?? new Uint8Array(4096).fill(7))).toBe(-1);
}

test("bytes made up to mislead are decoded as the plain decoder does, or refused with the target unchanged", () => {
  fc.assert(fc.property(hostile, agrees), { numRuns: 2000 });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), agrees), { numRuns: 1000 });
});

test("sequences that fill exactly 4096 bytes decode at every distance", () => {
  for (let distance = 1; distance <= 70; distance++) {
    const literals = Uint8Array.from({ length: 70 }, (_, i) => i + 1);
    // 70 literals, then a match up to 5 bytes before the end, then 5 literals.
    const match = 4096 - 70 - 5 - 4 - 15;
    const source = [0xff, 70 - 15, ...literals, distance, 0];
    for (let rest = match; ; rest -= 255) {
      source.push(Math.min(rest, 255));
      if (rest < 255) break;
    }
    source.push(0x50, 1, 2, 3, 4, 5);
    const bytes = Uint8Array.from(source);
    expect(decodeLz4(bytes, 4096)).toBeDefined();
    agrees(bytes);
  }
});

test("a compressed block with any one bit flipped decodes as the plain decoder says", () => {
  const target = new Uint8Array(4096);
  const size = compressor.compress(workloadBlock(7001, 200), target, 0);
  for (let bit = 0; bit < size * 8; bit++) {
    const damaged = target.slice(0, size);
    damaged[bit >> 3] = damaged[bit >> 3]! ^ (1 << (bit & 7));
    agrees(damaged);
  }
});

test("a fragment that does not decode is an error that names its slot", () => {
  const target = new Uint8Array(4096);
  for (const size of [0, -1, 1, 4097, Number.NaN]) {
    try {
      compressor.decompress(new Uint8Array(4096), 0, size, target, 3);
      expect.unreachable();
    } catch (error) {
      expect(isVdoError(error, "VDO_INVALID_FRAGMENT") && error.data.slot).toBe(3);
    }
  }
  expect(compressor.tryDecompress(new Uint8Array(10), 5, 6, target)).toBe(false);
});
