import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PbnLock } from "./pbn-locks.ts";
import { PROVISIONAL, ReferenceCounts } from "./reference-counts.ts";

const SBN = 5;
function withCount(count: number): ReferenceCounts {
  const counts = new ReferenceCounts(5000);
  counts.counts[SBN] = count;
  counts.settle();
  if (count === PROVISIONAL) counts.makeProvisional(SBN);
  return counts;
}
const FREE = 4999;

/** What each operation makes of each count; undefined where it is refused. */
const data = (count: number): number | undefined =>
  count === 0 || count === 255 ? 1 : count < 254 ? count + 1 : undefined;
const ALL = Array.from({ length: 256 }, (_, count) => count);

describe("every count, every operation", () => {
  const check = (count: number, expected: number | undefined, act: (counts: ReferenceCounts) => void): void => {
    const counts = withCount(count);
    const before = counts.freeBlocks;
    expect(before).toBe(count === 0 ? FREE + 1 : FREE);
    if (expected === undefined) {
      expect(() => act(counts), `count ${count}`).toThrow(expect.objectContaining({ code: "VDO_REF_COUNT" }));
      expect([counts.get(SBN), counts.freeBlocks]).toEqual([count, before]);
      return;
    }
    act(counts);
    expect(counts.get(SBN), `count ${count}`).toBe(expected);
    expect(counts.freeBlocks).toBe(expected === 0 ? FREE + 1 : FREE);
  };

  test("increments", () => {
    for (const count of ALL) check(count, data(count), (counts) => counts.increment(SBN, false, null));
  });

  test("decrements of blocks that nobody has locked", () => {
    for (const count of ALL) {
      const to = count === 0 ? undefined : count === 255 || count === 1 ? 0 : count - 1;
      check(count, to, (counts) => counts.decrement(SBN, undefined));
    }
  });

  test("decrements of blocks that are locked: the last reference becomes provisional, the lock's", () => {
    for (const count of ALL) {
      const to = count === 0 ? undefined : count === 255 || count === 1 ? PROVISIONAL : count - 1;
      const lock = new PbnLock();
      check(count, to, (counts) => counts.decrement(SBN, lock));
      expect(lock.hasProvisionalReference).toBe(to === PROVISIONAL);
    }
  });

  test("block map increments: of provisional blocks, or in a replay of free ones", () => {
    for (const count of ALL) {
      check(count, count === 255 ? 254 : undefined, (counts) => counts.increment(SBN, true, null));
      const replayed = count === 255 || count === 0 ? 254 : undefined;
      check(count, replayed, (counts) => counts.increment(SBN, true, null, true));
    }
  });

  test("an increment takes over a lock's provisional reference", () => {
    const lock = new PbnLock();
    lock.hasProvisionalReference = true;
    const counts = withCount(PROVISIONAL);
    counts.increment(SBN, false, lock);
    expect([counts.get(SBN), lock.hasProvisionalReference]).toEqual([1, false]);
  });

  test("only free blocks become provisional, only provisional ones are given back", () => {
    for (const count of ALL) {
      if (count !== 0) expect(() => withCount(count).makeProvisional(SBN)).toThrow(/free block/);
      if (count !== PROVISIONAL) expect(() => withCount(count).dropProvisional(SBN)).toThrow(/provisional/);
    }
  });
});

test("free blocks are found in order, and counted right after any history", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(40), fc.nat(4)), { maxLength: 200 }), (steps) => {
      const counts = new ReferenceCounts(41);
      const model = new Uint8Array(41);
      for (const [sbn, what] of steps) {
        const count = model[sbn] as number;
        if (what === 0 && count === 0) {
          counts.makeProvisional(sbn);
          model[sbn] = PROVISIONAL;
        } else if (what === 1 && count === PROVISIONAL) {
          counts.dropProvisional(sbn);
          model[sbn] = 0;
        } else if (what === 2 && data(count) !== undefined) {
          counts.increment(sbn, false, null);
          model[sbn] = data(count) as number;
        } else if (what >= 3 && count !== 0) {
          counts.decrement(sbn, undefined);
          model[sbn] = count === 255 || count === 1 ? 0 : count - 1;
        }
        expect(counts.freeBlocks).toBe(model.filter((value) => value === 0).length);
        expect(counts.findFree(sbn)).toBe(model.indexOf(0, sbn));
      }
    }),
  );
});

test("what is encoded is decoded: counts, commit points per sector, provisional ones as free", () => {
  const counts = new ReferenceCounts(9000);
  for (let sbn = 0; sbn < 9000; sbn++) counts.counts[sbn] = (sbn * 31) % 256;
  counts.pointSequence = 77;
  counts.pointEntry = 1200;
  const again = new ReferenceCounts(9000);
  const points = { sequences: new Float64Array(24), entries: new Uint16Array(24) };
  const bytes = new Uint8Array(4096);
  for (const { index } of counts.blocks) {
    counts.encode(index, bytes);
    again.decode(index, bytes, points);
  }
  again.settle();
  expect([again.pointSequence, again.pointEntry]).toEqual([77, 1200]);
  expect([...points.sequences]).toEqual(new Array(24).fill(77));
  for (let sbn = 0; sbn < 9000; sbn++) expect(again.get(sbn)).toBe(counts.get(sbn) === 255 ? 0 : counts.get(sbn));
  expect(again.freeBlocks).toBe(again.counts.filter((count) => count === 0).length);
});

test("dirty blocks are taken in the order in which they became dirty, except those being written", () => {
  const counts = new ReferenceCounts(4032 * 3);
  const [a, b, c] = counts.blocks as [(typeof counts.blocks)[0], (typeof counts.blocks)[0], (typeof counts.blocks)[0]];
  expect([counts.dirty(b), counts.dirty(a), counts.dirty(b), counts.dirty(c)]).toEqual([true, true, false, true]);
  b.isWriting = true;
  expect(counts.takeDirty()).toBe(a);
  expect(counts.takeDirty()).toBe(c);
  expect(counts.takeDirty()).toBeNull();
  b.isWriting = false;
  expect(counts.takeDirty()).toBe(b);
  expect(counts.dirtyCount).toBe(0);
});
