import type { Clock } from "@vdo/base";
import type { UdsIndex, UdsRequest } from "@vdo/uds";
import { expect, test } from "vitest";
import { DATA_VIOS_MAX, INDEX_TIMEOUT_MS } from "../constants.ts";
import { DataVio } from "../data-path/data-vio.ts";
import { writeAdvice } from "../format/index.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { IndexClient } from "./index-client.ts";

/** A clock that is set by hand. */
class HandClock implements Clock {
  #now = 0;
  #timers: { at: number; run: () => void }[] = [];
  now(): number {
    return this.#now;
  }
  wallMicroseconds(): number {
    return this.#now * 1000;
  }
  after(milliseconds: number, run: () => void): () => void {
    const timer = { at: this.#now + milliseconds, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
  advance(milliseconds: number): void {
    this.#now += milliseconds;
    for (;;) {
      const due = this.#timers.find(({ at }) => at <= this.#now);
      if (due === undefined) return;
      this.#timers = this.#timers.filter((other) => other !== due);
      due.run();
    }
  }
  get pending(): number {
    return this.#timers.length;
  }
}

/** An index that answers when it is told to. */
class SlowIndex {
  readonly asked: UdsRequest[] = [];
  submit(request: UdsRequest): void {
    this.asked.push(request);
  }
  answer(request: UdsRequest, advice?: { pbn: number; state: number; version?: number }): void {
    request.found = advice !== undefined;
    if (advice !== undefined) {
      writeAdvice(request.oldValue, 0, advice.pbn, advice.state);
      if (advice.version !== undefined) request.oldValue[0] = advice.version;
    }
    request.onDone(request);
  }
}

function make() {
  const clock = new HandClock();
  const statistics = emptyStatistics();
  const index = new SlowIndex();
  const texts: string[] = [];
  const depot = { isDataBlock: (pbn: number) => pbn >= 100 && pbn < 200 } as unknown as SlabDepot;
  const client = new IndexClient({ statistics, depot, clock, log: (text) => void texts.push(text) });
  client.setIndex(index as unknown as UdsIndex);
  return { clock, statistics, index, client, texts };
}

const vioOf = (number: number): DataVio => new DataVio(number, Buffer.alloc(0), Buffer.alloc(0));

test("a query that is not answered in five seconds is given up; its context is used again after the late answer", async () => {
  const { clock, statistics, index, client } = make();
  const done: number[] = [];
  const step = (vio: DataVio): void => void done.push(vio.number);
  const [first, second] = [vioOf(1), vioOf(2)];
  client.query(first, step);
  clock.advance(INDEX_TIMEOUT_MS - 1000);
  client.query(second, step);
  expect(done).toEqual([]);
  clock.advance(1000);
  expect([done, first.isDuplicate, statistics.dedupeAdviceTimeouts]).toEqual([[1], false, 1]);
  clock.advance(INDEX_TIMEOUT_MS - 1001);
  expect(done).toEqual([1]);
  clock.advance(101);
  expect([done, statistics.dedupeAdviceTimeouts]).toEqual([[1, 2], 2]);

  // Late answers do nothing to vios that may be something else by now.
  const drained = client.drain();
  for (const request of index.asked) index.answer(request, { pbn: 150, state: 1 });
  await drained;
  expect([first.isDuplicate, done, statistics.hashLock.currDedupeQueries]).toEqual([false, [1, 2], 0]);
  expect(clock.pending).toBe(0);
  client.query(first, step);
  expect(new Set(index.asked).size).toBe(2);
  index.answer(index.asked[2] as UdsRequest, { pbn: 150, state: 1 });
  expect([first.isDuplicate, first.advicePbn, done.length]).toEqual([true, 150, 3]);
});

test("without a free context no query is made, and nothing waits", () => {
  const { statistics, index, client } = make();
  let done = 0;
  for (let i = 0; i < DATA_VIOS_MAX + 10; i++) client.query(vioOf(i), () => void done++);
  expect([index.asked.length, done, statistics.dedupeAdviceTimeouts]).toEqual([DATA_VIOS_MAX, 10, 10]);
  expect(statistics.hashLock.currDedupeQueries).toBe(DATA_VIOS_MAX);
});

test("without an index, or switched off, vios go on at once", () => {
  const { index, client } = make();
  let done = 0;
  client.isEnabled = false;
  client.query(vioOf(1), () => void done++);
  client.isEnabled = true;
  client.setIndex(null);
  client.update(vioOf(2), 150, 1, () => void done++);
  expect([done, index.asked.length]).toEqual([2, 0]);
});

test.each([
  { what: "a block that is no data block", advice: { pbn: 99, state: 1 }, invalid: 1, logged: 0 },
  { what: "an unmapped state", advice: { pbn: 150, state: 0 }, invalid: 1, logged: 0 },
  { what: "an unknown version", advice: { pbn: 150, state: 1, version: 3 }, invalid: 0, logged: 1 },
])("advice with $what is ignored", ({ advice, invalid, logged }) => {
  const { statistics, index, client, texts } = make();
  const vio = vioOf(1);
  client.query(vio, () => undefined);
  index.answer(index.asked[0] as UdsRequest, advice);
  expect(vio.isDuplicate).toBe(false);
  expect([statistics.errors.invalidAdvicePBNCount, texts.length]).toEqual([invalid, logged]);
});

test("a request that the index fails is as if nothing was known", () => {
  const { index, client } = make();
  const vio = vioOf(1);
  let done = 0;
  client.query(vio, () => void done++);
  const request = index.asked[0] as UdsRequest;
  request.error = new Error("disabled") as never;
  index.answer(request, { pbn: 150, state: 1 });
  expect([vio.isDuplicate, done]).toEqual([false, 1]);
});
