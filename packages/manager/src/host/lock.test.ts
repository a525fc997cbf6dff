import { spawn } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@vdo/base";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { acquireLock, isAlive } from "./lock.ts";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-lock-"));
  path = join(folder, "a.lock");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("locks", () => {
  test("one holder at a time; released, the next one has it", async () => {
    const first = await acquireLock(path, 0, systemClock);
    expect(first).toBeDefined();
    expect(await acquireLock(path, 0, systemClock)).toBeUndefined();
    const waiting = acquireLock(path, 5000, systemClock);
    await first?.release();
    const second = await waiting;
    expect(second).toBeDefined();
    await second?.release();
    await expect(stat(path)).rejects.toThrow("ENOENT");
  });

  test("a lock whose holder was killed is taken over, by one of many", async () => {
    const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => console.log("held"))`;
    const holder = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    expect(await acquireLock(path, 0, systemClock)).toBeUndefined();
    const ended = new Promise((resolve) => holder.once("exit", resolve));
    holder.kill("SIGKILL");
    await ended;
    expect(await isAlive(path)).toBe(false);
    const locks = await Promise.all(Array.from({ length: 8 }, () => acquireLock(path, 0, systemClock)));
    const held = locks.filter((lock) => lock !== undefined);
    expect(held).toHaveLength(1);
    await held[0]?.release();
  });

  test("a folder that is missing is an error, not a wait", async () => {
    await expect(acquireLock(join(folder, "no/such.lock"), 60_000, systemClock)).rejects.toMatchObject({
      code: "EACCES",
    });
  });
});
