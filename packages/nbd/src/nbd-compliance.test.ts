import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { blockDeviceCompliance, SimulatedDisk } from "@vdo/block-device/testing";
import { afterAll, describe, test } from "vitest";
import { NbdClient } from "./client/nbd-client.ts";
import { NbdServer } from "./server/nbd-server.ts";

const directory = mkdtempSync(join(tmpdir(), "nbd-"));
afterAll(() => rmSync(directory, { recursive: true }));

let sockets = 0;
let server: NbdServer | undefined;

async function serve(device: BlockDevice, options: { blockSize: number; readOnly?: boolean }): Promise<NbdClient> {
  const path = join(directory, `${sockets++}.sock`);
  server = new NbdServer({ exports: [{ name: "disk", device, readOnly: options.readOnly ?? false }] });
  await server.listen({ path });
  return NbdClient.connect({ path, exportName: "disk" }, { blockSize: options.blockSize });
}
const cleanUp = async (): Promise<void> => server?.close();

/** The client's blocks against the device's: equal, larger, and smaller (so that the server has to read, modify, write). */
for (const [blockSize, deviceBlockSize] of [
  [4096, 4096],
  [4096, 512],
  [512, 4096],
] as const) {
  const blockCount = (512 * 4096) / deviceBlockSize;
  blockDeviceCompliance(
    `NbdClient of ${blockSize}-byte blocks over a device of ${deviceBlockSize}`,
    () => serve(new MemoryDevice({ blockCount, blockSize: deviceBlockSize }), { blockSize }),
    { describe, test },
    {
      blockSize,
      blockCount: (512 * 4096) / blockSize,
      discard: true,
      cleanUp,
      openReadOnly: () => serve(new MemoryDevice({ blockCount: 512 }), { blockSize: 4096, readOnly: true }),
    },
  );
}

blockDeviceCompliance(
  "NbdClient of 512-byte blocks over a simulated disk that answers in any order and cannot zero",
  () => serve(new SimulatedDisk({ blockCount: 512, seed: 5, discard: false }), { blockSize: 512 }),
  { describe, test },
  { cleanUp },
);
