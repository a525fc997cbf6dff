import { expect, test } from "vitest";
import { FullnessMonitor } from "./fullness.ts";

test("each level of fullness warns once, until the use has fallen well below it", () => {
  const warnings: string[] = [];
  const hooks: string[] = [];
  let usedBlocks = 0;
  let mode: "normal" | "recovering" = "normal";
  const status = () => ({
    mode,
    recovering: false,
    indexState: "online",
    compression: true,
    usedBlocks,
    totalBlocks: 10_000,
  });
  const clock = { now: () => 0, wallMicroseconds: () => 0, after: () => () => undefined };
  const monitor = new FullnessMonitor({
    name: "v0",
    status,
    clock,
    log: (_level, text) => warnings.push(text),
    onFull: (percent) => hooks.push(percent),
  });
  for (const used of [7900, 8069, 8100, 8499, 8500, 8100, 8499, 7900, 8000, 9999]) {
    usedBlocks = used;
    monitor.check();
  }
  expect(warnings).toEqual([
    "VDO v0 is now 80.69% full.",
    "VDO v0 is now 85.00% full.",
    "VDO v0 is now 80.00% full.",
    "VDO v0 is now 99.99% full.",
  ]);
  expect(hooks).toEqual(["80.69", "85.00", "80.00", "99.99"]);
  expect(monitor.warning).toBe("VDO v0 is now 99.99% full.");
  mode = "recovering";
  expect(monitor.warning).toBeUndefined();
  mode = "normal";
  usedBlocks = 7999;
  expect(monitor.warning).toBeUndefined();
});
