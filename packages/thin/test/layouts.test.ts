import { layoutLaws } from "@vdo/base/testing";
import { describe, expect, test } from "vitest";
import {
  decodeSuperblock,
  deviceDetails,
  encodeSuperblock,
  isShared,
  mappingBlock,
  mappingTime,
  poolExtent,
  poolLabel,
  setMapping,
  spaceMapRoot,
  thinStreamHeader,
  thinStreamRecord,
  thinStreamTrailer,
  thinSuperblock,
} from "../src/index.ts";
import { goldenMetadata } from "./support/golden.ts";

const runner = { describe, test, snapshot: (table: string) => expect(table).toMatchSnapshot() };
layoutLaws(spaceMapRoot, runner);
layoutLaws(thinSuperblock, runner);
layoutLaws(deviceDetails, runner);
layoutLaws(poolExtent, runner);
layoutLaws(poolLabel, runner);
layoutLaws(thinStreamHeader, runner);
layoutLaws(thinStreamRecord, runner);
layoutLaws(thinStreamTrailer, runner);

describe("the superblock", () => {
  const block = goldenMetadata().slice(0, 4096);

  test("of the kernel is decoded, and encoded to the same bytes", () => {
    const value = decodeSuperblock(block);
    expect(value).toMatchObject({ time: 2, transactionId: 5n, heldRoot: 56, dataBlockSectors: 128 });
    expect(Buffer.compare(encodeSuperblock(value), block)).toBe(0);
  });

  test("is refused with any bit flipped", () => {
    for (let at = 0; at < 364; at++) {
      const flipped = block.slice();
      flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
      expect(() => decodeSuperblock(flipped), `byte ${at}`).toThrow();
    }
  });

  test("is refused at another address", () => {
    expect(() => decodeSuperblock(block, 7)).toThrow(/address 0 instead of 7/);
  });
});

describe("mappings", () => {
  const vectors: [number, number, bigint][] = [
    [0, 0, 0n],
    [4, 1, 0x4000001n],
    [5, 5, 0x5000005n],
    [14, 5, 0xe000005n],
    [1109, 6, 0x455000006n],
    [2 ** 40 - 1, 2 ** 24 - 1, 0xffffffffffffffffn],
  ];
  test.each(vectors)("block %d, time %d is packed as the kernel packs it", (block, time, packed) => {
    const view = new DataView(new ArrayBuffer(16));
    setMapping(view, 3, { block, time });
    expect(view.getBigUint64(3, true)).toBe(packed);
    expect([mappingBlock(view, 3), mappingTime(view, 3)]).toEqual([block, time]);
  });

  test.each([
    [0, 0, false],
    [0, 1, true],
    [1, 1, false],
    [1, 2, true],
    [5, 5, false],
  ])("of time %d in a device snapshotted at %d: shared is %s", (time, snapshotted, shared) => {
    expect(isShared(time, snapshotted)).toBe(shared);
  });
});
