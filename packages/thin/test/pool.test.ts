import { isVdoError, type VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { FaultyDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import {
  formatPoolTable,
  POOL_MODE_MOVES,
  parseMessage,
  parsePoolTable,
  ThinPool,
  type ThinVolume,
} from "../src/index.ts";
import { problemsOf, smallPool } from "./support/pools.ts";

const BLOCK = new Uint8Array(65_536);
const filled = (byte: number, length = 65_536): Uint8Array => new Uint8Array(length).fill(byte);
const code = (wanted: string) => (error: unknown) => isVdoError(error) && error.code === wanted;

async function byteAt(
  volume: { read(start: number, target: Uint8Array): Promise<void> },
  block: number,
): Promise<number> {
  const target = new Uint8Array(4096);
  await volume.read(block, target);
  return target[0] as number;
}

describe("a thin pool", () => {
  test("shows the kernel's status, table and messages", async () => {
    const { pool, metadata } = await smallPool({ dataBlocks: 5120 });
    expect(await pool.status()).toBe("0 111/1024 0/5120 - rw discard_passdown queue_if_no_space - 256 ");
    expect(pool.table({ metadata: "254:0", data: "254:16" })).toBe("254:0 254:16 128 0 0 ");
    await pool.message("CREATE_THIN 0");
    await pool.message("create_snap 1 0");
    await pool.message("set_transaction_id 0 7");
    await pool.message("reserve_metadata_snap");
    expect(await pool.status()).toMatch(/^7 \d+\/1024 0\/5120 \d+ rw /);
    await expect(pool.message("reserve_metadata_snap")).rejects.toSatisfy(code("VDO_THIN_BUSY"));
    await pool.message("release_metadata_snap");
    await expect(pool.message("release_metadata_snap")).rejects.toSatisfy(code("VDO_THIN_MISMATCH"));
    await expect(pool.message("create_thin 1")).rejects.toSatisfy(code("VDO_THIN_EXISTS"));
    await expect(pool.message("create_snap 2 9")).rejects.toSatisfy(code("VDO_THIN_NOT_FOUND"));
    await expect(pool.message("delete 9")).rejects.toSatisfy(code("VDO_THIN_NOT_FOUND"));
    await expect(pool.message("set_transaction_id 0 8")).rejects.toThrow(/mismatched transaction id/);
    await pool.message("delete 0");
    expect((await pool.devices()).map(({ id }) => id)).toEqual([1]);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test.each([
    ["create_thin", "Message received with 1 arguments instead of 2."],
    ["create_thin 16777216", "Message received with invalid device id: 16777216"],
    ["create_thin -1", "Message received with invalid device id: -1"],
    ["fly", "Unrecognised thin pool target message received: fly"],
  ])("refuses the message %s as the kernel does", (message, text) => {
    expect(() => parseMessage(message)).toThrow(text);
  });

  test("reads and writes table lines", () => {
    const line = "253:0 253:1 128 0 3 error_if_no_space SKIP_BLOCK_ZEROING no_discard_passdown";
    expect(formatPoolTable(parsePoolTable(line))).toBe(
      "253:0 253:1 128 0 3 skip_block_zeroing no_discard_passdown error_if_no_space ",
    );
    for (const wrong of [
      "a b 128",
      "a a 128 0",
      "a b 64 0",
      "a b 185 0",
      "a b 2097280 0",
      "a b 128 x",
      "a b 128 0 1",
      "a b 128 0 1 fly",
    ]) {
      expect(() => parsePoolTable(wrong), wrong).toThrow();
    }
    expect(parsePoolTable("a b 2097152 5").blockSectors).toBe(2_097_152);
  });

  test("costs nothing for a snapshot, and shares until a side writes", async () => {
    const { pool, metadata } = await smallPool();
    await pool.createThin(0);
    const origin = await pool.volume({ id: 0, sectors: 128 * 100 });
    for (let block = 0; block < 10; block++) await origin.write(block * 16, filled(block + 1));
    await pool.createSnapshot(1, 0);
    expect((await pool.figures()).usedDataBlocks).toBe(10);
    const snapshot = await pool.volume({ id: 1, sectors: 128 * 100 });
    await origin.write(3, filled(99, 4096));
    expect([await byteAt(origin, 3), await byteAt(origin, 2), await byteAt(snapshot, 3)]).toEqual([99, 1, 1]);
    await snapshot.write(16, filled(77));
    expect([await byteAt(origin, 16), await byteAt(snapshot, 16)]).toEqual([2, 77]);
    expect((await pool.figures()).usedDataBlocks).toBe(12);
    expect(await snapshot.status()).toBe("1280 1279");
    await expect(pool.delete(1)).rejects.toSatisfy(code("VDO_THIN_BUSY"));
    await snapshot.close();
    await pool.delete(1);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("answers the same at depth 1 and at depth 100", async () => {
    const { pool, metadata } = await smallPool();
    await pool.createThin(0);
    const origin = await pool.volume({ id: 0, sectors: 128 * 16 });
    await origin.write(0, filled(1));
    for (let id = 1; id <= 100; id++) await pool.createSnapshot(id, id - 1);
    const deep = await pool.volume({ id: 100, sectors: 128 * 16 });
    expect(await byteAt(deep, 0)).toBe(1);
    await origin.write(0, filled(2));
    expect(await byteAt(deep, 0)).toBe(1);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("passes discards down where nobody else needs the blocks", async () => {
    const { pool, metadata, data } = await smallPool();
    await pool.createThin(0);
    const origin = await pool.volume({ id: 0, sectors: 128 * 100 });
    await origin.write(0, filled(5, 65_536 * 4));
    await pool.createSnapshot(1, 0);
    await origin.discard?.(0, 32);
    expect((await data.extents(0, 64))[0]).toMatchObject({ count: 64, hole: false });
    const snapshot = await pool.volume({ id: 1, sectors: 128 * 100 });
    expect([await byteAt(origin, 0), await byteAt(snapshot, 0)]).toEqual([0, 5]);
    await origin.discard?.(33, 31); // blocks 2 (in part) and 3
    expect(await byteAt(origin, 40)).toBe(5);
    expect((await pool.figures()).usedDataBlocks).toBe(4);
    await snapshot.discard?.(0, 64);
    expect((await pool.figures()).usedDataBlocks).toBe(1);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("zeroes every block of a range, also behind one that is not mapped", async () => {
    const { pool } = await smallPool();
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    await volume.write(16, filled(5, 65_536 * 2));
    await volume.writeZeroes(10, 20, { mayUnmap: true });
    expect([await byteAt(volume, 16), await byteAt(volume, 29), await byteAt(volume, 30)]).toEqual([0, 0, 5]);
    await pool.close();
  });

  /** A pool with a device whose first block is mapped and committed; `log` tells what its data device is asked for. */
  async function logged(): Promise<{ pool: ThinPool; volume: ThinVolume; log: string[] }> {
    const data = new MemoryDevice({ blockCount: 1024 });
    const log: string[] = [];
    const watched: BlockDevice = {
      blockSize: data.blockSize,
      blockCount: data.blockCount,
      read: (start, target) => data.read(start, target),
      write: async (start, source, options) => {
        log.push(options?.fua === true ? "write through" : "write");
        await data.write(start, source);
      },
      flush: async () => void log.push("flush"),
      close: () => data.close(),
    };
    const pool = await ThinPool.open({
      metadata: new MemoryDevice({ blockCount: 1024 }),
      data: watched,
      blockSectors: 128,
    });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 10 });
    await volume.write(0, filled(1));
    await volume.flush();
    log.length = 0;
    return { pool, volume, log };
  }

  test("is durable when it was closed, though nothing was left to commit", async () => {
    const { pool, volume, log } = await logged();
    await volume.write(0, filled(2, 4096));
    await volume.close();
    await pool.close();
    expect(log).toEqual(["write", "flush"]);
  });

  test("flushes a write with FUA that waited for a commit", async () => {
    const { pool, volume, log } = await logged();
    await volume.write(16, filled(2));
    const commit = pool.flush();
    await Promise.all([commit, volume.write(0, filled(3, 4096), { fua: true })]);
    const last = Math.max(log.lastIndexOf("write"), log.lastIndexOf("write through"));
    expect(log[last] === "write through" || log.slice(last).includes("flush"), log.join(", ")).toBe(true);
    await pool.close();
  });

  test("fails only the write whose own blocks fail, though they went down together, and leaks nothing", async () => {
    const metadata = new MemoryDevice({ blockCount: 1024 });
    const data = new FaultyDevice(new MemoryDevice({ blockCount: 4096 }));
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    data.add({ operation: "write", times: 2 });
    const outcomes = await Promise.allSettled([
      volume.write(0, filled(1, 4096)),
      volume.write(160, filled(2, 4096)),
      volume.write(320, filled(3, 4096)),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "fulfilled"]);
    expect([await byteAt(volume, 0), await byteAt(volume, 160), await byteAt(volume, 320)]).toEqual([0, 2, 3]);
    expect((await pool.figures()).usedDataBlocks).toBe(2);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("queues writes when it is full, and goes on when there is space", async () => {
    const { pool, metadata, events } = await smallPool({ dataBlocks: 8, lowWater: 2 });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    await volume.write(0, filled(1, 65_536 * 7));
    expect(events.filter(({ kind }) => kind === "low_water")).toHaveLength(0);
    const late = volume.write(20 * 16, filled(2, 65_536 * 3));
    while (pool.mode === "write") await new Promise((resolve) => setImmediate(resolve));
    expect(pool.mode).toBe("out_of_data_space");
    expect(events.filter(({ kind }) => kind === "low_water")).toHaveLength(1);
    expect(await pool.status()).toMatch(/ 8\/8 - out_of_data_space discard_passdown queue_if_no_space /);
    expect(await byteAt(volume, 0)).toBe(1);
    await volume.discard?.(0, 16 * 4);
    await late;
    expect(pool.mode).toBe("write");
    expect(await byteAt(volume, 22 * 16)).toBe(2);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("fails writes when it is full and was told so, or after the time-out", async () => {
    const first = await smallPool({ dataBlocks: 2, features: { errorIfNoSpace: true } });
    await first.pool.createThin(0);
    const volume = await first.pool.volume({ id: 0, sectors: 128 * 100 });
    await expect(volume.write(0, filled(1, 65_536 * 3))).rejects.toSatisfy(code("VDO_NO_SPACE"));
    await volume.write(0, filled(2, 65_536 * 2));
    await volume.close();
    await first.pool.delete(0);
    expect(first.pool.mode).toBe("write");
    await first.pool.close();
    expect(await problemsOf(first.metadata)).toEqual([]);

    const timers: (() => void)[] = [];
    const clock = {
      now: () => 0,
      wallMicroseconds: () => 0,
      after: (_ms: number, run: () => void) => {
        timers.push(run);
        return () => {};
      },
    };
    const { pool } = await smallPool({ dataBlocks: 2, clock });
    await pool.createThin(0);
    const queued = (await pool.volume({ id: 0, sectors: 128 * 100 })).write(0, filled(1, 65_536 * 3));
    const outcome = expect(queued).rejects.toSatisfy(code("VDO_NO_SPACE"));
    while (pool.mode === "write") await new Promise((resolve) => setImmediate(resolve));
    timers.at(-1)?.();
    await outcome;
    expect(await pool.status()).toMatch(/out_of_data_space discard_passdown error_if_no_space/);
    await pool.close();
  });

  test("grows with its devices and refuses smaller ones", async () => {
    const { pool, metadata, data } = await smallPool({ dataBlocks: 100, dataSectors: 128 * 50 });
    expect((await pool.figures()).totalDataBlocks).toBe(50);
    await pool.resize(128 * 100);
    expect((await pool.figures()).totalDataBlocks).toBe(100);
    await expect(pool.resize(128 * 99)).rejects.toThrow("pool target (99 blocks) too small: expected 100");
    await pool.close();
    const larger = new MemoryDevice({ blockCount: 3000 });
    const image = new Uint8Array(1024 * 4096);
    await metadata.read(0, image);
    await larger.write(0, image);
    const again = await ThinPool.open({ metadata: larger, data, blockSectors: 128 });
    expect((await again.figures()).totalMetadataBlocks).toBe(3000);
    await again.close();
    expect(await problemsOf(larger)).toEqual([]);
    const small = MemoryDevice.from(image.subarray(0, 1000 * 4096));
    await expect(ThinPool.open({ metadata: small, data, blockSectors: 128 })).rejects.toThrow();
    await expect(ThinPool.open({ metadata, data, blockSectors: 256 })).rejects.toThrow(/changing the data block size/);
  });

  test("never formats what is not blank", async () => {
    const metadata = new MemoryDevice({ blockCount: 1024 });
    await metadata.write(0, filled(1, 4096));
    const data = new MemoryDevice({ blockCount: 1024 });
    await expect(ThinPool.open({ metadata, data, blockSectors: 128 })).rejects.toSatisfy(code("VDO_CORRUPT"));
    const blank = new MemoryDevice({ blockCount: 1024 });
    const readOnly = ThinPool.open({ metadata: blank, data, blockSectors: 128, features: { readOnly: true } });
    await expect(readOnly).rejects.toSatisfy(code("VDO_READ_ONLY"));
    expect(await blank.extents(0, 1024)).toMatchObject([{ count: 1024, hole: true }]);
  });

  test("becomes read-only with needs_check when a commit fails, and claims nothing as durable", async () => {
    const base = new MemoryDevice({ blockCount: 1024 });
    const metadata = new FaultyDevice(base);
    const data = new MemoryDevice({ blockCount: 1024 });
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 20 });
    await volume.write(0, filled(1));
    await volume.flush();
    await volume.write(16, filled(2));
    metadata.add({ operation: "write", times: 1 });
    await expect(volume.flush()).rejects.toSatisfy(code("VDO_IO"));
    expect(pool.mode).toBe("read_only");
    await expect(volume.flush()).rejects.toSatisfy(code("VDO_IO"));
    expect([await byteAt(volume, 0), await byteAt(volume, 16)]).toEqual([1, 0]);
    await volume.write(0, filled(3, 4096));
    await expect(volume.write(32, BLOCK)).rejects.toSatisfy(code("VDO_IO"));
    await expect(pool.createThin(5)).rejects.toSatisfy((error) => (error as VdoError).code === "VDO_THIN_MODE");
    expect(await pool.status()).toMatch(/ ro discard_passdown queue_if_no_space needs_check /);
    await pool.close();
    const again = await ThinPool.open({ metadata: base, data, blockSectors: 128 });
    expect(again.mode).toBe("read_only");
    await again.close();
  });
});

describe("pool modes", () => {
  test("can all be reached, and lead to fail and nowhere from there", () => {
    const reached = new Set(["write"]);
    for (const mode of reached) {
      for (const next of Object.keys(POOL_MODE_MOVES[mode as keyof typeof POOL_MODE_MOVES])) reached.add(next);
    }
    expect([...reached].sort()).toEqual(Object.keys(POOL_MODE_MOVES).sort());
    expect(Object.keys(POOL_MODE_MOVES.fail)).toEqual([]);
  });
});
