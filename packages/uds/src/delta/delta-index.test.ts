import { fromHex, Random, toHex } from "@vdo/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deltaRows } from "../../test/support/format-tables.ts";
import { getBits, moveBitsDown, moveBitsUp, nameEquals, setBits, setName } from "./bits.ts";
import { codeBits, deltaCode } from "./delta-code.ts";
import { DeltaSegment } from "./delta-segment.ts";
import { ListCursor } from "./list-cursor.ts";
import { writeEntry } from "./list-writer.ts";

describe("bit fields", () => {
  const field = fc.record({ bit: fc.nat(300), count: fc.integer({ min: 0, max: 25 }), value: fc.nat(2 ** 25 - 1) });

  test("a field written reads back, and the bits around it keep their values", () => {
    fc.assert(
      fc.property(field, fc.integer(), ({ bit, count, value }, seed) => {
        const bytes = new Random(seed).fill(new Uint8Array(64));
        const before = BigInt(`0x${toHex(bytes.slice().reverse())}`);
        const view = new DataView(bytes.buffer);
        setBits(view, 3, bit, count, value);
        const masked = value & (2 ** count - 1);
        expect(getBits(view, 3, bit, count)).toBe(masked);
        const at = BigInt(bit + 24);
        const mask = ((1n << BigInt(count)) - 1n) << at;
        expect(BigInt(`0x${toHex(bytes.slice().reverse())}`)).toBe((before & ~mask) | (BigInt(masked) << at));
      }),
    );
  });

  test("bits of any length move between any alignments, also onto themselves", () => {
    const move = fc.record({ from: fc.nat(90), distance: fc.nat(70), count: fc.nat(300), seed: fc.integer() });
    fc.assert(
      fc.property(move, ({ from, distance, count, seed }) => {
        for (const up of [true, false]) {
          const bytes = new Random(seed).fill(new Uint8Array(80));
          const value = BigInt(`0x${toHex(bytes.slice().reverse())}`);
          const [source, target] = up ? [from, from + distance] : [from + distance, from];
          (up ? moveBitsUp : moveBitsDown)(new DataView(bytes.buffer), 2, source, target, count);
          const ones = (1n << BigInt(count)) - 1n;
          const moved = (value >> BigInt(source + 16)) & ones;
          const at = BigInt(target + 16);
          const expected = (value & ~(ones << at)) | (moved << at);
          expect(BigInt(`0x${toHex(bytes.slice().reverse())}`)).toBe(expected);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("names are found at any bit", () => {
    const name = new Random(1).fill(new Uint8Array(16));
    for (let bit = 0; bit < 16; bit++) {
      const view = new DataView(new ArrayBuffer(32));
      setName(view, 0, bit, name);
      expect(nameEquals(view, 0, bit, name)).toBe(true);
      expect(nameEquals(view, 0, bit, name.slice().reverse())).toBe(false);
    }
  });
});

test.each(deltaRows)("the delta code is that of the format: mean %s, delta %s", (...row) => {
  const [mean, delta, field] = row.slice(0, 3).map(Number) as [number, number, number];
  const code = deltaCode(mean);
  expect(codeBits(code, delta)).toBe(Number(row[4]));
  const view = new DataView(new ArrayBuffer(100));
  const end = writeEntry(view, 0, 3, code, 5, 21, delta);
  expect(end).toBe(3 + 5 + Number(row[4]));
  expect(getBits(view, 0, 8, code.minBits)).toBe(field);
  const cursor = new ListCursor(code, 5);
  cursor.open(view, 0, 3, end);
  expect(cursor.advance()).toBe(true);
  expect([cursor.key, cursor.value(), cursor.next]).toEqual([delta, 21, end]);
  expect(cursor.advance()).toBe(false);
});

test("a list with collisions has the bytes that upstream code gave it", () => {
  // Address and first byte of the names, in order of insertion; all names of one list, payload 0.
  const posted = [
    [100, 0xa1],
    [5000, 0xa2],
    [100, 0xa3],
    [1267, 0xa4],
    [1268, 0xa5],
    [0, 0xa6],
    [1048575, 0xa7],
    [0, 0xa8],
  ] as const;
  const segment = new DeltaSegment({ listCount: 1, memoryBytes: 1024, code: deltaCode(4080), valueBits: 10 });
  for (const [address, byte] of posted) {
    const name = new Uint8Array(16).fill(byte);
    new DataView(name.buffer).setBigUint64(0, (5n << 20n) + BigInt(address), false);
    segment.find(0, address, name);
    expect(segment.insert(address, 0, name)).toBe(true);
  }
  expect(segment.sizeOf(0)).toBe(802);
  // The saved record starts at bit 3 of its first byte; ours starts at bit 0.
  const record = new Uint8Array(101);
  record.set(fromHex("00000000000000000000002800005454545454545454 00c8"));
  record.set(fromHex("8002201b1d1d1d1d1d1d1d05e09100080000283d00370b"), 0x20);
  record[0x64] = 0x10;
  const bits = (BigInt(`0x${toHex(record.reverse())}`) >> 3n) & ((1n << 802n) - 1n);
  expect(BigInt(`0x${toHex(segment.bytesOf(0).slice().reverse())}`)).toBe(bits);
});

interface ModelEntry {
  address: number;
  value: number;
  /** Full name of a collision entry. */
  name?: string;
}

/** The rules of insertion and removal on a plain array. */
class ListModel {
  readonly entries: ModelEntry[] = [];

  find(address: number, name: string): number {
    const plain = this.entries.findIndex((entry) => entry.address === address && entry.name === undefined);
    if (plain < 0) return -1;
    const collision = this.entries.findIndex((entry) => entry.address === address && entry.name === name);
    return collision < 0 ? plain : collision;
  }

  insert(address: number, value: number, name: string): void {
    const found = this.find(address, name);
    if (found >= 0) this.entries.splice(found + 1, 0, { address, value, name });
    else {
      const at = this.entries.findIndex((entry) => entry.address > address);
      this.entries.splice(at < 0 ? this.entries.length : at, 0, { address, value });
    }
  }

  remove(at: number): void {
    const [removed] = this.entries.splice(at, 1);
    const next = this.entries[at];
    if (removed?.name === undefined && next?.address === removed?.address && next?.name !== undefined) delete next.name;
  }
}

function readList(segment: DeltaSegment, list: number): ModelEntry[] {
  const { cursor } = segment;
  const entries: ModelEntry[] = [];
  segment.open(list);
  while (cursor.advance()) {
    const { key: address, isCollision, next } = cursor;
    const entry: ModelEntry = { address, value: cursor.value() };
    if (isCollision) {
      const name = Array.from({ length: 16 }, (_, i) => getBits(cursor.view, cursor.base, next - 128 + 8 * i, 8));
      entry.name = toHex(Uint8Array.from(name));
    }
    entries.push(entry);
  }
  expect(cursor.damaged).toBe(false);
  return entries;
}

describe("a delta segment", () => {
  const step = fc.record({
    list: fc.nat(39),
    // Few addresses collide often; large ones have long codes.
    address: fc.oneof(
      fc.nat(8),
      fc.nat(60),
      fc.nat(15).map((n) => n << 16),
      fc.nat(2 ** 20 - 1),
    ),
    value: fc.nat(1023),
    mark: fc.nat(3),
    kind: fc.constantFrom("insert", "insert", "insert", "change", "remove"),
  });

  test("does what a sorted array with the same rules does, however full its memory is", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), fc.constantFrom(600, 1500, 20000), (steps, memoryBytes) => {
        const segment = new DeltaSegment({ listCount: 40, memoryBytes, code: deltaCode(4080), valueBits: 10 });
        const models = Array.from({ length: 40 }, () => new ListModel());
        for (const { list, address, value, mark, kind } of steps) {
          const model = models[list] as ListModel;
          const name = new Uint8Array(16).fill(mark + 1);
          const found = model.find(address, toHex(name));
          segment.find(list, address, name);
          expect(segment.cursor.found).toBe(found >= 0);
          if (found >= 0) expect(segment.cursor.isCollision).toBe(model.entries[found]?.name !== undefined);
          if (kind === "insert" && !segment.cursor.isCollision) {
            if (segment.insert(address, value, name)) model.insert(address, value, toHex(name));
          } else if (found >= 0 && kind === "remove") {
            segment.remove();
            model.remove(found);
          } else if (found >= 0) {
            segment.setValue(value);
            (model.entries[found] as ModelEntry).value = value;
          }
        }
        for (let list = 0; list < 40; list++) expect(readList(segment, list)).toEqual(models[list]?.entries);
        const all = models.flatMap(({ entries }) => entries);
        expect(segment.recordCount).toBe(all.length);
        expect(segment.collisionCount).toBe(all.filter(({ name }) => name !== undefined).length);
        let bits = 0;
        for (let list = 0; list < 40; list++) bits += segment.sizeOf(list);
        expect(segment.usedBits).toBe(bits);
      }),
      { numRuns: 150 },
    );
  });

  test("expires the entries of a range of payloads and of no other", () => {
    const run = fc.record({ first: fc.nat(15), count: fc.nat(16), seed: fc.integer(), spread: fc.boolean() });
    fc.assert(
      fc.property(run, ({ first, count, seed, spread }) => {
        const segment = new DeltaSegment({ listCount: 1, memoryBytes: 9000, code: deltaCode(4080), valueBits: 4 });
        const model = new ListModel();
        const random = new Random(seed);
        for (let i = 0; i < 60; i++) {
          const name = random.fill(new Uint8Array(16));
          // In all quarters of the address space, or in one.
          const address = spread ? random.below(40) * 26_000 : random.below(40);
          segment.find(0, address, name);
          if (!segment.insert(address, i % 16, name)) throw new Error("the list is too long for this test");
          model.insert(address, i % 16, toHex(name));
        }
        const nearest = segment.expire(0, first, count, 15);
        for (let i = 0; i < model.entries.length; ) {
          if ((((model.entries[i] as ModelEntry).value - first) & 15) < count) model.remove(i);
          else i++;
        }
        expect(readList(segment, 0)).toEqual(model.entries);
        for (const { address, value, name } of model.entries) {
          if (name !== undefined) continue;
          segment.find(0, address, new Uint8Array(16));
          expect([segment.cursor.found, segment.cursor.value()]).toEqual([true, value]);
        }
        expect(nearest).toBe(Math.min(15, ...model.entries.map(({ value }) => (value - first) & 15)));
      }),
    );
  });

  test("refuses what would make a list longer than 65535 bits, and goes on", () => {
    const segment = new DeltaSegment({ listCount: 2, memoryBytes: 30000, code: deltaCode(4080), valueBits: 10 });
    const name = new Uint8Array(16);
    let stored = 0;
    for (let i = 0; i < 600; i++) {
      new DataView(name.buffer).setUint32(0, i);
      segment.find(0, 7, name);
      if (segment.insert(7, 1, name)) stored++;
    }
    expect(stored).toBe(1 + Math.floor((65535 - 22) / 150));
    expect(segment.overflowCount).toBe(600 - stored);
    segment.find(1, 9, name);
    expect(segment.insert(9, 3, name)).toBe(true);
    expect(readList(segment, 0).length).toBe(stored);
  });
});

test("a damaged list is noticed", () => {
  const code = deltaCode(4080);
  const cursor = new ListCursor(code, 10);
  const view = new DataView(new ArrayBuffer(64));
  const end = writeEntry(view, 0, 0, code, 10, 5, 200_000);
  for (let cut = 1; cut < end; cut++) expect(cursor.isSound(view, 0, 0, end - cut, 1024)).toBe(false);
  expect(cursor.isSound(view, 0, 0, end, 1024)).toBe(true);
  expect(cursor.isSound(view, 0, 0, end, 5)).toBe(false);
  cursor.find(view, 0, 0, end - 1, 200_000, new Uint8Array(16));
  expect([cursor.found, cursor.damaged]).toEqual([false, true]);
});
