import { firstDifference, fromHex, isVdoError, toHex, type VdoError } from "@vdo/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KERNEL_NONCE, kernelIndex } from "../../test/support/devices.ts";
import { fixtureBlock } from "../../test/support/fixture-content.ts";
import { nameRows } from "../../test/support/format-tables.ts";
import { indexGeometry, UdsIndex } from "../index.ts";
import { murmur3 } from "./murmur3.ts";
import { primaryNonce, saveNonce, volumeNonce } from "./nonces.ts";
import { decodeSlot, encodeSave } from "./save-slot.ts";
import { checkConfiguration, decodeLayout, encodeConfiguration, encodeLayout } from "./super-block.ts";

const HASH_SEED = 0x62ea60be;
const geometry = indexGeometry({ memory: 0.25 });

async function blockOf(number: number): Promise<Uint8Array> {
  const block = new Uint8Array(4096);
  await (await kernelIndex()).read(number - 1, block);
  return block;
}

test.each([
  ["", 0, "00000000000000000000000000000000"],
  ["", HASH_SEED, "59fa93fb5bf05b18f08dec3848cb37a9"],
  ["a", HASH_SEED, "f63b22c34dceee014284ecb0799be3f2"],
  ["hello", HASH_SEED, "daa253858c9b807c7bc4288b8e6ddd22"],
  ["0123456789abcdef", HASH_SEED, "232f617c41c0aee8d7c3380ec6ff0eff"],
  ["0123456789abcdef!", HASH_SEED, "723101a131560a995b7bfce70bf7a0db"],
])("MurmurHash3 of %j with seed %i", (text, seed, digest) => {
  expect(toHex(murmur3(new TextEncoder().encode(text), seed))).toBe(digest);
});

test("MurmurHash3 of whole blocks gives the record names of the format", () => {
  const pattern = (fill: (i: number) => number): Uint8Array => Uint8Array.from({ length: 4096 }, (_, i) => fill(i));
  const blocks = [pattern(() => 0xff), pattern((i) => i), pattern(() => 0x61), pattern((i) => (i === 0 ? 1 : 0))];
  for (const [i, block] of blocks.entries()) expect(toHex(murmur3(block, HASH_SEED))).toBe(nameRows[i]?.[0]);
});

test("the nonces of a kernel's index are recomputed", () => {
  const primary = primaryNonce(fromHex("16cbd1c622bee9187134513d16cbd1c622bee9187134513d16cbd1c622bee918"));
  expect(primary).toBe(0x1644caeb9534681fn);
  const volume = volumeNonce(primary, 3);
  expect(volume).toBe(0x60f51d112bfaaae7n);
  expect(saveNonce(volume, { timestamp: 1795174993718, startBlock: 573451 })).toBe(0xf5c6e4fbfb2e3602n);
});

describe("the headers of an index that the kernel wrote", () => {
  test("are decoded and encoded again to the same bytes", async () => {
    const header = await blockOf(1);
    const layout = decodeLayout(header, 1);
    expect(firstDifference(encodeLayout(layout), header)).toBe(-1);
    expect(layout.regions.at(-1)).toMatchObject({ startBlock: 679127, blockCount: 1 });
    const configuration = await blockOf(2);
    checkConfiguration(configuration, geometry, KERNEL_NONCE);
    expect(firstDifference(encodeConfiguration(geometry, KERNEL_NONCE), configuration)).toBe(-1);
    const slot = layout.saves[0];
    const save = await blockOf(slot.startBlock);
    const state = decodeSlot(save, slot, layout, layout.volumeNonce);
    expect(state).toMatchObject({ newestChapter: 0, oldestChapter: 0 });
    expect(firstDifference(encodeSave(slot, layout, state!, layout.volumeNonce), save)).toBe(-1);
    const empty = await blockOf(layout.saves[1].startBlock);
    expect(decodeSlot(empty, layout.saves[1], layout, layout.volumeNonce)).toBeUndefined();
  });

  test("are refused with a code when any bit of what they state is flipped", async () => {
    const header = await blockOf(1);
    const known = ["UDS_NO_INDEX", "UDS_UNSUPPORTED_VERSION", "VDO_CORRUPT"];
    // Padding, and the unused word of each region, are not checked: neither does the kernel.
    const ignored = (at: number): boolean =>
      (at >= 24 && at < 192 && (at - 24) % 24 >= 16 && (at - 24) % 24 < 20) || (at >= 276 && at < 296);
    fc.assert(
      fc.property(fc.nat(295), fc.nat(7), (at, bit) => {
        const damaged = header.slice();
        damaged[at] = (damaged[at] as number) ^ (1 << bit);
        if (ignored(at)) return;
        let error: unknown;
        try {
          decodeLayout(damaged, 1);
        } catch (thrown) {
          error = thrown;
        }
        expect(isVdoError(error), `byte ${at} bit ${bit}`).toBe(true);
        expect(known).toContain((error as VdoError).code);
      }),
      { numRuns: 1000 },
    );
  });

  test("say which version they are of, and which field of the configuration differs", async () => {
    const header = await blockOf(1);
    header[192 + 72] = 7;
    expect(() => decodeLayout(header, 1)).toThrow(/super block version 7/);
    const configuration = await blockOf(2);
    expect(() => checkConfiguration(configuration, geometry, 5n)).toThrow(/has nonce/);
    expect(() => checkConfiguration(configuration, indexGeometry({ memory: 0.5 }), KERNEL_NONCE)).toThrow(
      /recordPagesPerChapter 64, not 128/,
    );
    configuration[0] = 0;
    expect(() => checkConfiguration(configuration, geometry, KERNEL_NONCE)).toThrow(/magic/);
  });
});

describe("a state that the kernel saved", () => {
  const options = { firstBlock: 1, nonce: KERNEL_NONCE, create: "never", rebuild: false } as const;

  test("is loaded: every block of the data is found, at the place where the kernel stored it", async () => {
    const index = await UdsIndex.open({ ...options, device: await kernelIndex() });
    expect(index.statistics()).toMatchObject({ entriesIndexed: 2560, collisions: 0, newestChapter: 0 });
    const places = new Map<string, string>();
    for (let i = 0; i < 240; i++) {
      if (i % 8 === 3) continue;
      const block = fixtureBlock(i);
      const value = await index.query(murmur3(block, HASH_SEED));
      expect(value, `block ${i}`).toBeDefined();
      // Advice of version 2, state 1 (uncompressed) or 2 and above (compressed), a block of the data region.
      expect(value?.[0]).toBe(2);
      places.set(toHex(value!), toHex(block.subarray(0, 8)));
    }
    expect(await index.query(murmur3(new Uint8Array(4096), HASH_SEED))).toBeUndefined();
    expect(toHex((await index.query(murmur3(fixtureBlock(0), HASH_SEED)))!)).toBe("02011a5d0a0000000000000000000000");
    // Equal blocks have one place, different blocks different ones.
    expect(places.size).toBe(new Set(places.values()).size);
    await index.close({ save: false });
  });

  test("is saved again in the other slot, with the same open chapter and page map", async () => {
    const device = await kernelIndex();
    const index = await UdsIndex.open({ ...options, device });
    await index.queryWithoutUpdate(murmur3(fixtureBlock(0), HASH_SEED));
    await index.close();
    const read = async (block: number, count: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(count * 4096);
      await device.read(block - 1, bytes);
      return bytes;
    };
    const header = await blockOf(1);
    const layout = decodeLayout(header, 1);
    const [old, fresh] = await Promise.all(
      layout.saves.map(async (slot) => decodeSlot(await read(slot.startBlock, 1), slot, layout, layout.volumeNonce)),
    );
    expect(fresh!.timestamp).toBeGreaterThan(old!.timestamp);
    for (const part of ["openChapter", "pageMap"] as const) {
      const [a, b] = [old![part], fresh![part]];
      const before = await read(a.startBlock, a.blockCount);
      expect(firstDifference(before, await read(b.startBlock, b.blockCount)), part).toBe(-1);
    }
    // The volume index up to the list records: heads, flush chapters and sizes.
    const heads = await Promise.all([old!, fresh!].map(({ volumeIndex }) => read(volumeIndex[0]!.startBlock, 640)));
    expect(firstDifference(heads[0]!, heads[1]!)).toBe(-1);
    const again = await UdsIndex.open({ ...options, device });
    expect(again.statistics().entriesIndexed).toBe(2560);
    await again.close();
  });
});
