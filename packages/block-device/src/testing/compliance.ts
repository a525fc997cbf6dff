/**
 * The contract of {@link BlockDevice} as a test suite, run on everything that claims to be one.
 *
 * It depends on no test framework: pass vitest's `describe` and `test`, or any with the same shape.
 */
import { equalBytes, Random } from "@vdo/base";
import { type BlockDevice, writeVector } from "../block-device.ts";
import { modelTests } from "./compliance-model.ts";
import { check, pattern, readBack, refuses } from "./compliance-support.ts";

/** Where tests are registered. */
export interface TestRunner {
  describe(name: string, body: () => void): unknown;
  test(name: string, body: () => Promise<void>): unknown;
}

export interface ComplianceOptions {
  /** Block size every opened device must have. Default: any. */
  blockSize?: number;
  /** Number of blocks every opened device must have. Default: any from 64 up. */
  blockCount?: number;
  /** The device must offer `discard` (true) or must not (false). Default: either. */
  discard?: boolean;
  /** Closes `device` and opens the same storage again. Given where content outlives the object. */
  reopen?(device: BlockDevice): Promise<BlockDevice>;
  /** Opens a device that accepts no changes. */
  openReadOnly?(): Promise<BlockDevice>;
  /** Operations in the comparison with a model. Default 300. */
  operations?: number;
  /** Called after each test, once the device was closed. */
  cleanUp?(): Promise<void>;
}

/** A test body that gets a fresh device. */
export type DeviceTest = (name: string, body: (device: BlockDevice) => Promise<void>) => void;

/**
 * Registers the suite. `open` gives a new device of at least 64 blocks for each test, with arbitrary content; the suite
 * closes it.
 */
export function blockDeviceCompliance(
  name: string,
  open: () => Promise<BlockDevice>,
  runner: TestRunner,
  options: ComplianceOptions = {},
): void {
  const deviceTest: DeviceTest = (title, body) => {
    runner.test(title, async () => {
      const device = await open();
      try {
        await body(device);
      } finally {
        await device.close();
        await options.cleanUp?.();
      }
    });
  };
  runner.describe(`${name} keeps the block device contract`, () => {
    shapeTests(deviceTest, options);
    transferTests(deviceTest);
    refusalTests(deviceTest);
    durabilityTests(deviceTest, options);
    zeroTests(deviceTest, options);
    modelTests(deviceTest, options.operations ?? 300);
    closeTests(deviceTest);
    if (options.openReadOnly !== undefined) readOnlyTests(runner, options.openReadOnly, options);
  });
}

function shapeTests(deviceTest: DeviceTest, options: ComplianceOptions): void {
  deviceTest("block size and block count are as declared", async (device) => {
    const { blockSize, blockCount } = device;
    check(blockSize >= 512 && blockSize <= 65536 && (blockSize & (blockSize - 1)) === 0, `block size ${blockSize}`);
    check(Number.isSafeInteger(blockCount) && blockCount >= 64, `block count ${blockCount}`);
    check(blockSize === (options.blockSize ?? blockSize), `block size ${blockSize}, declared ${options.blockSize}`);
    check(blockCount === (options.blockCount ?? blockCount), `${blockCount} blocks, declared ${options.blockCount}`);
    if (options.discard !== undefined) check((device.discard !== undefined) === options.discard, "discard as declared");
  });
}

function transferTests(deviceTest: DeviceTest): void {
  deviceTest("what is written is read back, and the neighbours stay", async (device) => {
    const { blockSize } = device;
    await device.write(0, pattern(device, 16, 1));
    const middle = pattern(device, 3, 2);
    await device.write(5, middle);
    const all = await readBack(device, 0, 16);
    const expected = pattern(device, 16, 1);
    expected.set(middle, 5 * blockSize);
    check(equalBytes(all, expected), "blocks 0 to 15 after a write of 5 to 7");
  });

  deviceTest("the last block can be written and read", async (device) => {
    const data = pattern(device, 1, 3);
    await device.write(device.blockCount - 1, data);
    check(equalBytes(await readBack(device, device.blockCount - 1, 1), data), "the last block");
  });

  deviceTest("a read fills exactly its target, wherever that lies in memory", async (device) => {
    const { blockSize } = device;
    const data = pattern(device, 2, 4);
    await device.write(1, data);
    const memory = new Uint8Array(2 * blockSize + 64).fill(0xee);
    await device.read(1, memory.subarray(13, 13 + 2 * blockSize));
    check(equalBytes(memory.subarray(13, 13 + 2 * blockSize), data), "the target");
    const around = [...memory.subarray(0, 13), ...memory.subarray(13 + 2 * blockSize)];
    check(
      around.every((byte) => byte === 0xee),
      "bytes around the target",
    );
  });

  deviceTest("a write takes its source from any place in memory, leaves it alone, and forgets it", async (device) => {
    const { blockSize } = device;
    const data = pattern(device, 2, 5);
    const memory = new Uint8Array(2 * blockSize + 64);
    memory.set(data, 7);
    const source = memory.subarray(7, 7 + 2 * blockSize);
    await device.write(3, source);
    check(equalBytes(source, data), "the source after the write");
    source.fill(0xff);
    check(equalBytes(await readBack(device, 3, 2), data), "the device after the source was reused");
  });

  deviceTest("a vector is written like its parts one after the other", async (device) => {
    const parts = [pattern(device, 1, 6), pattern(device, 3, 7), pattern(device, 2, 8)];
    await writeVector(device, 10, parts);
    check(equalBytes(await readBack(device, 10, 6), Buffer.concat(parts)), "blocks 10 to 15");
  });

  deviceTest("requests of no bytes succeed and change nothing", async (device) => {
    const data = pattern(device, 1, 9);
    await device.write(0, data);
    await device.write(0, new Uint8Array(0));
    await device.read(device.blockCount, new Uint8Array(0));
    await device.discard?.(0, 0);
    await device.writeZeroes?.(0, 0);
    check(equalBytes(await readBack(device, 0, 1), data), "block 0");
  });

  deviceTest("a request of a mebibyte works", async (device) => {
    const count = Math.min(device.blockCount, (1 << 20) / device.blockSize);
    const data = pattern(device, count, 10);
    await device.write(0, data);
    check(equalBytes(await readBack(device, 0, count), data), "a mebibyte");
  });

  deviceTest("many requests in flight do not disturb each other", async (device) => {
    const count = Math.min(64, device.blockCount);
    const blocks = Array.from({ length: count }, (_, i) => pattern(device, 1, 100 + i));
    await Promise.all(blocks.map((data, i) => device.write(i, data)));
    const read = await Promise.all(blocks.map((_, i) => readBack(device, i, 1)));
    for (let i = 0; i < count; i++) check(equalBytes(read[i] as Uint8Array, blocks[i] as Uint8Array), `block ${i}`);
  });

  deviceTest("of overlapping writes in flight each block holds one, whole", async (device) => {
    const versions = Array.from({ length: 8 }, (_, i) => new Uint8Array(4 * device.blockSize).fill(i + 1));
    await Promise.all(versions.map((data, i) => device.write(i % 4, data)));
    for (let block = 0; block < 7; block++) {
      const data = await readBack(device, block, 1);
      check(data.every((byte) => byte === data[0]) && (data[0] as number) <= 8, `block ${block} holds a mixture`);
    }
  });
}

function refusalTests(deviceTest: DeviceTest): void {
  deviceTest("requests outside the device are refused with VDO_OUT_OF_RANGE", async (device) => {
    const { blockCount, blockSize } = device;
    const two = new Uint8Array(2 * blockSize);
    for (const start of [blockCount - 1, blockCount, -1, -2, 0.5, 2 ** 52, Number.NaN]) {
      await refuses(() => device.read(start, two), "VDO_OUT_OF_RANGE", `read at ${start}`);
      await refuses(() => device.write(start, two), "VDO_OUT_OF_RANGE", `write at ${start}`);
      if (device.discard !== undefined) {
        await refuses(
          () => (device as Required<BlockDevice>).discard(start, 2),
          "VDO_OUT_OF_RANGE",
          `discard at ${start}`,
        );
      }
      if (device.writeZeroes !== undefined) {
        const zero = (): Promise<void> => (device as Required<BlockDevice>).writeZeroes(start, 2);
        await refuses(zero, "VDO_OUT_OF_RANGE", `zeroing at ${start}`);
      }
    }
  });

  deviceTest("buffers that are not whole blocks are refused with VDO_BAD_ARGUMENT", async (device) => {
    for (const length of [1, device.blockSize - 1, device.blockSize + 512 - 1]) {
      await refuses(() => device.read(0, new Uint8Array(length)), "VDO_BAD_ARGUMENT", `read of ${length} bytes`);
      await refuses(() => device.write(0, new Uint8Array(length)), "VDO_BAD_ARGUMENT", `write of ${length} bytes`);
    }
  });
}

function durabilityTests(deviceTest: DeviceTest, { reopen }: ComplianceOptions): void {
  deviceTest("flushes succeed: with nothing to do, after writes, and several at once", async (device) => {
    await device.flush();
    await device.write(0, pattern(device, 4, 11));
    await Promise.all([device.flush(), device.flush(), device.write(4, pattern(device, 1, 12)), device.flush()]);
    check(equalBytes(await readBack(device, 0, 4), pattern(device, 4, 11)), "blocks 0 to 3");
  });

  deviceTest("writes with fua are read back", async (device) => {
    await device.write(2, pattern(device, 2, 13), { fua: true });
    await writeVector(device, 4, [pattern(device, 1, 14), pattern(device, 1, 15)], { fua: true });
    const expected = Buffer.concat([pattern(device, 2, 13), pattern(device, 1, 14), pattern(device, 1, 15)]);
    check(equalBytes(await readBack(device, 2, 4), expected), "blocks 2 to 5");
  });

  if (reopen === undefined) return;
  deviceTest("what was flushed is there after closing and opening again", async (device) => {
    await device.write(1, pattern(device, 8, 16));
    await device.flush();
    const again = await reopen(device);
    try {
      check(again.blockCount === device.blockCount, "the number of blocks is the same");
      check(equalBytes(await readBack(again, 1, 8), pattern(again, 8, 16)), "blocks 1 to 8");
    } finally {
      await again.close();
    }
  });
}

function zeroTests(deviceTest: DeviceTest, { discard }: ComplianceOptions): void {
  deviceTest("zeroed blocks read as zeros, and the neighbours stay", async (device) => {
    if (device.writeZeroes === undefined) return;
    for (const options of [{}, { mayUnmap: true }, { mayUnmap: false, fua: true }]) {
      await device.write(0, pattern(device, 12, 17));
      await device.writeZeroes(2, 8, options);
      const expected = pattern(device, 12, 17).fill(0, 2 * device.blockSize, 10 * device.blockSize);
      check(equalBytes(await readBack(device, 0, 12), expected), `blocks 0 to 11 with ${JSON.stringify(options)}`);
    }
  });

  if (discard !== false) {
    deviceTest("discarding leaves the neighbours, and the blocks can be written again", async (device) => {
      if (device.discard === undefined) return;
      await device.write(0, pattern(device, 12, 18));
      await device.discard(2, 8);
      await device.discard(3, 2, { fua: true });
      check(
        equalBytes(await readBack(device, 0, 2), pattern(device, 12, 18).subarray(0, 2 * device.blockSize)),
        "before",
      );
      const after = pattern(device, 12, 18).subarray(10 * device.blockSize);
      check(equalBytes(await readBack(device, 10, 2), after), "after");
      await device.write(4, pattern(device, 2, 19));
      check(equalBytes(await readBack(device, 4, 2), pattern(device, 2, 19)), "written again");
    });
  }

  deviceTest("extents follow each other without gaps, and those said to be zero read as zeros", async (device) => {
    if (device.extents === undefined) return;
    await device.write(3, pattern(device, 2, 20));
    await device.discard?.(8, 8);
    const last = Math.min(device.blockCount, 4096);
    let block = 0;
    while (block < last) {
      const extents = await device.extents(block, last - block);
      check(extents.length > 0, `extents from block ${block}`);
      for (const { count, zero } of extents) {
        check(Number.isInteger(count) && count >= 1 && block + count <= last, `extent of ${count} at block ${block}`);
        check(!zero || block > 4 || block + count <= 3, "written blocks are not said to be zero");
        const looked = Math.min(count, 16);
        if (zero)
          check(
            (await readBack(device, block, looked)).every((byte) => byte === 0),
            `zeros at block ${block}`,
          );
        block += count;
      }
    }
    const inside = await device.extents(4, 3);
    check(inside[0] !== undefined && inside[0].count <= 3, "extents begin where they were asked for");
  });
}

function closeTests(deviceTest: DeviceTest): void {
  deviceTest(
    "close waits for requests in flight, may be repeated, and later requests get VDO_CLOSED",
    async (device) => {
      let written = false;
      const write = device.write(0, pattern(device, 4, 21)).then(() => {
        written = true;
      });
      await device.close();
      await write;
      check(written, "the write in flight ended");
      await device.close();
      const block = new Uint8Array(device.blockSize);
      await refuses(() => device.read(0, block), "VDO_CLOSED", "read after close");
      await refuses(() => device.write(0, block), "VDO_CLOSED", "write after close");
      await refuses(() => device.flush(), "VDO_CLOSED", "flush after close");
    },
  );
}

function readOnlyTests(
  runner: TestRunner,
  openReadOnly: () => Promise<BlockDevice>,
  { cleanUp }: ComplianceOptions,
): void {
  runner.test("opened read-only, changes are refused with VDO_READ_ONLY and reads work", async () => {
    const device = await openReadOnly();
    try {
      check(device.readOnly === true, "readOnly is true");
      const block = new Uint8Array(device.blockSize);
      await device.read(new Random(1).below(device.blockCount), block);
      await refuses(() => device.write(0, block), "VDO_READ_ONLY", "write");
      if (device.discard !== undefined) {
        await refuses(() => (device as Required<BlockDevice>).discard(0, 1), "VDO_READ_ONLY", "discard");
      }
      if (device.writeZeroes !== undefined) {
        await refuses(() => (device as Required<BlockDevice>).writeZeroes(0, 1), "VDO_READ_ONLY", "zeroing");
      }
      await device.flush();
    } finally {
      await device.close();
      await cleanUp?.();
    }
  });
}
