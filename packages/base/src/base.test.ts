import { describe, expect, test } from "vitest";
import { equalBytes, firstDifference, fromHex, isZero, toHex } from "./bytes.ts";
import { systemClock } from "./clock.ts";
import { errorMessage, invariant, isVdoError, VdoError } from "./errors.ts";
import { Random } from "./random.ts";

describe("errors", () => {
  test("carry code, data, message and cause", () => {
    const cause = new Error("below");
    const error = new VdoError("VDO_IO", "write of block 5 failed", { operation: "write", block: 5 }, cause);
    expect(error).toMatchObject({ name: "VdoError", code: "VDO_IO", data: { operation: "write", block: 5 }, cause });
    expect(error.message).toBe("write of block 5 failed");
    expect("cause" in new VdoError("VDO_CLOSED", "closed", { object: "x" })).toBe(false);
  });

  test("are recognised by name and code, also when they come from another copy of the package", () => {
    class Stranger extends Error {
      override name = "VdoError";
      code = "VDO_NO_SPACE";
    }
    expect(isVdoError(new Stranger())).toBe(true);
    expect(isVdoError(new Stranger(), "VDO_NO_SPACE")).toBe(true);
    expect(isVdoError(new Stranger(), "VDO_IO")).toBe(false);
    for (const other of [new Error("x"), { name: "VdoError", code: "VDO_IO" }, undefined, "VdoError"]) {
      expect(isVdoError(other)).toBe(false);
    }
  });

  test("an invariant that holds passes, one that does not throws a bug", () => {
    invariant(true, "one is one");
    expect(() => invariant(false, "one is two")).toThrow(expect.objectContaining({ code: "VDO_INVARIANT" }));
    expect(() => invariant(false, "one is two")).toThrow("bug: it does not hold that one is two");
  });

  test("anything thrown has a message", () => {
    expect(errorMessage(new Error("text"))).toBe("text");
    expect(errorMessage(7)).toBe("7");
  });
});

describe("random numbers", () => {
  test("are the same for the same seed, on every machine", () => {
    const first = Array.from(
      { length: 4 },
      (
        (random) => () =>
          random.next32()
      )(new Random(42)),
    );
    expect(first).toEqual([660444221, 3652823732, 77672526, 910233633]);
    expect(new Random(43).next32()).not.toBe(first[0]);
  });

  test("spread evenly over a range and stay inside it", () => {
    const random = new Random(1);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 100_000; i++) {
      const index = random.below(10);
      counts[index] = (counts[index] as number) + 1;
    }
    expect(counts).toHaveLength(10);
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    expect(random.below(1)).toBe(0);
    expect(random.below(2 ** 32)).toBeLessThan(2 ** 32);
  });

  test("take chances as told", () => {
    const random = new Random(2);
    let hits = 0;
    for (let i = 0; i < 100_000; i++) if (random.chance(0.3)) hits++;
    expect(Math.abs(hits - 30_000)).toBeLessThan(1000);
    for (let i = 0; i < 1000; i++) {
      expect(random.chance(0)).toBe(false);
      expect(random.chance(1)).toBe(true);
    }
    expect(new Set(Array.from({ length: 100 }, () => random.pick(["a", "b", "c"])))).toEqual(new Set(["a", "b", "c"]));
  });

  test("fill arrays of any length", () => {
    for (const length of [0, 1, 3, 4, 5, 1023]) {
      const filled = new Random(3).fill(new Uint8Array(length));
      expect(filled.length).toBe(length);
      if (length > 100) expect(new Set(filled).size).toBeGreaterThan(200);
    }
  });
});

describe("bytes", () => {
  test("the first difference is found, a shorter array differs at its end", () => {
    expect(firstDifference(Uint8Array.of(1, 2, 3), Uint8Array.of(1, 2, 3))).toBe(-1);
    expect(firstDifference(Uint8Array.of(1, 2, 3), Uint8Array.of(1, 9, 3))).toBe(1);
    expect(firstDifference(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 3))).toBe(2);
    expect(equalBytes(Uint8Array.of(1), Uint8Array.of(1))).toBe(true);
    expect(equalBytes(Uint8Array.of(1), Uint8Array.of(1, 0))).toBe(false);
  });

  test("zeros are recognised at every length and alignment, and so is a single other byte", () => {
    for (const offset of [0, 1, 2, 4]) {
      for (const length of [0, 1, 3, 4, 7, 8, 512, 4096]) {
        const data = new Uint8Array(length + 8).subarray(offset, offset + length);
        expect(isZero(data)).toBe(true);
        for (const at of [0, 1, length >>> 1, length - 2, length - 1]) {
          if (at < 0 || at >= length) continue;
          data[at] = 1;
          expect(isZero(data)).toBe(false);
          data[at] = 0;
        }
      }
    }
  });

  test("hexadecimal goes both ways and takes blanks", () => {
    expect(toHex(fromHex("00 ff\n7A"))).toBe("00ff7a");
  });
});

describe("the system clock", () => {
  test("goes on, and a cancelled call never comes", async () => {
    const before = systemClock.now();
    let cancelled = false;
    systemClock.after(1, () => {
      cancelled = true;
    })();
    await new Promise<void>((resolve) => {
      systemClock.after(5, resolve);
      setTimeout(() => undefined, 10);
    });
    expect(systemClock.now()).toBeGreaterThan(before);
    expect(cancelled).toBe(false);
    expect(Math.abs(systemClock.wallMicroseconds() / 1000 - Date.now())).toBeLessThan(1000);
  });
});
