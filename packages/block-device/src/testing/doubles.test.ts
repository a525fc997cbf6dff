import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "@vdo/base";
import { afterEach, describe, expect, test, vi } from "vitest";
import { MemoryDevice } from "../memory-device.ts";
import { FaultyDevice } from "./faulty-device.ts";
import { RecordingDevice } from "./recording-device.ts";
import { describeWith, findProgram, requirePrograms } from "./requirements.ts";

const block = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

describe("the recording device", () => {
  test("notes every operation with its place, fua, data and outcome", async () => {
    const device = new RecordingDevice(new MemoryDevice({ blockCount: 64 }), { keepData: true });
    await device.write(3, block(1), { fua: true });
    await device.flush();
    await device.discard(5, 2);
    await expect(device.read(64, block(0))).rejects.toMatchObject({ code: "VDO_OUT_OF_RANGE" });
    expect(device.log.map(({ kind, start, count, fua, outcome }) => [kind, start, count, fua, outcome])).toEqual([
      ["write", 3, 1, true, "done"],
      ["flush", 0, 0, false, "done"],
      ["discard", 5, 2, false, "done"],
      ["read", 64, 1, false, "failed"],
    ]);
    expect(device.of("write")[0]?.data?.[0]).toBe(1);
  });
});

describe("the faulty device", () => {
  test("fails the operations its rule names: which blocks, from which time on, how often", async () => {
    const rule = { operation: "write", blocks: { start: 10, count: 5 }, after: 1, times: 2 } as const;
    const device = new FaultyDevice(new MemoryDevice({ blockCount: 64 }), [rule]);
    const outcomes: string[] = [];
    for (const start of [9, 10, 14, 15, 12, 12]) {
      await device.write(start, block(1)).then(
        () => outcomes.push("done"),
        (error: { code: string }) => outcomes.push(error.code),
      );
    }
    expect(outcomes).toEqual(["done", "done", "VDO_IO", "done", "VDO_IO", "done"]);
    await device.read(12, block(0));
    expect(device.faults).toBe(2);
  });

  test("can run out of space, and can be repaired", async () => {
    const device = new FaultyDevice(new MemoryDevice({ blockCount: 64 }), [{ operation: "write", fault: "no-space" }]);
    await expect(device.write(0, block(1))).rejects.toMatchObject({ code: "VDO_NO_SPACE" });
    await expect(device.writeZeroes(0, 1)).rejects.toMatchObject({ code: "VDO_NO_SPACE" });
    device.clear();
    await device.write(0, block(1));
  });

  test("can dawdle by the clock it was given", async () => {
    const waits: number[] = [];
    const clock: Clock = {
      now: () => 0,
      wallMicroseconds: () => 0,
      after: (milliseconds, run) => {
        waits.push(milliseconds);
        queueMicrotask(run);
        return () => undefined;
      },
    };
    const device = new FaultyDevice(
      new MemoryDevice({ blockCount: 64 }),
      [{ operation: "flush", fault: { delayMs: 50 } }],
      clock,
    );
    await device.flush();
    expect(waits).toEqual([50]);
  });
});

describe("requirements", () => {
  afterEach(() => vi.unstubAllEnvs());

  test("name the Debian package of a missing program", () => {
    vi.stubEnv("PATH", "/nonexistent");
    expect(findProgram("sh")).toBeDefined();
    expect(requirePrograms("sh", "no-such-program", "/dev/no-such-node").missing).toEqual([
      { program: "no-such-program", debianPackage: "no-such-program" },
      { program: "/dev/no-such-node", debianPackage: "(a kernel that offers it)" },
    ]);
  });

  const register = (): { names: string[]; bodies: (() => Promise<void>)[] } => {
    const names: string[] = [];
    const bodies: (() => Promise<void>)[] = [];
    describeWith(["no-such-program"], "group", () => names.push("the real tests"), {
      describe: (_, body) => body(),
      test: (name, body) => {
        names.push(name);
        bodies.push(body);
      },
    });
    return { names, bodies };
  };

  test("are recorded as a gap when they are not met", async () => {
    const directory = mkdtempSync(join(tmpdir(), "gaps-"));
    vi.stubEnv("VDO_TEST_GAPS", join(directory, "gaps.jsonl"));
    vi.stubEnv("CI", "");
    const { names, bodies } = register();
    expect(names).toEqual(["NOT RUN, for want of no-such-program (no-such-program)"]);
    await bodies[0]?.();
    const missing = [{ program: "no-such-program", debianPackage: "no-such-program" }];
    expect(JSON.parse(readFileSync(join(directory, "gaps.jsonl"), "utf8"))).toEqual({ name: "group", missing });
    rmSync(directory, { recursive: true });
  });

  test("fail the run in CI when they are not met", async () => {
    vi.stubEnv("CI", "true");
    const { names, bodies } = register();
    expect(names).toEqual(["has the programs it needs"]);
    await expect(bodies[0]?.()).rejects.toThrow("no-such-program");
  });
});
