import { blockDeviceCompliance } from "@vdo/block-device/testing";
import { describe, test } from "vitest";
import { PloopDevice } from "../src/device/ploop-device.ts";
import { memoryImage } from "./support/images.ts";

type Runner = Parameters<typeof blockDeviceCompliance>[2];
const runner: Runner = { describe, test };

for (const version of [1, 2] as const) {
  blockDeviceCompliance(
    `a single delta, version ${version}`,
    async () => PloopDevice.open({ deltas: [{ file: await memoryImage("top", { version }) }], extendBytes: 65536 }),
    runner,
    { blockSize: 512, blockCount: 2048, discard: true },
  );
}

async function stack(): Promise<PloopDevice> {
  const base = await memoryImage("base", { mode: "raw", sizeSectors: 1024 });
  await base.write(0, new Uint8Array(base.length).fill(0x11));
  const files = [await memoryImage("middle"), await memoryImage("top")];
  return PloopDevice.open({
    deltas: [{ file: base, raw: true }, ...files.map((file) => ({ file }))],
    blockSize: 4096,
    extendBytes: 1,
  });
}

blockDeviceCompliance("a raw base under two deltas", stack, runner, { blockSize: 4096, discard: true });
