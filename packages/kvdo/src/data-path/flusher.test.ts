import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import fc from "fast-check";
import { expect, test } from "vitest";
import { StorageIo } from "../io/storage-io.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { DataVio } from "./data-vio.ts";
import { Flusher } from "./flusher.ts";

const NONE = Buffer.alloc(0);
const vioOf = (number: number): DataVio => new DataVio(number, NONE, NONE);
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function make(device = new RecordingDevice(new MemoryDevice({ blockCount: 64 }))) {
  const generations: number[] = [];
  const statistics = emptyStatistics();
  const io = new StorageIo(device, 0, statistics);
  const flusher = new Flusher(io, statistics, (generation) => {
    generations.push(generation);
  });
  return { flusher, generations, device, statistics, io };
}

test("a flush waits for the writes before it, not for those after", async () => {
  const { flusher, generations, device, statistics, io } = make();
  await io.writeData(0, [new Uint8Array(4096)]);
  const [first, second, third] = [vioOf(1), vioOf(2), vioOf(3)];
  flusher.join(first);
  flusher.join(second);
  let done = false;
  const flush = flusher.flush().then(() => {
    done = true;
  });
  expect(generations).toEqual([1]);
  flusher.join(third);
  expect(third.generation).toBe(1);
  flusher.leave(second);
  await settle();
  expect([done, flusher.isPending, device.of("flush").length]).toEqual([false, true, 0]);
  flusher.leave(first);
  await flush;
  expect([flusher.isPending, device.of("flush").length, statistics.flushOut]).toEqual([false, 1, 1]);
});

test("the device is not flushed again while all that was written is durable", async () => {
  const { flusher, device, statistics, io } = make();
  const block = new Uint8Array(4096);
  await flusher.flush();
  await io.writeMeta(0, 1, block, { fua: true });
  await flusher.flush();
  expect(device.of("flush").length).toBe(0);
  await io.writeMeta(0, 1, block);
  await flusher.flush();
  await flusher.flush();
  expect([device.of("flush").length, statistics.flushOut]).toEqual([1, 4]);
});

test("flushes are answered in order, each when its writes and all older ones are done", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.constant(-1), fc.constant(-2), fc.nat(9)), { maxLength: 60 }),
      async (steps) => {
        const { flusher } = make();
        const active = new Map<DataVio, number>();
        const answered: number[] = [];
        let flushes = 0;
        let number = 0;
        for (const step of steps) {
          if (step === -1) {
            const vio = vioOf(number++);
            flusher.join(vio);
            active.set(vio, flushes);
          } else if (step === -2) {
            const mine = flushes++;
            void flusher.flush().then(() => answered.push(mine));
          } else {
            const vio = [...active.keys()][step % Math.max(active.size, 1)];
            if (vio !== undefined) {
              active.delete(vio);
              flusher.leave(vio);
            }
          }
          await settle();
          const oldest = Math.min(flushes, ...active.values());
          expect(answered).toEqual(Array.from({ length: oldest }, (_, i) => i));
        }
        for (const vio of active.keys()) flusher.leave(vio);
        await settle();
        expect(answered).toHaveLength(flushes);
      },
    ),
    { numRuns: 60 },
  );
});

test("a vio that joined nothing leaves nothing; a failed flush of the device is the flush's error", async () => {
  const { flusher } = make();
  flusher.leave(vioOf(1));
  const device = new FaultyDevice(new MemoryDevice({ blockCount: 64 }), [{ operation: "flush", times: 1 }]);
  const statistics = emptyStatistics();
  const io = new StorageIo(device, 0, statistics);
  const failing = new Flusher(io, statistics, () => undefined);
  await io.writeData(0, [new Uint8Array(4096)]);
  await expect(failing.flush()).rejects.toMatchObject({ code: "VDO_IO" });
  // What the failed flush lost, no later one brings back.
  await expect(failing.flush()).rejects.toMatchObject({ code: "VDO_IO" });
});
