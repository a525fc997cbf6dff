import { expect, test } from "vitest";
import { spreadOf } from "./median.ts";

test("the median is the middle, or the mean of the two middle values", () => {
  expect(spreadOf([3, 1, 2])).toEqual({ median: 2, low: 1, high: 3 });
  expect(spreadOf([4, 1, 2, 3])).toEqual({ median: 2.5, low: 1, high: 4 });
  expect(spreadOf([]).median).toBeNaN();
});
