import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice, SimulatedDisk } from "@vdo/block-device/testing";
import { NbdClient, parseNbdUri } from "@vdo/nbd";
import { afterEach, describe, expect, test } from "vitest";
import { text, wire } from "./raw-peer.ts";
import { HandClock, newPath, serve, stopAll, until } from "./served.ts";

const fakes: { server: Server; sockets: Socket[] }[] = [];
afterEach(async () => {
  for (const { server, sockets } of fakes.splice(0)) {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
  await stopAll();
});
const block = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

/** A server that follows a script: what to send after how many bytes were received. */
async function fake(
  script: readonly { after: number; send: Buffer | "close" | ((received: Buffer) => Buffer) }[],
): Promise<string> {
  const path = newPath();
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    let received = Buffer.alloc(0);
    let step = 0;
    let seen = 0;
    const go = (): void => {
      for (let next = script[step]; next !== undefined && received.length - seen >= next.after; next = script[step]) {
        const part = received.subarray(seen, seen + next.after);
        seen += next.after;
        step++;
        if (next.send === "close") socket.destroy();
        else socket.write(typeof next.send === "function" ? next.send(part) : next.send);
      }
    };
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      go();
    });
    go();
  });
  fakes.push({ server, sockets });
  server.listen({ path });
  await once(server, "listening");
  return path;
}

const HELLO = wire("4e42444d41474943 49484156454f5054 0003");
const optionReply = (option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer =>
  wire("0003e889045565a9", option, type, data.length, data);
const exportInfo = (flags: string, size = 1 << 20): Buffer => wire("0000 00000000", size, flags);
/** Bytes of the client's options: STRUCTURED_REPLY, SET_META_CONTEXT, GO, for the default export. */
const [STRUCTURED, META, GO] = [16, 16 + 4 + 4 + 4 + 15, 16 + 4 + 2 + 2];

/** A handshake that agrees on simple replies only. */
const simple = (flags = "000d", size?: number): { after: number; send: Buffer }[] => [
  { after: 0, send: HELLO },
  { after: 4 + STRUCTURED, send: optionReply(8, 0x80000001) },
  { after: GO, send: Buffer.concat([optionReply(7, 3, exportInfo(flags, size)), optionReply(7, 1)]) },
];
/** One that agrees on structured replies and base:allocation with id 9. */
const structured = (): { after: number; send: Buffer }[] => [
  { after: 0, send: HELLO },
  { after: 4 + STRUCTURED, send: optionReply(8, 1) },
  { after: META, send: Buffer.concat([optionReply(10, 4, wire(9, text("base:allocation"))), optionReply(10, 1)]) },
  { after: GO, send: Buffer.concat([optionReply(7, 3, exportInfo("00ed")), optionReply(7, 1)]) },
];
const cookieOf = (request: Buffer): Buffer => request.subarray(8, 16);
const chunk = (request: Buffer, flags: string, type: string, data: Buffer): Buffer =>
  wire("668e33ef", flags, type, cookieOf(request), data.length, data);

describe("URIs", () => {
  test.each([
    ["nbd://host", { host: "host", port: 10809, exportName: "" }],
    ["nbd://host:99/a%20b", { host: "host", port: 99, exportName: "a b" }],
    ["nbd://[::1]:99//x", { host: "::1", port: 99, exportName: "/x" }],
    ["nbd+unix:///?socket=/run/a.sock", { path: "/run/a.sock", exportName: "" }],
    ["nbd+unix:///disk?socket=%2Frun%2Fa", { path: "/run/a", exportName: "disk" }],
  ])("%s names its place", (uri, address) => {
    expect(parseNbdUri(uri)).toEqual(address);
  });

  test.each([
    "http://host/",
    "nbd:",
    "nbd://",
    "nbd://host:70000",
    "nbds://host",
    "nbd+unix:///disk",
    "nbd+unix://h/?socket=a",
    "nbd://h/%zz",
    "nbd://u@h/",
  ])("%s is refused", (uri) => {
    expect(() => parseNbdUri(uri)).toThrow(expect.objectContaining({ code: "VDO_BAD_ARGUMENT" }));
  });
});

describe("connecting", () => {
  test("to nobody, to silence, and to something else fails with a reason", async () => {
    await expect(NbdClient.connect({ path: newPath() })).rejects.toMatchObject({
      code: "VDO_IO",
      data: { operation: "open" },
    });
    const closing = await fake([{ after: 0, send: "close" }]);
    await expect(NbdClient.connect({ path: closing })).rejects.toMatchObject({ code: "VDO_IO" });
    const clock = new HandClock();
    const silent = NbdClient.connect({ path: await fake([]) }, { clock });
    setTimeout(() => clock.advance(10_001), 20);
    await expect(silent).rejects.toThrow("no answer within 10000 ms");
  });

  test.each([
    ["another protocol", wire(text("HTTP/1.1 400 Bad Request\r\n"))],
    ["the old style", wire("4e42444d41474943 0000420281861253", Buffer.alloc(200))],
  ])("to %s is a protocol error", async (_, hello) => {
    await expect(NbdClient.connect({ path: await fake([{ after: 0, send: hello }]) })).rejects.toMatchObject({
      code: "VDO_NBD_PROTOCOL",
    });
  });

  test.each([
    ["another magic", Buffer.alloc(20, 1)],
    ["a reply to another option", optionReply(3, 1)],
    ["a reply of 1 GiB", wire("0003e889045565a9", 8, 1, 1 << 30)],
  ])("to a server that answers options with %s is a protocol error", async (_, answer) => {
    const path = await fake([
      { after: 0, send: HELLO },
      { after: 4 + STRUCTURED, send: answer },
    ]);
    await expect(NbdClient.connect({ path })).rejects.toMatchObject({ code: "VDO_NBD_PROTOCOL" });
  });

  test("to an export that is not there is refused with the server's words", async () => {
    const { path } = await serve({ exports: [{ name: "a", device: new MemoryDevice({ blockCount: 64 }) }] });
    const refused = NbdClient.connect({ path, exportName: "b" });
    await expect(refused).rejects.toMatchObject({ code: "VDO_NBD_REFUSED", data: { option: "GO" } });
    await expect(refused).rejects.toThrow("export 'b' not present");
  });

  test("to a server that knows only EXPORT_NAME works", async () => {
    const path = await fake([
      { after: 0, send: HELLO },
      { after: 4 + STRUCTURED, send: optionReply(8, 0x80000001) },
      { after: GO, send: optionReply(7, 0x80000001) },
      { after: 16, send: wire("0000000000100000 0005") },
    ]);
    const client = await NbdClient.connect({ path });
    expect(client.blockCount).toBe(256);
    expect(client.discard).toBeUndefined();
    expect(client.writeZeroes).toBeUndefined();
    expect(client.extents).toBeUndefined();
    await client.close();
  });
});

describe("replies", () => {
  test("without FUA at the server, a fua write is followed by a flush", async () => {
    const commands: number[] = [];
    const answer = (request: Buffer): Buffer => {
      commands.push(request.readUInt16BE(6));
      return wire("67446698", 0, cookieOf(request));
    };
    const path = await fake([...simple("0005"), { after: 28 + 4096, send: answer }, { after: 28, send: answer }]);
    const client = await NbdClient.connect({ path });
    await client.write(0, block(1), { fua: true });
    expect(commands).toEqual([1, 3]);
  });

  test("in chunks, out of order, with holes, fill the target", async () => {
    const answer = (request: Buffer): Buffer =>
      Buffer.concat([
        chunk(request, "0000", "0001", wire(0, 3000, Buffer.alloc(1096, 7))),
        chunk(request, "0000", "0002", wire(0, 1000, 2000)),
        chunk(request, "0001", "0001", wire(0, 0, Buffer.alloc(1000, 5))),
      ]);
    const client = await NbdClient.connect({ path: await fake([...structured(), { after: 28, send: answer }]) });
    const target = block(9);
    await client.read(0, target);
    expect([0, 999, 1000, 2999, 3000, 4095].map((at) => target[at])).toEqual([5, 5, 0, 0, 7, 7]);
  });

  test.each([
    [28, "VDO_NO_SPACE"],
    [1, "VDO_READ_ONLY"],
    [5, "VDO_IO"],
    [22, "VDO_IO"],
    [12345, "VDO_IO"],
  ])("with error %i reject with %s, text and block, and the connection lives", async (error, code) => {
    const failed = (request: Buffer): Buffer => chunk(request, "0001", "8001", wire(error, "0003", text("why")));
    const done = (request: Buffer): Buffer => wire("67446698", 0, cookieOf(request));
    const client = await NbdClient.connect({
      path: await fake([...structured(), { after: 28 + 4096, send: failed }, { after: 28, send: done }]),
    });
    await expect(client.write(3, block(1))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/block 3.*why/),
    });
    await client.flush();
  });

  const data = (offset: number, length: number) => (request: Buffer) =>
    chunk(request, "0001", "0001", wire(0, offset, Buffer.alloc(length, 1)));
  test.each<[string, (request: Buffer) => Buffer]>([
    ["a wrong magic", () => Buffer.alloc(32, 3)],
    ["an unknown cookie", () => wire("67446698", 0, "ffffffffffffffff", Buffer.alloc(4096))],
    ["a simple reply to a read", (request) => wire("67446698", 0, cookieOf(request), Buffer.alloc(4096))],
    ["data outside the request", data(4096, 4096)],
    ["data beyond the request", data(0, 5000)],
    ["a part of the data only", data(0, 4000)],
    [
      "the same data twice",
      (request) =>
        Buffer.concat([chunk(request, "0000", "0001", wire(0, 0, Buffer.alloc(4096))), data(0, 4096)(request)]),
    ],
    ["an empty end without data", (request) => chunk(request, "0001", "0000", Buffer.alloc(0))],
    ["an unknown chunk type", (request) => chunk(request, "0001", "0077", Buffer.alloc(4))],
    ["a chunk of 4 GiB", (request) => wire("668e33ef 0001 0005", cookieOf(request), 0xffffffff)],
    ["a hole outside the request", (request) => chunk(request, "0001", "0002", wire(0, 0, 4097))],
  ])("with %s end the connection: the read and all later requests fail with VDO_IO", async (_, answer) => {
    const client = await NbdClient.connect({ path: await fake([...structured(), { after: 28, send: answer }]) });
    await expect(client.read(0, block(0))).rejects.toMatchObject({
      code: "VDO_IO",
      data: { operation: "read", block: 0 },
    });
    await expect(client.flush()).rejects.toMatchObject({ code: "VDO_IO" });
    await client.close().catch(() => undefined);
  });
});

describe("the client", () => {
  test("fails everything in flight and waiting when the connection is lost", async () => {
    const path = await fake([...simple(), { after: 28 * 4, send: "close" }]);
    const client = await NbdClient.connect({ path }, { requestsMax: 4 });
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => client.read(i, block(0))));
    const reasons = outcomes.map((outcome) => (outcome.status === "rejected" ? outcome.reason : undefined));
    expect(reasons.map((reason) => [reason?.code, reason?.data.block])).toEqual(
      Array.from({ length: 10 }, (_, i) => ["VDO_IO", i]),
    );
    await client.close();
  });

  test("has no more requests in flight than it was told", async () => {
    const clock = new HandClock();
    const slow = new FaultyDevice(
      new MemoryDevice({ blockCount: 64 }),
      [{ operation: "read", fault: { delayMs: 1 } }],
      clock,
    );
    const recorder = new RecordingDevice(slow);
    const { path } = await serve({ exports: [{ name: "", device: recorder }] });
    const client = await NbdClient.connect({ path }, { requestsMax: 8 });
    const reads = Array.from({ length: 20 }, (_, i) => client.read(i, block(0)));
    await until(() => recorder.log.length === 8, "eight reads arrived");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(recorder.log).toHaveLength(8);
    const ticking = setInterval(() => clock.advance(1), 1);
    await Promise.all(reads);
    clearInterval(ticking);
    await client.close();
  });

  test("splits what is larger than a request may be", async () => {
    const recorder = new RecordingDevice(new MemoryDevice({ blockCount: (80 << 20) / 4096 }));
    const { path } = await serve({ exports: [{ name: "", device: recorder }] });
    const client = await NbdClient.connect({ path });
    const data = new Uint8Array(70 << 20).fill(3);
    data[(40 << 20) + 5] = 99;
    await client.write(1, data);
    expect(
      recorder
        .of("write")
        .map(({ count }) => count)
        .sort((a, b) => a - b),
    ).toEqual([1536, 8192, 8192]);
    const back = new Uint8Array(70 << 20);
    await client.read(1, back);
    expect(Buffer.compare(back, data)).toBe(0);
    await client.close();
  });

  test("refuses block sizes the server cannot serve", async () => {
    const { path } = await serve({ exports: [{ name: "", device: new MemoryDevice({ blockCount: 64 }) }] });
    await expect(NbdClient.connect({ path }, { blockSize: 1000 })).rejects.toMatchObject({ code: "VDO_BAD_ARGUMENT" });
  });

  test("a write on one connection is durable after a flush on another, whatever the disk does", async () => {
    for (let seed = 0; seed < 20; seed++) {
      const disk = new SimulatedDisk({ blockCount: 64, seed });
      const { path, server } = await serve({ exports: [{ name: "", device: disk }] });
      const [one, two] = [await NbdClient.connect({ path }), await NbdClient.connect({ path })];
      await Promise.all([one.write(1, block(1)), two.write(2, block(2))]);
      await two.flush();
      await one.write(3, block(3), { fua: true });
      const after = disk.crash(seed);
      for (const value of [1, 2, 3]) {
        const target = block(0);
        await after.read(value, target);
        expect(
          target.every((byte) => byte === value),
          `seed ${seed}, block ${value}`,
        ).toBe(true);
      }
      await Promise.allSettled([one.close(), two.close()]);
      await server.close();
    }
  });
});
