import { VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { emptyStatistics } from "../statistics/index.ts";
import { IO_JOURNAL, IO_META, StorageIo } from "./storage-io.ts";

const block = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

/** A device whose first flush fails; all others succeed. */
function deviceWithOneBadFlush(): { device: BlockDevice; written: number[] } {
  const memory = new MemoryDevice({ blockCount: 16 });
  const written: number[] = [];
  let flushes = 0;
  const device: BlockDevice = {
    blockSize: memory.blockSize,
    blockCount: memory.blockCount,
    read: (start, target) => memory.read(start, target),
    async write(start, source) {
      written.push(start);
      await memory.write(start, source);
    },
    async flush() {
      if (flushes++ === 0) throw new VdoError("VDO_IO", "no", { operation: "flush", block: 0 });
    },
    close: () => memory.close(),
  };
  return { device, written };
}

test("after a failed flush no write that needs one is made, though a later flush would succeed (simulation, seed 117)", async () => {
  const { device, written } = deviceWithOneBadFlush();
  const io = new StorageIo(device, 0, emptyStatistics());
  await io.writeMeta(IO_META, 1, block(1));
  const first = io.deviceFlush();
  // The second flush is asked for once the first has begun, so it is another one, and begins when that has failed.
  await Promise.resolve();
  const commit = io.writeMeta(IO_JOURNAL, 2, block(2), { preflush: true, fua: true });
  await expect(first).rejects.toMatchObject({ code: "VDO_IO" });
  await expect(commit).rejects.toMatchObject({ code: "VDO_IO" });
  await expect(io.deviceFlush()).rejects.toMatchObject({ code: "VDO_IO" });
  expect(io.isDurable).toBe(false);
  expect(written).toEqual([1]);
});

test("the record of a failure is written after a failed flush", async () => {
  const { device, written } = deviceWithOneBadFlush();
  const io = new StorageIo(device, 0, emptyStatistics());
  await expect(io.deviceFlush()).rejects.toMatchObject({ code: "VDO_IO" });
  await io.writeMeta(IO_META, 3, block(3), { preflush: true, fua: true, isRecordOfFailure: true });
  expect(written).toEqual([3]);
});
