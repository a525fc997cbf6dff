import { equalBytes, isVdoError, Random } from "@vdo/base";
import { describe, expect, test } from "vitest";
import { SimulatedDisk } from "./simulated-disk.ts";
import { SECTOR_BYTES } from "./write-record.ts";

const BLOCK = 4096;
const filled = (value: number, blocks = 1): Uint8Array => new Uint8Array(blocks * BLOCK).fill(value);

async function readBlock(disk: SimulatedDisk, block: number): Promise<Uint8Array> {
  const target = new Uint8Array(BLOCK);
  await disk.read(block, target);
  return target;
}

/** The distinct values of the sectors of a block whose sectors are uniform. */
function sectorValues(block: Uint8Array): number[] {
  const values = new Set<number>();
  for (let at = 0; at < BLOCK; at += SECTOR_BYTES) {
    const sector = block.subarray(at, at + SECTOR_BYTES);
    expect(sector.every((byte) => byte === sector[0])).toBe(true);
    values.add(sector[0] as number);
  }
  return [...values];
}

describe("a crash of the simulated disk", () => {
  test("keeps what was flushed, whole, for every seed", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 1 });
    await disk.write(3, filled(1));
    await disk.write(4, filled(2));
    await disk.flush();
    for (let seed = 0; seed < 100; seed++) {
      const after = disk.crash(seed);
      expect(sectorValues(await readBlock(after, 3))).toEqual([1]);
      expect(sectorValues(await readBlock(after, 4))).toEqual([2]);
    }
  });

  test("leaves of an unflushed block each version and mixtures of sectors, over enough seeds", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 2 });
    await disk.write(7, filled(1));
    await disk.flush();
    await disk.write(7, filled(2));
    await disk.write(7, filled(3));
    const whole = new Set<number>();
    let torn = 0;
    for (let seed = 0; seed < 400; seed++) {
      const values = sectorValues(await readBlock(disk.crash(seed), 7));
      for (const value of values) expect([1, 2, 3]).toContain(value);
      if (values.length === 1) whole.add(values[0] as number);
      else torn++;
    }
    expect([...whole].sort()).toEqual([1, 2, 3]);
    expect(torn).toBeGreaterThan(20);
  });

  test("keeps a fua write, and never an older version of its block", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 3 });
    await disk.write(1, filled(1));
    await disk.write(1, filled(2), { fua: true });
    for (let seed = 0; seed < 100; seed++) expect(sectorValues(await readBlock(disk.crash(seed), 1))).toEqual([2]);
  });

  test("may keep of a request in flight anything or nothing", async () => {
    const outcomes = new Set<number>();
    for (let seed = 0; seed < 60; seed++) {
      const disk = new SimulatedDisk({ blockCount: 64, seed });
      const write = disk.write(0, filled(9));
      const after = disk.crash(seed);
      await expect(write).rejects.toMatchObject({ code: "VDO_IO" });
      outcomes.add(
        sectorValues(await readBlock(after, 0)).length === 2 ? 2 : ((await readBlock(after, 0))[0] as number),
      );
    }
    expect(outcomes).toEqual(new Set([0, 9, 2]));
  });

  test("can be looked at beforehand, while the disk goes on", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 6 });
    await disk.write(1, filled(1));
    const write = disk.write(2, filled(2));
    const before = disk.outcome(7);
    await write;
    await disk.flush();
    expect(sectorValues(await readBlock(disk, 2))).toEqual([2]);
    const values = new Set<number>();
    for (const block of [1, 2]) for (const value of sectorValues(await readBlock(before, block))) values.add(value);
    expect([...values].every((value) => value <= 2)).toBe(true);
    expect(sectorValues(await readBlock(disk.crash(7), 1))).toEqual([1]);
  });

  test("is the same for the same seed, and another crash of the new disk is possible", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 4 });
    for (let block = 0; block < 32; block++) await disk.write(block, filled(block + 1));
    const [first, second] = [disk.crash(11), disk.crash(11)];
    for (let block = 0; block < 32; block++) {
      expect(equalBytes(await readBlock(first, block), await readBlock(second, block))).toBe(true);
    }
    await first.write(40, filled(40));
    await first.flush();
    expect(sectorValues(await readBlock(first.crash(1), 40))).toEqual([40]);
  });

  test("can be set to a step: requests up to it complete, later ones fail", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 5, batchMax: 1 });
    const cut = disk.cutAfter(3);
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, (_, i) => disk.write(i, filled(1))));
    await cut;
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
    expect(disk.completed).toBe(3);
    await expect(disk.flush()).rejects.toMatchObject({ code: "VDO_IO" });
  });

  test("zeroing and discarding are volatile too", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 6 });
    await disk.write(0, filled(5, 2));
    await disk.flush();
    await disk.writeZeroes?.(0, 1);
    await disk.discard?.(1, 1);
    const seen = new Set<number>();
    for (let seed = 0; seed < 60; seed++)
      for (const value of sectorValues(await readBlock(disk.crash(seed), 0))) seen.add(value);
    expect(seen).toEqual(new Set([0, 5]));
  });
});

describe("a flush of the simulated disk", () => {
  test("covers only writes that had resolved when it was called", async () => {
    let lost = 0;
    for (let seed = 0; seed < 200; seed++) {
      const disk = new SimulatedDisk({ blockCount: 64, seed });
      // Both in flight together: the flush may complete after the write, and still does not cover it.
      await Promise.all([disk.write(0, filled(1)), disk.flush()]);
      if (sectorValues(await readBlock(disk.crash(seed), 0))[0] === 0) lost++;
    }
    expect(lost).toBeGreaterThan(20);
  });

  test("that failed leaves writes that no later flush makes durable", async () => {
    let lost = 0;
    for (let seed = 0; seed < 50; seed++) {
      const disk = new SimulatedDisk({ blockCount: 64, seed, flushErrors: 1 });
      await disk.write(0, filled(1));
      await expect(disk.flush()).rejects.toMatchObject({ code: "VDO_IO", data: { operation: "flush" } });
      disk.setFaults({ flushErrors: 0 });
      await disk.flush();
      expect((await readBlock(disk, 0))[0]).toBe(1);
      if ((await readBlock(disk.crash(seed), 0))[0] === 0) lost++;
    }
    expect(lost).toBeGreaterThan(5);
  });
});

describe("the simulated disk", () => {
  test("completes requests in an order that the seed decides", async () => {
    const orders = new Set<string>();
    for (const seed of [1, 2, 3, 1]) {
      const disk = new SimulatedDisk({ blockCount: 64, seed });
      const order: number[] = [];
      await Promise.all(Array.from({ length: 8 }, (_, i) => disk.write(i, filled(i)).then(() => order.push(i))));
      orders.add(order.join());
    }
    expect(orders.size).toBe(3);
  });

  test("reports a write's buffer changed in flight, at the request and at the crash", async () => {
    const disk = new SimulatedDisk({ blockCount: 64 });
    const data = filled(1);
    const write = disk.write(0, data);
    data[100] = 2;
    await expect(write).rejects.toMatchObject({ code: "VDO_INVARIANT" });
    expect(() => disk.crash(1)).toThrow("buffer of a write at block 0");
  });

  test("reports two reads into one buffer", async () => {
    const disk = new SimulatedDisk({ blockCount: 64 });
    await disk.write(0, filled(1));
    const target = filled(0);
    const outcomes = await Promise.allSettled([disk.read(0, target), disk.read(0, target)]);
    expect(outcomes.filter(({ status }) => status === "rejected")).toHaveLength(1);
    await expect(disk.close()).rejects.toMatchObject({ code: "VDO_INVARIANT" });
  });

  test("fails requests with the odds given, and is consistent afterwards", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 9, writeErrors: 0.5, readErrors: 0.3 });
    const outcomes = await Promise.allSettled(Array.from({ length: 100 }, (_, i) => disk.write(i % 64, filled(1))));
    const failures = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason);
    expect(failures.length).toBeGreaterThan(25);
    expect(failures.length).toBeLessThan(75);
    expect(failures.every((error) => isVdoError(error, "VDO_IO") && error.data.operation === "write")).toBe(true);
    disk.setFaults({ writeErrors: 0, readErrors: 0 });
    for (let block = 0; block < 64; block++)
      for (const value of sectorValues(await readBlock(disk, block))) expect(value).toBeLessThan(2);
  });

  test("runs out of space for new blocks only, and discarding frees some", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, blocksMax: 4 });
    await disk.write(0, filled(1, 4));
    await expect(disk.write(10, filled(1))).rejects.toMatchObject({ code: "VDO_NO_SPACE" });
    await disk.write(2, filled(2));
    await disk.discard?.(0, 1);
    await disk.write(10, filled(1));
    expect((await readBlock(disk, 10))[0]).toBe(1);
  });

  test("tells when work waits for something that never comes", async () => {
    const disk = new SimulatedDisk({ blockCount: 64 });
    const stuck = disk.write(0, filled(1)).then(() => new Promise<void>(() => undefined));
    await expect(disk.run(stuck)).rejects.toMatchObject({ code: "VDO_INVARIANT" });
    expect(await disk.run(disk.flush().then(() => 5))).toBe(5);
  });

  test("a careless protocol is caught, a careful one survives every crash", async () => {
    // The record says how far the data go: the data must be durable before it is written.
    const history = async (seed: number, flushBetween: boolean): Promise<boolean> => {
      const random = new Random(seed);
      const disk = new SimulatedDisk({ blockCount: 64, seed });
      void disk.cutAfter(1 + random.below(30));
      const writer = async (): Promise<void> => {
        for (let i = 1; i < 10; i++) {
          await disk.write(i, filled(i));
          if (flushBetween) await disk.flush();
          await disk.write(0, filled(i));
          await disk.flush();
        }
      };
      await writer().catch(() => undefined);
      const after = disk.crash(seed);
      const record = Math.max(...sectorValues(await readBlock(after, 0)));
      for (let i = 1; i <= record; i++)
        if (!sectorValues(await readBlock(after, i)).every((value) => value === i)) return false;
      return true;
    };
    let caught = 0;
    for (let seed = 0; seed < 150; seed++) {
      expect(await history(seed, true), `seed ${seed}`).toBe(true);
      if (!(await history(seed, false))) caught++;
    }
    expect(caught).toBeGreaterThan(0);
  });
});

describe("a slow simulated disk", () => {
  test("lets most later requests overtake the slow ones, and completes them all", async () => {
    const disk = new SimulatedDisk({ blockCount: 64, seed: 9, slowWrites: 1, batchMax: 1 });
    const order: string[] = [];
    const write = disk.write(0, filled(1)).then(() => order.push("write"));
    const reads = Array.from({ length: 8 }, (_, i) => readBlock(disk, 8 + i).then(() => order.push("read")));
    await Promise.all([write, ...reads]);
    expect(order.indexOf("write")).toBeGreaterThan(4);
    expect(order).toHaveLength(9);
    expect([...disk.content.keys()]).toEqual([0]);
  });
});
