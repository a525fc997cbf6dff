import { expect, test } from "vitest";
import { calmLog, INTERVAL_MILLISECONDS } from "./calm-log.ts";

function setup() {
  const lines: string[] = [];
  const clock = { time: 0, now: () => clock.time };
  return { lines, clock, log: calmLog((level, text) => lines.push(`${level} ${text}`), clock) };
}

test("a complaint is written once in an interval, then with the times that it came", () => {
  const { lines, clock, log } = setup();
  for (let i = 0; i < 1000; i++) {
    log("error", "no");
    log("warning", "full");
    clock.time += 1;
  }
  expect(lines).toEqual(["error no", "warning full"]);
  clock.time = INTERVAL_MILLISECONDS;
  log("error", "no");
  log("error", "no");
  expect(lines.slice(2)).toEqual(["error no (and 999 more like it)"]);
  clock.time = 3 * INTERVAL_MILLISECONDS;
  log("error", "no");
  clock.time = 5 * INTERVAL_MILLISECONDS;
  log("error", "no");
  expect(lines.slice(3)).toEqual(["error no (and 1 more like it)", "error no"]);
});

test("what is no complaint is written each time, and of many texts the oldest are forgotten", () => {
  const { lines, log } = setup();
  for (let i = 0; i < 3; i++) log("info", "step");
  expect(lines).toHaveLength(3);
  for (let i = 0; i < 200; i++) log("error", `block ${i}`);
  log("error", "block 0");
  log("error", "block 199");
  expect(lines).toHaveLength(3 + 201);
});
