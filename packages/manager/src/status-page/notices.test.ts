import { expect, test } from "vitest";
import { noticesOf } from "./notices.ts";

const calm = {
  name: "v0",
  stage: "ready",
  mode: "normal",
  isServedReadOnly: false,
  indexState: "online",
  recovery: null,
  usedShare: 0.5,
} as const;

test("a healthy volume asks for nothing", () => {
  expect(noticesOf(calm)).toEqual([]);
  expect(noticesOf({ ...calm, usedShare: 0.7999 })).toEqual([]);
  expect(noticesOf({ ...calm, indexState: "closed" })).toEqual([]);
});

test.each([
  ["80 % used", { usedShare: 0.8 }, "warning", "The volume is 80.0 % full", "growPhysical --name=v0"],
  ["95 % used", { usedShare: 0.9999 }, "critical", "The volume is 99.9 % full", "fstrim"],
  ["full", { usedShare: 1 }, "critical", "The volume is full", "growPhysical"],
  ["read-only", { mode: "read-only", usedShare: null }, "critical", "The volume is in read-only mode", "forceRebuild"],
  [
    "served read-only",
    { mode: "read-only", isServedReadOnly: true },
    "information",
    "The volume is served read-only",
    "vdo stop",
  ],
  ["recovering", { mode: "recovering", usedShare: null }, "warning", "The volume is recovering", "Wait"],
  ["starting", { stage: "starting", mode: null, usedShare: null }, "information", "The volume is starting", "Wait"],
  [
    "recovered before it is served",
    { stage: "starting", mode: null, usedShare: null, recovery: { cause: "crash", phase: "journal", done: 1, of: 2 } },
    "warning",
    "The volume is being recovered",
    "Wait",
  ],
  ["index failed", { indexState: "error" }, "warning", "The deduplication index has failed", "enableDeduplication"],
] as const)("%s: a notice with its meaning and the next step", (_case, change, severity, title, nextStep) => {
  const [notice, ...others] = noticesOf({ ...calm, ...change });
  expect(others).toEqual([]);
  expect(notice).toMatchObject({ severity, title });
  expect([notice?.nextStep, ...(notice?.commands ?? [])].join("\n")).toContain(nextStep);
  expect(notice?.text).not.toBe("");
});

test("the most urgent notice comes first", () => {
  const notices = noticesOf({ ...calm, indexState: "error", usedShare: 0.97 });
  expect(notices.map(({ severity }) => severity)).toEqual(["critical", "warning"]);
});
