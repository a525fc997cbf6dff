import { existsSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import { NbdServer } from "@vdo/nbd";
import { afterEach, describe, expect, test } from "vitest";
import { option, RawPeer, request, wire } from "./raw-peer.ts";
import { HandClock, newPath, serve, stopAll, until } from "./served.ts";

afterEach(stopAll);
const memory = (): MemoryDevice => new MemoryDevice({ blockCount: 65536 });
const READ = 0;
const WRITE = 1;

/** A device whose requests wait until they are let go. */
function gated(): { device: BlockDevice; open(): void; waiting(): number } {
  const base = memory();
  let waiting: (() => void)[] = [];
  let isOpen = false;
  const gate = (): Promise<void> => (isOpen ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve)));
  return {
    device: {
      blockSize: base.blockSize,
      blockCount: base.blockCount,
      read: (start, target) => gate().then(() => base.read(start, target)),
      write: (start, source) => gate().then(() => base.write(start, source)),
      flush: () => base.flush(),
      close: () => base.close(),
    },
    open() {
      isOpen = true;
      for (const go of waiting) go();
      waiting = [];
    },
    waiting: () => waiting.length,
  };
}

describe("limits", () => {
  test("no more than 128 requests of a connection are taken up at a time, and none is lost", async () => {
    const { device, open, waiting } = gated();
    const { path } = await serve({ exports: [{ name: "", device }] });
    const peer = await RawPeer.ready(path);
    peer.send(...Array.from({ length: 500 }, (_, i) => request(READ, { cookie: i, offset: i * 4096, length: 4096 })));
    await until(() => waiting() === 128, "128 requests wait");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(waiting()).toBe(128);
    open();
    const cookies = new Set<number>();
    for (let i = 0; i < 500; i++) cookies.add((await peer.reply(4096)).cookie);
    expect(cookies.size).toBe(500);
  });

  test("a client that reads no replies stops being read: memory stays bounded", async () => {
    const device = memory();
    for (let i = 0; i < 2048; i++) await device.write(i, new Uint8Array(4096).fill(i + 1));
    const { path, server } = await serve({ exports: [{ name: "", device }], limits: { connectionBytesMax: 8 << 20 } });
    const peer = await RawPeer.ready(path);
    peer.socket.pause();
    peer.send(...Array.from({ length: 60 }, () => request(READ, { length: 1 << 20 })));
    await until(() => server.bytesHeld > 6 << 20, "replies pile up");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.bytesHeld).toBeLessThanOrEqual((8 << 20) + (512 << 10));
    const other = await RawPeer.ready(path);
    other.send(request(READ, { length: 4096 }));
    expect((await other.reply(4096)).error).toBe(0);
    peer.socket.resume();
    for (let i = 0; i < 60; i++) expect((await peer.reply(1 << 20)).error).toBe(0);
    await until(() => server.bytesHeld === 0, "all memory is given back");
  });

  test("who holds all bytes of the server and does not move is dropped when others wait", async () => {
    const clock = new HandClock();
    const limits = { serverBytesMax: 8 << 20, connectionBytesMax: 8 << 20 };
    const { path, server } = await serve({ clock, limits, exports: [{ name: "", device: memory() }] });
    const hoarder = await RawPeer.ready(path);
    hoarder.send(request(WRITE, { length: 8 << 20 }), Buffer.alloc(1000));
    await until(() => server.bytesHeld === 8 << 20, "the hoarder holds all");
    const honest = await RawPeer.ready(path);
    honest.send(request(WRITE, { cookie: 3, length: 4096, payload: Buffer.alloc(4096, 1) }));
    await new Promise((resolve) => setTimeout(resolve, 20));
    clock.advance(10_001);
    expect((await honest.reply()).cookie).toBe(3);
    expect(await hoarder.rest()).toHaveLength(0);
    await until(() => server.bytesHeld === 0, "all memory is given back");
  });

  test("connections beyond the limit are closed at once", async () => {
    const { path, server } = await serve({ exports: [{ name: "", device: memory() }], limits: { connectionsMax: 2 } });
    const first = await RawPeer.ready(path);
    await RawPeer.ready(path);
    const third = await RawPeer.connect(path);
    expect(await third.rest()).toHaveLength(0);
    first.close();
    await until(() => server.connectionCount === 1, "one is gone");
    (await RawPeer.ready(path)).close();
  });
});

describe("ends of connections", () => {
  test("a client that has said all is answered before the connection ends", async () => {
    const { device, open, waiting } = gated();
    const { path } = await serve({ exports: [{ name: "", device }] });
    for (const goodbye of [Buffer.alloc(0), request(2), wire(request(2), Buffer.alloc(100, 9))]) {
      const peer = await RawPeer.ready(path);
      peer.send(request(READ, { length: 4096 }), request(READ, { length: 4096 }), goodbye);
      peer.socket.end();
      if (goodbye.length === 0) {
        await until(() => waiting() === 2, "both requests wait");
        open();
      }
      expect(await peer.rest()).toHaveLength(2 * (16 + 4096));
    }
  });

  test("half a header, half a payload: nothing is applied, others are served", async () => {
    const device = new RecordingDevice(memory());
    const { path, server } = await serve({ exports: [{ name: "", device }] });
    for (const half of [Buffer.alloc(3, 0x25), request(WRITE, { length: 4096, payload: Buffer.alloc(2000, 1) })]) {
      const peer = await RawPeer.ready(path);
      peer.send(half);
      await new Promise((resolve) => setTimeout(resolve, 5));
      peer.close();
    }
    await until(() => server.connectionCount === 0, "both are gone");
    expect(device.log).toEqual([]);
    expect(server.bytesHeld).toBe(0);
  });

  test("a client that vanishes with requests in flight leaves nothing behind", async () => {
    const { device, open, waiting } = gated();
    const { path, server } = await serve({ exports: [{ name: "", device }] });
    const peer = await RawPeer.ready(path);
    peer.send(...Array.from({ length: 50 }, (_, i) => request(READ, { offset: i * 65536, length: 65536 })));
    await until(() => waiting() === 50, "requests wait");
    peer.close();
    await new Promise((resolve) => setTimeout(resolve, 10));
    open();
    await until(() => server.connectionCount === 0, "the client is gone");
    await until(() => server.bytesHeld === 0, "all memory is given back");
    const next = await RawPeer.ready(path);
    next.send(request(WRITE, { length: 65536, payload: Buffer.alloc(65536, 2) }));
    expect((await next.reply()).error).toBe(0);
  });
});

describe("stopping", () => {
  test("answers what is in flight, refuses what comes after, and removes the socket", async () => {
    const { device, open, waiting } = gated();
    const { path, server } = await serve({ exports: [{ name: "", device }] });
    const busy = await RawPeer.ready(path);
    const idle = await RawPeer.ready(path);
    const shaking = await RawPeer.greeted(path);
    busy.send(request(WRITE, { cookie: 1, length: 4096, payload: Buffer.alloc(4096, 3) }));
    await until(() => waiting() === 1, "the write waits");
    const closed = server.close();
    expect(await idle.rest()).toHaveLength(0);
    expect(await shaking.rest()).toHaveLength(0);
    busy.send(request(3, { cookie: 2 }));
    expect(await busy.reply()).toMatchObject({ cookie: 2, error: 108 });
    open();
    expect(await busy.reply()).toMatchObject({ cookie: 1, error: 0 });
    expect(await busy.rest()).toHaveLength(0);
    busy.close();
    await closed;
    expect(existsSync(path)).toBe(false);
    expect(server.connectionCount).toBe(0);
  });

  test("cuts off after the grace time", async () => {
    const clock = new HandClock();
    const { device, waiting } = gated();
    const { path, server } = await serve({ clock, exports: [{ name: "", device }] });
    const peer = await RawPeer.ready(path);
    peer.send(request(READ, { length: 4096 }));
    await until(() => waiting() === 1, "the read waits");
    const closed = server.close({ graceMs: 3000 });
    clock.advance(3001);
    await closed;
    expect(await peer.rest()).toHaveLength(0);
  });

  test("one export ends its connections only", async () => {
    const exports = ["a", "b"].map((name) => ({ name, device: memory() }));
    const { path, server } = await serve({ exports });
    const [one, other] = [await RawPeer.ready(path, { name: "a" }), await RawPeer.ready(path, { name: "b" })];
    const removed = server.removeExport("a");
    expect(await one.rest()).toHaveLength(0);
    one.close();
    await removed;
    other.send(request(READ, { length: 8 }));
    expect((await other.reply(8)).error).toBe(0);
    const late = await RawPeer.greeted(path);
    late.send(option(7, wire(1, "61", "0000")));
    expect((await late.optionReply()).type).toBe(0x80000006);
  });
});

describe("listening", () => {
  test("makes a socket for its owner only, and replaces one that nobody listens on", async () => {
    const path = newPath();
    const dead = createServer().listen({ path });
    await new Promise((resolve) => dead.once("listening", resolve));
    const live = new NbdServer();
    await expect(live.listen({ path })).rejects.toMatchObject({ code: "VDO_ADDRESS_IN_USE" });
    writeFileSync(`${path}.txt`, "no socket");
    await expect(live.listen({ path: `${path}.txt` })).rejects.toMatchObject({ code: "VDO_ADDRESS_IN_USE" });
    await new Promise((resolve) => dead.close(resolve));
    await live.listen({ path });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await live.close();
  });

  test("refuses a path no socket can have, and names in use", async () => {
    const server = new NbdServer({ exports: [{ name: "a", device: memory() }] });
    await expect(server.listen({ path: `/tmp/${"x".repeat(104)}` })).rejects.toMatchObject({
      code: "VDO_BAD_ARGUMENT",
    });
    await expect(server.listen({ path: "/nonexistent/x.sock" })).rejects.toMatchObject({ code: "VDO_IO" });
    expect(() => server.addExport({ name: "a", device: memory() })).toThrow("unique");
    expect(() => server.addExport({ name: "x\0", device: memory() })).toThrow("NUL");
    await server.close();
    await expect(server.listen({ port: 0 })).rejects.toMatchObject({ code: "VDO_CLOSED" });
  });

  test("on TCP answers on the loopback and tells its port", async () => {
    const server = new NbdServer({ exports: [{ name: "", device: new FaultyDevice(memory()) }] });
    const address = await server.listen({ port: 0 });
    expect(address).toMatchObject({ host: "127.0.0.1" });
    const { NbdClient } = await import("@vdo/nbd");
    const client = await NbdClient.connect(`nbd://127.0.0.1:${"port" in address ? address.port : 0}/`);
    await client.write(1, new Uint8Array(4096).fill(4));
    const target = new Uint8Array(4096);
    await client.read(1, target);
    expect(target[9]).toBe(4);
    await client.close();
    await server.close();
  });
});
