import { describe, expect, test } from "vitest";
import { BusyPoll } from "../src/server/busy-poll.ts";

/** Milliseconds; a power of two, so that sums are exact. */
const TURN = 1 / 512;
const SOON = 16 * TURN;

/** A connection in a time of its own: each turn of its event loop takes about two microseconds. */
class Loop {
  time = 0;
  idle = true;
  turns = 0;
  #next: (() => void) | undefined;
  readonly poll: BusyPoll;

  constructor(processors = 2) {
    this.poll = new BusyPoll({
      isIdle: () => this.idle,
      now: () => this.time,
      nextTurn: (turn) => {
        this.#next = turn;
      },
      processors,
    });
  }

  /** Turns until `time`, or until nothing is left to do; the number of turns. */
  runTo(time: number): number {
    const before = this.turns;
    while (this.#next !== undefined && this.time < time) {
      this.time += TURN;
      this.turns++;
      const next = this.#next;
      this.#next = undefined;
      next();
    }
    this.time = Math.max(time, this.time);
    return this.turns - before;
  }

  /** Requests `gap` milliseconds apart; the turns after the last one. */
  requests(count: number, gap: number): number {
    let turns = 0;
    for (let i = 0; i < count; i++) {
      this.poll.input();
      turns = this.runTo(this.time + gap);
    }
    return turns;
  }
}

describe("looking for the next request", () => {
  test("goes on without a sleep for a client that sends one request after the other", () => {
    const loop = new Loop();
    expect(loop.requests(5, SOON)).toBe(0);
    expect(loop.requests(20, SOON)).toBe(16);
  });

  test("ends after fifty microseconds without a request", () => {
    const loop = new Loop();
    loop.requests(30, SOON);
    loop.poll.input();
    expect(loop.runTo(loop.time + 10)).toBe(26);
  });

  test("is given up for a client that takes its time", () => {
    const loop = new Loop();
    loop.requests(30, SOON);
    const before = loop.turns;
    loop.requests(1000, 1);
    expect(loop.turns - before).toBeLessThan(100);
    expect(loop.requests(5, 1)).toBe(0);
    expect(loop.requests(30, SOON)).toBe(16);
  });

  test("is not begun while a device works, which wakes the loop by itself", () => {
    const loop = new Loop();
    loop.idle = false;
    expect(loop.requests(100, SOON)).toBe(1);
  });

  test("is nothing for a machine with one processor", () => {
    const loop = new Loop(1);
    expect(loop.requests(100, SOON)).toBe(0);
  });
});
