/** nbdkit is killed and started again and again while a device is written to. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { ReconnectingNbdDevice } from "@vdo/nbd";
import { describe, expect, test } from "vitest";

const BLOCK = 4096;
const BLOCKS = 2048;

async function writeWhileKilling(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "vdo-nbdkit-"));
  const file = join(folder, "disk");
  const socket = join(folder, "s");
  writeFileSync(file, new Uint8Array(BLOCKS * BLOCK));
  const start = async (): Promise<ChildProcess> => {
    rmSync(socket, { force: true });
    const server = spawn("nbdkit", ["-f", "-U", socket, "--filter=delay", "file", file, "delay-write=2ms"]);
    while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 5));
    return server;
  };
  let server = await start();
  const lost: string[] = [];
  const device = await ReconnectingNbdDevice.connect(`nbd+unix:///?socket=${socket}`, {
    onChange: ({ state }) => lost.push(state),
  });
  const expected = new Uint8Array(BLOCKS * BLOCK);
  let isDone = false;
  const killing = (async () => {
    while (!isDone) {
      await new Promise((resolve) => setTimeout(resolve, 400));
      server.kill("SIGKILL");
      await once(server, "exit");
      server = await start();
    }
  })();
  try {
    const random = new Random(9);
    for (let round = 0; round < 60; round++) {
      const writes = Array.from({ length: 16 }, async (_, i) => {
        const at = random.below(BLOCKS / 16) * 16 + i;
        const bytes = new Random(round * 16 + i + 1).fill(new Uint8Array(BLOCK));
        expected.set(bytes, at * BLOCK);
        await device.write(at, bytes, { fua: i === 3 });
      });
      await Promise.all(writes);
      if (round % 8 === 7) await device.flush();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const read = new Uint8Array(BLOCKS * BLOCK);
    await device.read(0, read);
    expect(firstDifference(read, expected)).toBe(-1);
  } finally {
    isDone = true;
    await killing;
  }
  await device.close();
  server.kill();
  await once(server, "exit");
  expect(lost.filter((state) => state === "lost").length).toBeGreaterThan(0);
  expect(firstDifference(new Uint8Array(readFileSync(file)), expected)).toBe(-1);
  rmSync(folder, { recursive: true });
}

describeWith(
  ["nbdkit"],
  "a device on an nbdkit",
  () => {
    test("has every write and every flush, however often the server is killed", writeWhileKilling);
  },
  { describe, test },
);
