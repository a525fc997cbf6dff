import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { MeasuredDevice } from "./measured-device.ts";

test("a measured device counts requests, bytes and the time to each answer, also of those that fail", async () => {
  let now = 0;
  const device = new MeasuredDevice(new MemoryDevice({ blockCount: 64 }), () => now);
  const write = device.write(0, new Uint8Array(8192));
  now = 250;
  await write;
  await device.read(0, new Uint8Array(4096));
  await device.flush();
  await device.discard?.(0, 3);
  await device.writeZeroes?.(3, 1);
  const failing = device.read(64, new Uint8Array(4096));
  now = 750;
  await expect(failing).rejects.toMatchObject({ code: "VDO_OUT_OF_RANGE" });
  expect(device.activity).toEqual({
    read: { requests: 2, bytes: 8192, seconds: 0.5 },
    write: { requests: 1, bytes: 8192, seconds: 0.25 },
    flush: { requests: 1, bytes: 0, seconds: 0 },
    discard: { requests: 2, bytes: 16384, seconds: 0 },
  });
});
