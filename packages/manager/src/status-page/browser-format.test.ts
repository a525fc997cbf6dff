import fc from "fast-check";
import { expect, test } from "vitest";
import {
  bytesText,
  durationText,
  flatValues,
  millisecondsText,
  percentText,
  shortNumber,
  timeText,
} from "./browser/format.ts";
import { linePath, lonePoints, roundUp, Scale, thinned } from "./browser/geometry.ts";

test("figures read as people write them", () => {
  expect([0, 1023, 1024, 1536 * 1024, 3 * 1024 ** 3, 2 ** 60].map(bytesText)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 MiB",
    "3.0 GiB",
    "1024.0 PiB",
  ]);
  expect([0, 0.456, 4.56, 45.6, 4560].map(shortNumber)).toEqual(["0", "0.46", "4.6", "46", "4560"]);
  expect(millisecondsText(null)).toBe("none");
  expect(percentText(null)).toBe("not known yet");
  expect([1, 59, 60, 7200, 86_400 * 3].map(durationText)).toEqual([
    "1 second",
    "59 seconds",
    "1 minute",
    "2 hours",
    "3 days",
  ]);
  const noon = new Date(2026, 0, 2, 12, 3, 4);
  expect(timeText(noon, noon)).toBe("12:03:04");
  expect(timeText(noon, new Date(2026, 0, 3))).toBe("2026-01-02 12:03:04");
  expect(flatValues({ a: 1, b: { c: "x", d: { e: true } } })).toEqual([
    ["a", "1"],
    ["b.c", "x"],
    ["b.d.e", "true"],
  ]);
});

const frame = { width: 100, height: 50, left: 10, right: 10, top: 5, bottom: 5 };

test("a line passes through its points, with gaps where nothing was measured", () => {
  const scale = new Scale(frame, { begin: 0, end: 80, top: 10 });
  const points = [0, 10, null, 5, null, 0].map((value, index) => ({ at: index * 16, value }));
  expect(linePath(points, scale)).toBe("M10 45L26 5M58 25M90 45");
  expect(lonePoints(points)).toEqual([
    { at: 48, value: 5 },
    { at: 80, value: 0 },
  ]);
  expect(linePath([], scale)).toBe("");
});

test("the upper edge of a chart is round and not below the highest value", () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-3, max: 1e12, noNaN: true }), (value) => {
      const edge = roundUp(value);
      expect(edge).toBeGreaterThanOrEqual(value * (1 - 1e-9));
      expect(edge).toBeLessThanOrEqual(value * 2.5 * (1 + 1e-9));
      expect(roundUp(value, 1024)).toBeGreaterThanOrEqual(value * (1 - 1e-9));
    }),
  );
  expect([0, 0.3, 1, 3, 70].map((value) => roundUp(value))).toEqual([1, 0.5, 1, 5, 100]);
  expect(roundUp(40 * 1024 ** 2, 1024)).toBe(64 * 1024 ** 2);
});

test("thinning keeps the last item and the limit", () => {
  fc.assert(
    fc.property(fc.array(fc.integer()), fc.integer({ min: 1, max: 20 }), (items, limit) => {
      const kept = thinned(items, limit);
      expect(kept.length).toBeLessThanOrEqual(limit);
      expect(kept.at(-1)).toBe(items.at(-1));
    }),
  );
});
