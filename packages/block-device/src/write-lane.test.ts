import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { describe, expect, test } from "vitest";
import { FileDevice } from "./file-device.ts";
import { WriteLane } from "./write-lane.ts";

/** Writes are words; those that begin with a capital letter are too long to be made inline. */
class Pool {
  slow = false;
  inlineAllowed = Number.POSITIVE_INFINITY;
  readonly inPool: string[] = [];
  readonly inline: string[] = [];
  readonly lane = new WriteLane<string>({
    tryInline: (word) => {
      if (/^[A-Z]/.test(word) || this.inlineAllowed-- <= 0) return false;
      this.inline.push(word);
      return true;
    },
    start: (word) => this.inPool.push(word),
    isSlow: () => this.slow,
  });

  end(word: string): void {
    this.inPool.splice(this.inPool.indexOf(word), 1);
    this.lane.ended();
  }
}

describe("the lane of writes", () => {
  test("lets one write at a time into the pool, in order", () => {
    const pool = new Pool();
    for (const word of ["One", "Two", "Three"]) pool.lane.submit(word);
    expect(pool.inPool).toEqual(["One"]);
    expect(pool.lane.isBusy).toBe(true);
    pool.end("One");
    expect(pool.inPool).toEqual(["Two"]);
    pool.end("Two");
    pool.end("Three");
    expect(pool.lane.isBusy).toBe(false);
  });

  test("makes short ones inline that waited, and no later one before a long one", () => {
    const pool = new Pool();
    for (const word of ["One", "two", "three", "Four", "five"]) pool.lane.submit(word);
    pool.end("One");
    expect(pool.inline).toEqual(["two", "three"]);
    expect(pool.inPool).toEqual(["Four"]);
    pool.end("Four");
    expect(pool.inline).toEqual(["two", "three", "five"]);
    expect(pool.lane.isBusy).toBe(false);
  });

  test("sends a short one to the pool that may not be made inline now, and goes on after it", () => {
    const pool = new Pool();
    for (const word of ["One", "two", "three", "four"]) pool.lane.submit(word);
    pool.inlineAllowed = 1;
    pool.end("One");
    expect([pool.inline, pool.inPool]).toEqual([["two"], ["three"]]);
    pool.inlineAllowed = 5;
    pool.end("three");
    expect([pool.inline, pool.inPool]).toEqual([["two", "four"], []]);
  });

  test("lets all into the pool when storage is slow, those that wait as well", () => {
    const pool = new Pool();
    pool.lane.submit("One");
    pool.lane.submit("two");
    pool.lane.submit("Three");
    pool.slow = true;
    pool.lane.submit("Four");
    expect(pool.inPool).toEqual(["One", "Four"]);
    pool.inlineAllowed = 0;
    pool.end("One");
    pool.end("Four");
    expect(pool.inPool).toEqual(["two", "Three"]);
    pool.end("Three");
    pool.end("two");
    expect(pool.lane.isBusy).toBe(false);
  });
});

test("a file has every write of a mixture of long, short, durable and vectored ones, whatever is in flight", async () => {
  const folder = await mkdtemp(join(tmpdir(), "write-lane-"));
  try {
    const path = join(folder, "file");
    const blocks = 2048;
    await writeFile(path, "");
    await truncate(path, blocks * 4096);
    const device = await FileDevice.open({ path, inline: true });
    const random = new Random(7);
    const model = new Uint8Array(blocks * 4096);
    let value = 1;
    for (let round = 0; round < 60; round++) {
      const writes: Promise<void>[] = [];
      // Ranges that do not overlap: the order of others is not promised.
      for (let at = 0; at < blocks; ) {
        const count = Math.min(blocks - at, random.chance(0.2) ? 1 + random.below(100) : 1 + random.below(3));
        if (random.chance(0.3)) {
          const source = new Uint8Array(count * 4096).fill(value++ % 256);
          model.set(source, at * 4096);
          const options = random.chance(0.1) ? { fua: true } : {};
          if (random.chance(0.5)) writes.push(device.write(at, source, options));
          else {
            const middle = 4096 * random.below(count);
            writes.push(device.writeVector(at, [source.subarray(0, middle), source.subarray(middle)], options));
          }
        }
        at += count;
      }
      if (random.chance(0.2)) writes.push(device.flush());
      await Promise.all(writes);
    }
    await device.close();
    expect(Buffer.compare(await readFile(path), model)).toBe(0);
  } finally {
    await rm(folder, { recursive: true });
  }
});
