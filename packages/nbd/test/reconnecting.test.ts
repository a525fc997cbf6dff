/** Connections that break, and servers that forget what was not flushed. */
import { firstDifference, Random, type VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { NbdServer, ReconnectingNbdDevice } from "@vdo/nbd";
import { afterEach, expect, test } from "vitest";
import { newPath, stopAll } from "./served.ts";

const BLOCKS = 64;
const BLOCK = 4096;

/** Storage with a cache that a crash empties. */
class Cached {
  durable = new Uint8Array(BLOCKS * BLOCK);
  cache = new Uint8Array(BLOCKS * BLOCK);
  blockCount = BLOCKS;
  flushes = 0;
  fails = false;

  crash(): void {
    this.cache = this.durable.slice();
  }

  grow(blockCount: number): void {
    this.blockCount = blockCount;
    for (const name of ["durable", "cache"] as const) {
      const larger = new Uint8Array(blockCount * BLOCK);
      larger.set(this[name]);
      this[name] = larger;
    }
  }

  device(): BlockDevice {
    const self = this;
    return {
      blockSize: BLOCK,
      get blockCount() {
        return self.blockCount;
      },
      async read(start, target) {
        target.set(self.cache.subarray(start * BLOCK, start * BLOCK + target.length));
      },
      async write(start, source, options) {
        if (self.fails) throw new Error("the disk is broken");
        self.cache.set(source, start * BLOCK);
        if (options?.fua === true) self.durable.set(source, start * BLOCK);
      },
      async writeZeroes(start, count, options) {
        self.cache.fill(0, start * BLOCK, (start + count) * BLOCK);
        if (options?.fua === true) self.durable.fill(0, start * BLOCK, (start + count) * BLOCK);
      },
      async flush() {
        self.flushes++;
        self.durable = self.cache.slice();
      },
      close: async () => undefined,
    };
  }
}

class Server {
  readonly path = newPath();
  readonly storage = new Cached();
  #server: NbdServer | undefined;

  async start(): Promise<void> {
    this.#server = new NbdServer({ exports: [{ name: "", device: this.storage.device() }] });
    await this.#server.listen({ path: this.path });
  }

  /** Ends every connection at once; with `crash` the cache is lost. */
  async stop({ crash }: { crash: boolean }): Promise<void> {
    await this.#server?.close({ graceMs: 0 });
    if (crash) this.storage.crash();
  }

  get uri(): string {
    return `nbd+unix:///?socket=${this.path}`;
  }
}

const servers: Server[] = [];
async function serve(): Promise<Server> {
  const server = new Server();
  servers.push(server);
  await server.start();
  return server;
}
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop({ crash: false });
  await stopAll();
});

const data = (seed: number, count = 1): Uint8Array => new Random(seed).fill(new Uint8Array(count * BLOCK));

test("unflushed writes are written again, durable ones are not undone, and nobody notices", async () => {
  const server = await serve();
  const changes: string[] = [];
  const device = await ReconnectingNbdDevice.connect(server.uri, { onChange: ({ state }) => changes.push(state) });
  await device.write(0, data(1));
  await device.write(1, data(2, 2));
  await device.write(0, data(3), { fua: true });
  await device.writeZeroes(2, 1);
  await server.stop({ crash: true });
  const read = new Uint8Array(3 * BLOCK);
  const reading = device.read(0, read);
  await server.start();
  await reading;
  expect(firstDifference(read.subarray(0, BLOCK), data(3))).toBe(-1);
  expect(firstDifference(read.subarray(BLOCK, 2 * BLOCK), data(2, 2).subarray(0, BLOCK))).toBe(-1);
  expect(read.subarray(2 * BLOCK).every((byte) => byte === 0)).toBe(true);
  await device.flush();
  server.storage.crash();
  expect(firstDifference(server.storage.durable.subarray(0, 3 * BLOCK), read)).toBe(-1);
  await device.close();
  expect(changes).toEqual(["lost", "connected"]);
});

test("histories with crashes at any time: what is acknowledged is read, what is flushed is durable", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const random = new Random(seed);
    const server = await serve();
    const device = await ReconnectingNbdDevice.connect(server.uri, { unflushedBytesMax: 24 * BLOCK });
    const model = new Uint8Array(BLOCKS * BLOCK);
    for (let step = 0; step < 60; step++) {
      const start = random.below(BLOCKS - 4);
      const count = 1 + random.below(4);
      const what = random.below(10);
      let crash: Promise<void> | undefined;
      if (what === 9) {
        crash = (async () => {
          await server.stop({ crash: random.below(3) > 0 });
          await server.start();
        })();
      }
      if (what < 5 || what === 9) {
        const bytes = data(1000 * seed + step, count);
        await device.write(start, bytes, { fua: random.below(4) === 0 });
        model.set(bytes, start * BLOCK);
      } else if (what < 7) {
        await device.writeZeroes(start, count);
        model.fill(0, start * BLOCK, (start + count) * BLOCK);
      } else if (what === 7) {
        await device.flush();
        expect(firstDifference(server.storage.durable, model), `seed ${seed}, step ${step}: durable`).toBe(-1);
      } else {
        const read = new Uint8Array(count * BLOCK);
        await device.read(start, read);
        const wanted = model.subarray(start * BLOCK, (start + count) * BLOCK);
        expect(firstDifference(read, wanted), `seed ${seed}, step ${step}: read`).toBe(-1);
      }
      await crash;
    }
    await device.close();
    expect(firstDifference(server.storage.durable, model), `seed ${seed}: the end`).toBe(-1);
  }
});

test("memory is bounded: writers wait for a flush of the device's own", async () => {
  const server = await serve();
  const device = await ReconnectingNbdDevice.connect(server.uri, { unflushedBytesMax: 8 * BLOCK });
  for (let i = 0; i < 40; i++) await device.write(i, data(i));
  expect(server.storage.flushes).toBeGreaterThanOrEqual(4);
  await device.close();
});

test("a server that stays away makes every request fail, after the time that was given", async () => {
  const server = await serve();
  const device = await ReconnectingNbdDevice.connect(server.uri, { reconnectMs: 120 });
  await device.write(0, data(1));
  await server.stop({ crash: true });
  await expect(device.flush()).rejects.toThrow(/lost and did not come back/);
  await expect(device.read(0, new Uint8Array(BLOCK))).rejects.toMatchObject({ code: "VDO_IO" });
  await device.close();
});

test("another export in its place is not written to", async () => {
  const server = await serve();
  const device = await ReconnectingNbdDevice.connect(server.uri);
  await device.write(0, data(1));
  await server.stop({ crash: true });
  server.storage.blockCount = BLOCKS / 2;
  await server.start();
  await expect(device.flush()).rejects.toThrow(/another export answers/);
  expect(server.storage.cache[0]).toBe(0);
  await device.close();
});

test("an error of the server is an error, and no reason to connect anew", async () => {
  const server = await serve();
  const changes: string[] = [];
  const device = await ReconnectingNbdDevice.connect(server.uri, { onChange: ({ state }) => changes.push(state) });
  server.storage.fails = true;
  const failure = (await device.write(0, data(1)).catch((error: unknown) => error)) as VdoError;
  expect(failure.code).toBe("VDO_IO");
  server.storage.fails = false;
  await device.write(0, data(2));
  expect(changes).toEqual([]);
  await device.close();
  await expect(device.read(0, new Uint8Array(BLOCK))).rejects.toMatchObject({ code: "VDO_CLOSED" });
});

test("an export that cannot do more offers no more", async () => {
  const memory = new MemoryDevice({ blockCount: 4 });
  const server = new NbdServer({ exports: [{ name: "", device: memory, readOnly: true }] });
  const path = newPath();
  await server.listen({ path });
  const device = await ReconnectingNbdDevice.connect(`nbd+unix:///?socket=${path}`);
  expect(device.readOnly).toBe(true);
  await expect(device.write(0, data(1))).rejects.toMatchObject({ code: "VDO_READ_ONLY" });
  await device.close();
  await server.close();
});

test("a larger export is seen when it is asked for, with requests under way", async () => {
  const server = await serve();
  const device = await ReconnectingNbdDevice.connect(server.uri);
  await device.write(3, data(5));
  expect(await device.refresh()).toBe(BLOCKS);
  server.storage.grow(2 * BLOCKS);
  const under = Array.from({ length: 8 }, (_, i) => device.write(8 + i, data(20 + i), { fua: i % 2 === 0 }));
  expect(await device.refresh()).toBe(2 * BLOCKS);
  await Promise.all(under);
  await device.write(2 * BLOCKS - 1, data(6));
  await device.flush();
  for (const [block, seed] of [
    [3, 5],
    [8, 20],
    [15, 27],
    [2 * BLOCKS - 1, 6],
  ] as const) {
    const there = server.storage.durable.subarray(block * BLOCK, (block + 1) * BLOCK);
    expect(firstDifference(there, data(seed)), `block ${block}`).toBe(-1);
  }
  await device.close();
});

test("a server that comes back with another image is not written to", async () => {
  const server = await serve();
  const device = await ReconnectingNbdDevice.connect(server.uri, { reconnectMs: 5000 });
  await device.write(0, data(1));
  await device.flush();
  await device.recognise(0);
  await device.write(5, data(2));
  await server.stop({ crash: true });
  server.storage.durable.fill(0);
  server.storage.crash();
  await server.start();
  await expect(device.flush()).rejects.toThrow(/another export answers: block 0 differs at byte 0/);
  expect(server.storage.cache.every((byte) => byte === 0)).toBe(true);
  await device.close();
});
