import { closeSync, openSync, readFileSync, type readSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FileDevice } from "./file-device.ts";
import { InlineTransfers } from "./inline-transfers.ts";

/** A machine whose calls take what `milliseconds` says, and move what `moves` says. */
class Machine {
  time = 0;
  milliseconds = 0.002;
  moves: (length: number) => number = (length) => length;
  calls = 0;
  readonly transfers: InlineTransfers;

  constructor() {
    const call = (length: number): number => {
      this.calls++;
      this.time += this.milliseconds;
      return this.moves(length);
    };
    const sum = (buffers: readonly NodeJS.ArrayBufferView[]): number =>
      buffers.reduce((length, { byteLength }) => length + byteLength, 0);
    const system = {
      readSync: ((_: number, target: Uint8Array) => call(target.length)) as typeof readSync,
      writeSync: (_: number, source: NodeJS.ArrayBufferView) => call(source.byteLength),
      readvSync: (_: number, targets: readonly NodeJS.ArrayBufferView[]) => call(sum(targets)),
      writevSync: (_: number, sources: readonly NodeJS.ArrayBufferView[]) => call(sum(sources)),
    };
    this.transfers = new InlineTransfers({ now: () => this.time, system: system as never });
  }

  /** In a turn of the event loop of its own. */
  async read(bytes = 4096): Promise<boolean> {
    await new Promise((resolve) => setImmediate(resolve));
    return this.transfers.read(3, new Uint8Array(bytes), 0);
  }
}

describe("inline transfers", () => {
  test("are made while the storage is quick", async () => {
    const machine = new Machine();
    for (let i = 0; i < 100; i++) expect(await machine.read()).toBe(true);
    expect(machine.calls).toBe(100);
  });

  test("are for short buffers only, and not for empty ones", async () => {
    const machine = new Machine();
    expect(await machine.read(65_536)).toBe(true);
    expect(await machine.read(65_537)).toBe(false);
    expect(await machine.read(0)).toBe(false);
    expect(machine.transfers.writeVector(3, [new Uint8Array(65_536), new Uint8Array(1)], 65_537, 0)).toBe(false);
    expect(machine.calls).toBe(1);
  });

  test("may be told to leave longer writes to the caller", () => {
    const system = { readSync: () => 0, readvSync: () => 0, writeSync: () => 512, writevSync: () => 512 };
    const transfers = new InlineTransfers({ writeBytesMax: 512, now: () => 0, system: system as never });
    expect(transfers.write(3, new Uint8Array(512), 0)).toBe(true);
    expect(transfers.write(3, new Uint8Array(513), 0)).toBe(false);
    expect(transfers.writeVector(3, [new Uint8Array(512)], 512, 0)).toBe(true);
    expect(transfers.writeVector(3, [new Uint8Array(512), new Uint8Array(1)], 513, 0)).toBe(false);
  });

  test("a long buffer may take longer than a short one", async () => {
    const machine = new Machine();
    machine.milliseconds = 0.05;
    expect(await machine.read(65_536)).toBe(true);
    expect(await machine.read(65_536)).toBe(true);
    machine.milliseconds = 7;
    expect(await machine.read(65_536)).toBe(true);
    expect(await machine.read(4096)).toBe(false);
  });

  test("a slow call pauses them for many times as long as it took, longer each time, less what is let off", async () => {
    const machine = new Machine();
    machine.milliseconds = 10;
    let pausedFrom = 0;
    const pauses: number[] = [];
    for (let n = 0; n < 9; n++) {
      while (!(await machine.read())) machine.time += 1;
      pauses.push(machine.time - 10 - pausedFrom);
      pausedFrom = machine.time;
    }
    expect(pauses).toEqual([0, 60, 310, 630, 1270, 2550, 5110, 10_230, 10_230]);
  });

  test("a few slow calls among quick ones are let off: a thread loses the processor at times", async () => {
    const machine = new Machine();
    for (let i = 0; i < 200; i++) {
      machine.milliseconds = i % 100 === 50 ? 3 : 0.002;
      expect(await machine.read()).toBe(true);
      machine.time += 1;
    }
  });

  test("storage that never gets quick costs at most a hundredth of the time in the long run", async () => {
    const machine = new Machine();
    machine.milliseconds = 8;
    let made = 0;
    while (machine.time < 600_000) {
      if (await machine.read()) made++;
      else machine.time += 7;
    }
    expect(made * 8).toBeLessThan(6000);
  });

  test("a run of quick calls makes the pause short again", async () => {
    const machine = new Machine();
    const slow = async (): Promise<number> => {
      machine.time += 100_000;
      machine.milliseconds = 100;
      expect(await machine.read()).toBe(true);
      machine.milliseconds = 0.002;
      const from = machine.time;
      while (!(await machine.read())) machine.time += 1;
      return machine.time - from;
    };
    expect(await slow()).toBeCloseTo(1500, 0);
    expect(await slow()).toBeCloseTo(3100, 0);
    expect(await slow()).toBeCloseTo(6300, 0);
    for (let i = 0; i < 64; i++) await machine.read();
    expect(await slow()).toBeCloseTo(1500, 0);
  });

  test("one turn of the event loop spends a quarter of a millisecond on them", async () => {
    const machine = new Machine();
    machine.milliseconds = 1 / 128;
    await new Promise((resolve) => setImmediate(resolve));
    let made = 0;
    while (machine.transfers.read(3, new Uint8Array(4096), 0)) made++;
    expect(made).toBe(33);
    expect(await machine.read()).toBe(true);
  });

  test("what fails or comes short is left to the caller", async () => {
    const machine = new Machine();
    machine.moves = (length) => length - 512;
    expect(await machine.read()).toBe(false);
    machine.moves = () => {
      throw new Error("EIO");
    };
    expect(await machine.read()).toBe(false);
    expect(machine.transfers.write(3, new Uint8Array(512), 0)).toBe(false);
    expect(machine.transfers.readVector(3, [new Uint8Array(512)], 512, 0)).toBe(false);
    expect(machine.transfers.writeVector(3, [new Uint8Array(512)], 512, 0)).toBe(false);
    expect(machine.calls).toBe(5);
  });

  test("move bytes of a real file", () => {
    const path = join(tmpdir(), `inline-transfers-${process.pid}`);
    writeFileSync(path, new Uint8Array(8192));
    const descriptor = openSync(path, "r+");
    try {
      const transfers = new InlineTransfers({ now: () => 0 });
      expect(transfers.write(descriptor, new Uint8Array(1024).fill(1), 512)).toBe(true);
      const two = [new Uint8Array(512).fill(2), new Uint8Array(512).fill(3)];
      expect(transfers.writeVector(descriptor, two, 1024, 2048)).toBe(true);
      const [a, b, c] = [new Uint8Array(512), new Uint8Array(512), new Uint8Array(1024)];
      expect(transfers.readVector(descriptor, [a, b], 1024, 2048)).toBe(true);
      expect([a[0], b[511]]).toEqual([2, 3]);
      expect(transfers.read(descriptor, c, 0)).toBe(true);
      expect([c[511], c[512], c[1023]]).toEqual([0, 1, 1]);
      expect(transfers.read(descriptor, new Uint8Array(512), 8000)).toBe(false);
      expect(readFileSync(path)[2560]).toBe(3);
    } finally {
      closeSync(descriptor);
      rmSync(path);
    }
  });
});

describe("a file device with inline transfers", () => {
  let folder = "";
  let device: FileDevice;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "inline-device-"));
    await writeFile(join(folder, "file"), "");
    await truncate(join(folder, "file"), 4096 * 64);
    device = await FileDevice.open({ path: join(folder, "file"), inline: true });
  });
  afterEach(async () => {
    await device.close();
    await rm(folder, { recursive: true });
  });

  test("lets others have the event loop while it is read block after block", async () => {
    let turns = 0;
    let reading = true;
    const turn = (): void => {
      turns++;
      if (reading) setImmediate(turn);
    };
    setImmediate(turn);
    const target = new Uint8Array(4096);
    for (let i = 0; i < 20_000; i++) await device.read(i % 64, target);
    reading = false;
    expect(turns).toBeGreaterThan(10);
  });

  test("tells what is wrong as without them", async () => {
    const block = new Uint8Array(4096);
    await expect(device.read(64, block)).rejects.toMatchObject({ code: "VDO_OUT_OF_RANGE" });
    await expect(device.read(-1, block)).rejects.toMatchObject({ code: "VDO_OUT_OF_RANGE" });
    await expect(device.write(0, new Uint8Array(100))).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
    await truncate(join(folder, "file"), 4096 * 5);
    const failure = { code: "VDO_IO", data: { operation: "read", block: 5 } };
    await expect(device.read(4, new Uint8Array(4096 * 2))).rejects.toMatchObject(failure);
    await device.close();
    await expect(device.read(0, block)).rejects.toMatchObject({ code: "VDO_CLOSED" });
    await expect(device.write(0, block)).rejects.toMatchObject({ code: "VDO_CLOSED" });
  });

  test("refuses writes when it was opened for reading", async () => {
    const reader = await FileDevice.open({ path: join(folder, "file"), readOnly: true, inline: true });
    await expect(reader.write(0, new Uint8Array(4096))).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await expect(reader.writeVector(0, [new Uint8Array(4096)])).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
    await reader.close();
  });
});
