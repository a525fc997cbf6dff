import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import type { BlockDevice } from "./block-device.ts";
import { FileDevice } from "./file-device.ts";
import { MemoryDevice } from "./memory-device.ts";
import { SliceDevice } from "./slice-device.ts";
import { blockDeviceCompliance } from "./testing/compliance.ts";
import { FaultyDevice } from "./testing/faulty-device.ts";
import { RecordingDevice } from "./testing/recording-device.ts";
import { SimulatedDisk } from "./testing/simulated-disk.ts";

const runner = { describe, test };
let directory = "";
let files = 0;
const below: BlockDevice[] = [];
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "block-device-"));
});
afterAll(async () => {
  for (const device of below) await device.close();
  await rm(directory, { recursive: true });
});

async function newFile(blockSize: number): Promise<string> {
  const path = join(directory, `${files++}`);
  await writeFile(path, "");
  await truncate(path, 512 * blockSize);
  return path;
}

for (const blockSize of [512, 4096]) {
  blockDeviceCompliance(
    `MemoryDevice of ${blockSize}-byte blocks`,
    async () => new MemoryDevice({ blockCount: 512, blockSize }),
    runner,
    { blockSize, blockCount: 512, discard: true },
  );
  for (const inline of [false, true]) {
    blockDeviceCompliance(
      `FileDevice of ${blockSize}-byte blocks${inline ? ", inline transfers" : ""}`,
      async () => FileDevice.open({ path: await newFile(blockSize), blockSize, inline }),
      runner,
      {
        blockSize,
        blockCount: 512,
        reopen: async (device) => {
          await device.close();
          return FileDevice.open({ path: (device as FileDevice).path, blockSize, inline });
        },
        openReadOnly: async () =>
          FileDevice.open({ path: await newFile(blockSize), blockSize, readOnly: true, inline }),
      },
    );
  }
}

blockDeviceCompliance(
  "SliceDevice",
  async () => new SliceDevice(new MemoryDevice({ blockCount: 1024 }), { start: 300, blockCount: 400 }),
  runner,
  {
    blockCount: 400,
    openReadOnly: async () => {
      const file = await FileDevice.open({ path: await newFile(4096), readOnly: true });
      below.push(file);
      return new SliceDevice(file, { start: 10, blockCount: 100 });
    },
  },
);

blockDeviceCompliance("SimulatedDisk", async () => new SimulatedDisk({ blockCount: 512, seed: 7 }), runner, {
  discard: true,
});
blockDeviceCompliance(
  "SimulatedDisk without discard",
  async () => new SimulatedDisk({ blockCount: 512, seed: 8, discard: false }),
  runner,
  { discard: false },
);
blockDeviceCompliance(
  "RecordingDevice and FaultyDevice without rules",
  async () => new RecordingDevice(new FaultyDevice(new MemoryDevice({ blockCount: 512 }))),
  runner,
);
