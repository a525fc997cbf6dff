import { isVdoError } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { check, clearNeedsCheck, type PoolEvent, ThinPool } from "../src/index.ts";
import { problemsOf, smallPool } from "./support/pools.ts";

const filled = (byte: number, length = 65_536): Uint8Array => new Uint8Array(length).fill(byte);
const code = (wanted: string) => (error: unknown) => isVdoError(error) && error.code === wanted;
const texts = (events: readonly PoolEvent[]): string[] => events.map(({ text }) => text);
const isWriting = ({ mode }: ThinPool): boolean => mode === "write";
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("loading another table", () => {
  test("changes features and the low water mark of a pool that is in use", async () => {
    const { pool, events } = await smallPool({ dataBlocks: 16 });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    await pool.reload({ features: { skipBlockZeroing: true, discard: "no_passdown" }, lowWater: 12 });
    expect(pool.table({ metadata: "a", data: "b" })).toBe("a b 128 12 2 skip_block_zeroing no_discard_passdown ");
    expect(await pool.status()).toContain(" rw no_discard_passdown queue_if_no_space ");
    await volume.write(0, filled(1, 65_536 * 4));
    expect(texts(events)).toEqual([]);
    await volume.write(64, filled(1));
    expect(texts(events)).toEqual(["reached low water mark for data device: sending event."]);
    await volume.write(80, filled(1));
    expect(events).toHaveLength(1);
    await pool.reload({});
    await volume.write(96, filled(1));
    expect(events).toHaveLength(2);
    await pool.close();
  });

  test("cannot switch discards off or on", async () => {
    const { pool } = await smallPool();
    const off = pool.reload({ features: { discard: "ignore" } });
    await expect(off).rejects.toThrow("Discard support cannot be disabled once enabled");
    await pool.close();
    const other = await smallPool({ features: { discard: "ignore" } });
    await expect(other.pool.reload({ features: { discard: "passdown" } })).rejects.toSatisfy(code("VDO_THIN_SYNTAX"));
    await other.pool.close();
  });

  test("makes a pool read-only and writable again", async () => {
    const { pool, metadata, events } = await smallPool();
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    await volume.write(0, filled(1));
    await volume.flush();
    await pool.reload({ features: { readOnly: true } });
    expect(await pool.status()).toMatch(/ ro discard_passdown queue_if_no_space - 256 $/);
    await expect(volume.write(160, filled(2))).rejects.toSatisfy(code("VDO_IO"));
    await expect(pool.createThin(1)).rejects.toThrow(
      "unable to service pool target messages in READ_ONLY or FAIL mode",
    );
    await pool.reload({ features: { readOnly: false } });
    await volume.write(160, filled(2));
    expect(texts(events)).toEqual(["switching pool to read-only mode", "switching pool to write mode"]);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("opened read-only, a pool becomes writable by another table", async () => {
    const { pool, metadata, data } = await smallPool();
    await pool.createThin(0);
    await pool.close();
    const again = await ThinPool.open({ metadata, data, blockSectors: 128, features: { readOnly: true } });
    expect(again.mode).toBe("read_only");
    await again.reload({ features: { readOnly: false } });
    await again.createThin(1);
    await again.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });

  test("with error_if_no_space fails what is queued; with a larger device writes it", async () => {
    const { pool, metadata } = await smallPool({ dataBlocks: 20, dataSectors: 128 * 4 });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    const queued = volume.write(0, filled(1, 65_536 * 6));
    const failed = expect(queued).rejects.toSatisfy(code("VDO_NO_SPACE"));
    while (isWriting(pool)) await turn();
    await pool.reload({ features: { errorIfNoSpace: true } });
    await failed;
    expect(await pool.status()).toMatch(/ 4\/4 - out_of_data_space discard_passdown error_if_no_space /);
    await pool.reload({ features: { errorIfNoSpace: false } });
    expect(pool.mode).toBe("write");
    const late = volume.write(160, filled(2));
    while (isWriting(pool)) await turn();
    await expect(pool.reload({ dataSectors: 128 * 3 })).rejects.toThrow("pool target (3 blocks) too small: expected 4");
    await pool.reload({ dataSectors: 128 * 20 });
    await late;
    expect(await pool.status()).toMatch(/ 5\/20 - rw discard_passdown queue_if_no_space /);
    await pool.close();
    expect(await problemsOf(metadata)).toEqual([]);
  });
});

describe("a pool whose metadata failed", () => {
  test("stays read-only whatever the table says, does not grow, and is writable after a check", async () => {
    const base = new MemoryDevice({ blockCount: 1024 });
    const metadata = new FaultyDevice(base);
    const data = new MemoryDevice({ blockCount: 1024 });
    const events: PoolEvent[] = [];
    const onEvent = (event: PoolEvent): void => void events.push(event);
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128, dataSectors: 128 * 10, onEvent });
    await pool.createThin(0);
    metadata.add({ operation: "write", times: 1 });
    await expect(pool.createThin(1)).rejects.toSatisfy(code("VDO_IO"));
    expect(texts(events)).toEqual([
      expect.stringMatching(/^metadata operation 'commit' failed: error = /),
      "aborting current metadata transaction",
      "switching pool to read-only mode",
    ]);
    events.length = 0;
    await pool.reload({ dataSectors: 128 * 20 });
    expect(texts(events)).toEqual([
      "unable to switch pool to write mode until repaired.",
      "unable to grow the data device until repaired.",
    ]);
    expect(await pool.status()).toMatch(/ 0\/10 - ro discard_passdown queue_if_no_space needs_check /);
    await pool.close();
    await clearNeedsCheck(base, await check(base));
    const again = await ThinPool.open({ metadata: base, data, blockSectors: 128, dataSectors: 128 * 20 });
    expect(await again.status()).toMatch(/ 0\/20 - rw discard_passdown queue_if_no_space - /);
    await again.close();
  });

  test("fails for good when the transaction cannot be dropped", async () => {
    const base = new MemoryDevice({ blockCount: 1024 });
    const metadata = new FaultyDevice(base);
    const data = new MemoryDevice({ blockCount: 1024 });
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
    await pool.createThin(0);
    const volume = await pool.volume({ id: 0, sectors: 128 * 100 });
    metadata.add({ operation: "write" });
    metadata.add({ operation: "read" });
    await expect(pool.createThin(1)).rejects.toThrow();
    expect([pool.mode, await pool.status(), await volume.status()]).toEqual(["fail", "Fail", "Fail"]);
    metadata.clear();
    await expect(pool.reload({})).rejects.toSatisfy(code("VDO_IO"));
    await expect(volume.read(0, new Uint8Array(4096))).rejects.toSatisfy(code("VDO_IO"));
    await pool.close();
  });
});

test("a pool without free metadata is read-only until its metadata device grows", async () => {
  const small = new MemoryDevice({ blockCount: 40 });
  const data = new MemoryDevice({ blockCount: 16 * 4096 });
  const pool = await ThinPool.open({ metadata: small, data, blockSectors: 128 });
  let count = 0;
  try {
    for (; count < 100; count++) await pool.createThin(count);
  } catch (error) {
    expect(error).toSatisfy(code("VDO_THIN_MODE"));
  }
  expect(pool.mode).toBe("out_of_metadata_space");
  expect(await pool.status()).toMatch(/^0 40\/40 0\/4096 - ro /);
  await pool.close();
  const image = new Uint8Array(40 * 4096);
  await small.read(0, image);
  const larger = new MemoryDevice({ blockCount: 400 });
  await larger.write(0, image);
  const events: PoolEvent[] = [];
  const onEvent = (event: PoolEvent): void => void events.push(event);
  const again = await ThinPool.open({ metadata: larger, data, blockSectors: 128, onEvent });
  expect(texts(events)).toEqual(["growing the metadata device from 40 to 400 blocks"]);
  await again.createThin(200);
  await again.close();
  expect(await problemsOf(larger)).toEqual([]);
});

test("of a metadata device above 16 GiB 15.875 GiB are used, and that is told", async () => {
  const events: PoolEvent[] = [];
  const onEvent = (event: PoolEvent): void => void events.push(event);
  const metadata = new MemoryDevice({ blockCount: 17 * 262_144 });
  const data = new MemoryDevice({ blockCount: 1024 });
  const pool = await ThinPool.open({ metadata, data, blockSectors: 128, onEvent });
  expect(texts(events)).toEqual(["Metadata device is larger than 33292800 sectors: excess space will not be used."]);
  expect(await pool.status()).toMatch(/^0 \d+\/4161600 /);
  await pool.close();
});
