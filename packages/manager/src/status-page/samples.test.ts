import fc from "fast-check";
import { expect, test } from "vitest";
import { RecentSamples, ThinningSamples } from "./samples.ts";

test("recent samples are the last ones", () => {
  const recent = new RecentSamples<number>(3);
  expect(recent.last).toBeUndefined();
  for (let value = 0; value < 5; value++) recent.add(value);
  expect(recent.values()).toEqual([2, 3, 4]);
  expect(recent.last).toBe(4);
});

test("thinning samples keep the whole time at even distances, within their limit", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 0, max: 2000 }), (half, count) => {
      const samples = new ThinningSamples<number>(2 * half);
      for (let value = 0; value < count; value++) samples.add(value);
      const kept = samples.values();
      expect(kept.length).toBeLessThanOrEqual(2 * half);
      expect(kept).toEqual(kept.map((_value, index) => index * samples.stride));
      if (count > 0) expect(count - 1 - (kept.at(-1) as number)).toBeLessThan(samples.stride);
      if (count >= 2 * half) expect(kept.length).toBeGreaterThanOrEqual(half);
    }),
  );
});
