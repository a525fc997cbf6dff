import { Random, toHex, viewOf } from "@vdo/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CHAPTER_MEAN_DELTA } from "../constants.ts";
import { deltaCode } from "../delta/delta-code.ts";
import { DeltaSegment } from "../delta/delta-segment.ts";
import { ListCursor } from "../delta/list-cursor.ts";
import { type IndexGeometry, indexGeometry } from "../geometry.ts";
import { PageMap } from "../page-map.ts";
import { chapterAddress, chapterList } from "../record-place.ts";
import { ChapterPacker } from "./chapter-packer.ts";
import { listStart, readIndexPage } from "./index-page.ts";
import { OpenChapter } from "./open-chapter.ts";
import { findRecord, RecordPageWriter } from "./record-page.ts";

const geometry = indexGeometry({ chapters: { bytesPerPage: 4096, recordPagesPerChapter: 32, chaptersPerVolume: 8 } });
const NONCE = 0x1122334455667788n;

/** A full chapter of these names; values are the names reversed. */
function chapterOf(name: (i: number) => Uint8Array): OpenChapter {
  const chapter = new OpenChapter(geometry.recordsPerChapter);
  const record = new Uint8Array(32);
  const words = new Uint32Array(record.buffer);
  for (let i = 0; chapter.size < chapter.capacity; i++) {
    record.set(name(i));
    record.set(name(i).slice().reverse(), 16);
    chapter.put(record, words, 4);
  }
  return chapter;
}

function pack(chapter: OpenChapter): { pages: Uint8Array[]; packer: ChapterPacker; counts: number[] } {
  const packer = new ChapterPacker(geometry);
  packer.distribute(chapter);
  packer.sort(0, geometry.listsPerChapter);
  const pages: Uint8Array[] = [];
  const counts: number[] = [];
  let firstList = 0;
  for (let page = 0; page < geometry.indexPagesPerChapter; page++) {
    const bytes = new Uint8Array(geometry.bytesPerPage);
    const isLast = page === geometry.indexPagesPerChapter - 1;
    const count = packer.pack(bytes, { firstList, isLast, nonce: NONCE, virtualChapter: 77 });
    firstList += count;
    pages.push(bytes);
    counts.push(count);
  }
  expect(firstList).toBe(geometry.listsPerChapter);
  return { pages, packer, counts };
}

/** Record page that the pages name for `name`, or -1. */
function lookUp(pages: readonly Uint8Array[], name: Uint8Array): number {
  const cursor = new ListCursor(deltaCode(CHAPTER_MEAN_DELTA), geometry.chapterPayloadBits);
  const list = chapterList(name, geometry.chapterAddressBits, geometry.chapterListBits);
  for (const bytes of pages) {
    const view = viewOf(bytes);
    const info = readIndexPage(view, 0, bytes.length, NONCE);
    if (info === undefined) throw new Error("an index page is not sound");
    expect(info.virtualChapter).toBe(77n);
    const local = list - info.firstList;
    if (local < 0 || local >= info.listCount) continue;
    cursor.find(
      view,
      0,
      listStart(view, 0, local),
      listStart(view, 0, local + 1),
      chapterAddress(name, geometry.chapterAddressBits),
      name,
    );
    return cursor.found ? cursor.value() : -1;
  }
  return -1;
}

describe("the index of a chapter", () => {
  test("leads every name to its record page, also those that share an address", () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(0, 1, 3), (seed, shared) => {
        // With `shared` bytes of the address fixed, names collide more and more.
        const random = new Random(seed);
        const names = Array.from({ length: geometry.recordsPerChapter }, () => {
          const name = random.fill(new Uint8Array(16));
          for (let i = 0; i < shared; i++) name[13 - i] = 7;
          if (shared === 3) name[10] = (name[10] as number) & 0x03;
          return name;
        });
        const chapter = chapterOf((i) => names[i] as Uint8Array);
        const { pages, packer } = pack(chapter);
        let lost = 0;
        for (const [i, name] of names.entries())
          if (lookUp(pages, name) !== Math.floor(i / geometry.recordsPerPage)) lost++;
        expect(lost).toBeLessThanOrEqual(packer.droppedCount);
        if (shared === 0) expect(packer.droppedCount).toBe(0);
      }),
      { numRuns: 6 },
    );
  });

  test("has the lists that insertions in order of arrival make", () => {
    const random = new Random(3);
    const chapter = chapterOf(() => {
      const name = random.fill(new Uint8Array(16));
      // Few addresses, so that a list in two has a collision.
      name[13] = 0;
      name[11] = (name[11] as number) & 0xcf;
      return name;
    });
    const { pages } = pack(chapter);
    const { chapterAddressBits, chapterListBits, chapterPayloadBits, listsPerChapter } = geometry;
    const code = deltaCode(CHAPTER_MEAN_DELTA);
    const segment = new DeltaSegment({
      listCount: listsPerChapter,
      memoryBytes: 1 << 20,
      code,
      valueBits: chapterPayloadBits,
    });
    for (let i = 0; i < chapter.size; i++) {
      const name = chapter.nameOf(i);
      const address = chapterAddress(name, chapterAddressBits);
      segment.find(chapterList(name, chapterAddressBits, chapterListBits), address, name);
      segment.insert(address, Math.floor(i / geometry.recordsPerPage), name);
    }
    expect(segment.collisionCount).toBeGreaterThan(10);
    const bytes = pages[0] as Uint8Array;
    const view = viewOf(bytes);
    const info = readIndexPage(view, 0, bytes.length, NONCE);
    expect(info?.listCount).toBeGreaterThan(1);
    const value = BigInt(`0x${toHex(bytes.slice().reverse())}`);
    for (let list = 0; list < (info?.listCount ?? 0); list++) {
      const start = listStart(view, 0, list);
      const size = listStart(view, 0, list + 1) - start;
      expect(size).toBe(segment.sizeOf(list));
      const expected = BigInt(`0x0${toHex(segment.bytesOf(list).slice().reverse())}`);
      const mask = (1n << BigInt(size)) - 1n;
      expect((value >> BigInt(start)) & mask).toBe(expected & mask);
    }
  });

  test("survives names that are all of one list: what does not fit is dropped and counted", () => {
    const chapter = chapterOf((i) => {
      const name = new Uint8Array(16);
      viewOf(name).setUint32(0, i);
      return name;
    });
    const { pages, packer, counts } = pack(chapter);
    expect(packer.droppedCount).toBeGreaterThan(3000);
    expect(counts.length).toBe(geometry.indexPagesPerChapter);
    for (const page of pages) expect(readIndexPage(viewOf(page), 0, page.length, NONCE)).toBeDefined();
  });

  test("leaves removed records out", () => {
    const random = new Random(9);
    const chapter = chapterOf(() => random.fill(new Uint8Array(16)));
    const removed = chapter.nameOf(5).slice();
    chapter.remove(removed, new Uint32Array(removed.buffer));
    expect(lookUp(pack(chapter).pages, removed)).toBe(-1);
  });

  test("is refused when a header field, an offset or the guard is damaged", () => {
    const random = new Random(4);
    const page = pack(chapterOf(() => random.fill(new Uint8Array(16)))).pages[0] as Uint8Array;
    expect(readIndexPage(viewOf(page), 0, page.length, NONCE + 1n)).toBeUndefined();
    for (const at of [0, 18, 20, 21, 24, 4089, 4095]) {
      const damaged = page.slice();
      damaged[at] = (damaged[at] as number) ^ 0x55;
      expect(readIndexPage(viewOf(damaged), 0, page.length, NONCE), `byte ${at}`).toBeUndefined();
    }
  });

  test("is read with a big-endian header too", () => {
    const random = new Random(4);
    const page = pack(chapterOf(() => random.fill(new Uint8Array(16)))).pages[0] as Uint8Array;
    const info = readIndexPage(viewOf(page), 0, page.length, NONCE);
    for (const [at, length] of [
      [0, 8],
      [8, 8],
      [16, 2],
      [18, 2],
    ] as const)
      page.subarray(at, at + length).reverse();
    expect(readIndexPage(viewOf(page), 0, page.length, NONCE)).toEqual({ ...info, bigEndian: true });
  });
});

describe("a record page", () => {
  test("is a search tree in heap order", () => {
    const page = new Uint8Array(7 * 32);
    const source = new Uint8Array(7 * 32);
    // Records in the order 6, 5 … 0; names differ in their last byte only.
    for (let i = 0; i < 7; i++) source[i * 32 + 15] = 6 - i;
    new RecordPageWriter(7).write(source, page);
    expect(Array.from({ length: 7 }, (_, i) => page[i * 32 + 15])).toEqual([3, 1, 5, 0, 2, 4, 6]);
  });

  test("of 1024 records has sorted record 512 at its root and 0 in the last place", () => {
    const source = new Uint8Array(1024 * 32);
    for (let i = 0; i < 1024; i++) viewOf(source).setUint16(i * 32, (i * 389) % 1024);
    const page = new Uint8Array(source.length);
    new RecordPageWriter(1024).write(source, page);
    const at = (i: number): number => viewOf(page).getUint16(i * 32);
    expect([at(0), at(1), at(2), at(1023)]).toEqual([512, 256, 768, 0]);
  });

  test("finds what is there and nothing else, whatever the names have in common", () => {
    const setup = fc.record({ seed: fc.integer(), same: fc.nat(14), base: fc.constantFrom(0, 4096) });
    fc.assert(
      fc.property(setup, ({ seed, same, base }) => {
        const source = new Random(seed).fill(new Uint8Array(128 * 32));
        for (let i = 0; i < 128; i++) source.fill(9, i * 32, i * 32 + same);
        const pages = new Uint8Array(base + 4096);
        new RecordPageWriter(128).write(source, pages.subarray(base));
        for (let i = 0; i < 128; i++) {
          const name = source.subarray(i * 32, i * 32 + 16);
          const at = findRecord(pages, base, 128, name);
          expect(at).toBeGreaterThanOrEqual(base);
          expect(toHex(pages.subarray(at, at + 16))).toBe(toHex(name));
          const other = name.slice();
          other[15] = (other[15] as number) ^ 1;
          const wanted = toHex(other);
          const isThere = Array.from({ length: 128 }, (_, r) => toHex(source.subarray(r * 32, r * 32 + 16))).includes(
            wanted,
          );
          expect(findRecord(pages, base, 128, other) >= 0).toBe(isThere);
        }
      }),
      { numRuns: 25 },
    );
  });
});

test("an open chapter does what a map with places does", () => {
  const step = fc.record({
    name: fc.nat(30),
    value: fc.nat(255),
    kind: fc.constantFrom("put", "put", "remove", "find"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const chapter = new OpenChapter(40);
      const model = new Map<number, number>();
      let size = 0;
      const record = new Uint8Array(32);
      const words = new Uint32Array(record.buffer);
      for (const { name, value, kind } of steps) {
        // All names share their hash slot.
        record.fill(0);
        record[0] = name;
        record[16] = value;
        if (kind === "remove") {
          chapter.remove(record, words);
          model.delete(name);
        } else if (kind === "put" && size < 40) {
          if (!model.has(name)) size++;
          model.set(name, value);
          expect(chapter.put(record, words, 4)).toBe(40 - size);
        } else if (kind === "put") expect(chapter.put(record, words, 4)).toBe(0);
        const found = chapter.find(record, words);
        expect(found >= 0).toBe(model.has(name));
        if (found < 0) continue;
        const copy = new Uint32Array(4);
        chapter.copyValue(found, copy, 0);
        expect(copy[0]).toBe(model.get(name));
      }
      expect(chapter.size).toBe(size);
      expect(chapter.size - chapter.removed).toBe(model.size);
    }),
  );
});

test("the page map finds the page of each list, and is saved as the format says", () => {
  const big: IndexGeometry = indexGeometry({ memory: 0.25 });
  const map = new PageMap(big);
  const ends = [170, 341, 516, 688, 860, 1023];
  for (const [page, last] of ends.entries()) map.update(0, 0, page, last);
  expect([0, 170, 171, 374, 861, 1023].map((list) => map.find(0, list))).toEqual([0, 0, 1, 2, 5, 5]);
  expect([map.lowest(0, 0), map.highest(0, 0), map.lowest(0, 5), map.highest(0, 5)]).toEqual([0, 170, 861, 1023]);
  const bytes = map.encode();
  expect(toHex(bytes.subarray(0, 28))).toBe("414c4249504d30320000000000000000aa005501" + "0402b0025c030000");
  const copy = new PageMap(big);
  copy.decode(bytes);
  expect(copy.find(0, 600)).toBe(3);
  bytes[0] = 0;
  expect(() => copy.decode(bytes)).toThrow(/magic/);
});
