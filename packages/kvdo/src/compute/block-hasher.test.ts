import { fromHex, toHex } from "@vdo/base";
import { expect, test } from "vitest";
import { workloadBlock } from "../../test/support/workload-block.ts";
import { BlockHasher, HASH_BATCH_MAX } from "./block-hasher.ts";

const pattern = (byte: (i: number) => number): Uint8Array => Uint8Array.from({ length: 4096 }, (_, i) => byte(i));

function nameOf(hasher: BlockHasher, block: Uint8Array): string {
  const name = new Uint8Array(16);
  hasher.hash(block, 0, name, 0);
  return toHex(name);
}

/** Names under the seed of volumes, and under seed 0: of a reference implementation in another language. */
const VECTORS: [string, Uint8Array, string, string][] = [
  ["zeros", pattern(() => 0), "81a3ec86657ee7844a63fd811c8008b7", "7afbb38094fec46a1cb2d61a050370fb"],
  ["ones", pattern(() => 255), "2cf69009d52d6d3523e969b0c066121a", "a733b8819117520bfaeb17ded21a16c4"],
  ["i", pattern((i) => i & 255), "e780e2dafd9f88cdac7f54d5960be94c", "7a9564a503a8c4f4bb77bb0fc6986883"],
  [
    "7i",
    pattern((i) => (7 * i + (i >> 8)) & 255),
    "8a6e32cca62fdc7560dc2f15a5332b6a",
    "5a5e72b2fb98692a18c78d81bf16c859",
  ],
];

test.each(VECTORS)("the name of a block of %s is the known one", (_, block, name, unseeded) => {
  expect(nameOf(new BlockHasher(), block)).toBe(name);
  expect(nameOf(new BlockHasher({ seed: 0 }), block)).toBe(unseeded);
});

/** First and last 16 bytes, and name: those of B(1) were found in an index that the kernel saved. */
const WORKLOAD: [number, number, string, string, string][] = [
  [1, 4096, "380182a31a5a2cc43dbd5657dd5fad37", "3b82467caa58cb9fab2c24b67f49d9ca", "98d68cfe3ee6c1cc96982195c1fb06da"],
  [2, 4096, "32b5cc7bd25ab2e77c7731d1bbb62b04", "a6488f82edac245e0df503dda21f5fb5", "08d0e85365a101b46b85ded8a23f8d90"],
  [
    201,
    4096,
    "3f04b69feeae3d03356134b055fd5162",
    "94208da217b9f0f4e806989ea003ba31",
    "2938d827d85fe98fb6d8b5824d2224bd",
  ],
  [
    5000,
    4096,
    "cd40672aaa6f03f49c8207b7f77cd255",
    "e6c3db6318a64bfe5e05040ee5cf7085",
    "5dbbef6f6a22d6cd2f70acbfb0529f5f",
  ],
  [1, 1024, "380182a31a5a2cc43dbd5657dd5fad37", "00000000000000000000000000000000", "eafd13772552f4da342d8b423e8dc098"],
  [
    7001,
    200,
    "51012bb8337c789edc6f12d10fe1361b",
    "00000000000000000000000000000000",
    "cc50f3f47a29444775ba2ecb54576bf5",
  ],
];

test.each(WORKLOAD)("workload block B(%i, %i) has its known bytes and name", (n, streamBytes, first, last, name) => {
  const block = workloadBlock(n, streamBytes);
  expect(toHex(block.subarray(0, 16))).toBe(first);
  expect(toHex(block.subarray(4080))).toBe(last);
  expect(nameOf(new BlockHasher(), block)).toBe(name);
});

test("every slot of a batch of any size gets the name that its block has alone", () => {
  const hasher = new BlockHasher();
  const single = new BlockHasher();
  const blocks = Array.from({ length: HASH_BATCH_MAX }, (_, i) => workloadBlock(1000 + i));
  for (const count of [0, 1, 2, 3, 17, 255, 256]) {
    for (let i = 0; i < HASH_BATCH_MAX; i++) hasher.name(i).fill(0);
    for (let i = 0; i < count; i++) hasher.slot(i).set(blocks[i]!);
    hasher.run(count);
    const names = new Uint8Array(16 * HASH_BATCH_MAX);
    for (let i = 0; i < HASH_BATCH_MAX; i++) hasher.copyName(i, names, 16 * i);
    for (let i = 0; i < HASH_BATCH_MAX; i += 13) {
      const name = toHex(names.subarray(16 * i, 16 * i + 16));
      expect(name).toBe(i < count ? nameOf(single, blocks[i]!) : "0".repeat(32));
    }
  }
});

test("a block inside a larger buffer is hashed where it lies, and its name put where it is asked for", () => {
  const buffer = new Uint8Array(3 * 4096 + 5);
  buffer.set(workloadBlock(201), 4101);
  const names = new Uint8Array(40);
  new BlockHasher().hash(buffer, 4101, names, 20);
  expect(names.subarray(20, 36)).toEqual(fromHex("2938d827d85fe98fb6d8b5824d2224bd"));
  expect(toHex(names.subarray(0, 20)) + toHex(names.subarray(36))).toBe("0".repeat(48));
});

test("a batch larger than the slots is refused", () => {
  expect(() => new BlockHasher().run(HASH_BATCH_MAX + 1)).toThrow("at most as many blocks");
});
