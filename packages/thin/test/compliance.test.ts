import { MemoryDevice } from "@vdo/block-device";
import { blockDeviceCompliance } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { ThinPool, type ThinVolume } from "../src/index.ts";
import { problemsOf, type SmallPool, smallPool } from "./support/pools.ts";

const runner = { describe, test };

/** Opens a thin device and remembers its pool, which is checked and closed after each test. */
function openWith(make: () => Promise<SmallPool>, prepare: (pool: ThinPool) => Promise<ThinVolume>) {
  let current: SmallPool | undefined;
  return {
    open: async () => {
      current = await make();
      return prepare(current.pool);
    },
    reopen: async (volume: { close(): Promise<void> }) => {
      const { metadata, data, pool } = current as SmallPool;
      const { id, blockCount } = volume as ThinVolume;
      await volume.close();
      await pool.close();
      const again = await ThinPool.open({ metadata, data, blockSectors: 128 });
      current = { ...(current as SmallPool), pool: again };
      return again.volume({ id, sectors: blockCount * 8 });
    },
    cleanUp: async () => {
      const { pool, metadata } = current as SmallPool;
      await pool.close();
      expect(await problemsOf(metadata)).toEqual([]);
    },
  };
}

const fresh = openWith(smallPool, async (pool) => {
  await pool.createThin(0);
  return pool.volume({ id: 0, sectors: 128 * 64 });
});
blockDeviceCompliance("a thin device", fresh.open, runner, { ...fresh, blockSize: 4096, discard: true });

const snapshot = openWith(smallPool, async (pool) => {
  await pool.createThin(7);
  const origin = await pool.volume({ id: 7, sectors: 128 * 64 });
  await origin.write(0, new Uint8Array(64 * 4096).fill(3));
  await pool.createSnapshot(8, 7);
  await pool.createSnapshot(9, 8);
  return pool.volume({ id: 9, sectors: 128 * 64 - 8 });
});
blockDeviceCompliance("a snapshot of a snapshot", snapshot.open, runner, { ...snapshot, operations: 150 });

const origin = openWith(
  () => smallPool({ features: { skipBlockZeroing: true, discard: "no_passdown" } }),
  async (pool) => {
    await pool.createThin(0);
    const base = MemoryDevice.from(new Uint8Array(4096 * 333).fill(9));
    return pool.volume({ id: 0, sectors: 128 * 32, origin: base });
  },
);
const { reopen: _none, ...withoutReopen } = origin;
blockDeviceCompliance("a thin device over an external origin", origin.open, runner, {
  ...withoutReopen,
  operations: 150,
});

const ignoring = openWith(
  () => smallPool({ features: { discard: "ignore" } }),
  async (pool) => {
    await pool.createThin(0);
    return pool.volume({ id: 0, sectors: 128 * 16 });
  },
);
blockDeviceCompliance("a thin device that ignores discards", ignoring.open, runner, {
  ...ignoring,
  discard: false,
  operations: 100,
});
