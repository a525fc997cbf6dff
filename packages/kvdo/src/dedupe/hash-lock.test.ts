import { describe, expect, test } from "vitest";
import { DataVio } from "../data-path/data-vio.ts";
import { HASH_LOCK_MOVES, HashLock, type HashLockState } from "./hash-lock.ts";

const STATES = Object.keys(HASH_LOCK_MOVES) as HashLockState[];
const movesOf = (state: HashLockState): HashLockState[] => Object.keys(HASH_LOCK_MOVES[state]) as HashLockState[];

function reachable(from: HashLockState): Set<HashLockState> {
  const found = new Set([from]);
  for (const state of found) for (const next of movesOf(state)) found.add(next);
  return found;
}

describe("the table of hash lock moves", () => {
  test("every state can be reached from the first", () => {
    expect([...reachable("initializing")].sort()).toEqual([...STATES].sort());
  });

  test("every state leads to the end, and the end to nothing", () => {
    for (const state of STATES) expect(reachable(state).has("bypassing"), state).toBe(true);
    expect(movesOf("bypassing")).toEqual([]);
  });

  test("the index is asked once: nothing leads back to querying or initializing", () => {
    for (const state of STATES) {
      expect(movesOf(state)).not.toContain("initializing");
      if (state !== "initializing") expect(movesOf(state)).not.toContain("querying");
    }
  });

  test("each move has a reason", () => {
    for (const state of STATES) for (const reason of Object.values(HASH_LOCK_MOVES[state])) expect(reason).not.toBe("");
  });

  test.each(STATES)("from %s, moves in the table are made and all others refused", (from) => {
    for (const to of STATES) {
      const lock = new HashLock();
      lock.state = from;
      if (movesOf(from).includes(to)) {
        lock.move(to);
        expect(lock.state).toBe(to);
      } else expect(() => lock.move(to)).toThrow(/moves are in the table/);
    }
  });
});

test("members join and leave in any order, and the leader's leaving leaves none", () => {
  const lock = new HashLock();
  const vios = [0, 1, 2, 3].map((number) => new DataVio(number, Buffer.alloc(0), Buffer.alloc(0)));
  for (const vio of vios) lock.join(vio);
  lock.leader = vios[2]!;
  for (const [left, index] of [
    [3, 1],
    [2, 3],
    [1, 2],
    [0, 0],
  ] as const) {
    lock.leave(vios[index]!);
    expect(vios[index]!.hashLock).toBeNull();
    expect(lock.memberCount).toBe(left);
  }
  expect(lock.members).toBeNull();
  expect(lock.leader).toBeNull();
});
