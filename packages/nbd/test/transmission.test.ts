import { VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { FaultyDevice, RecordingDevice } from "@vdo/block-device/testing";
import { afterEach, describe, expect, test } from "vitest";
import { RawPeer, type Reply, request } from "./raw-peer.ts";
import { HandClock, serve, stopAll, until } from "./served.ts";

const E = { PERM: 1, IO: 5, INVAL: 22, NOSPC: 28, OVERFLOW: 75, NOTSUP: 95, SHUTDOWN: 108 };
const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const TRIM = 4;
const CACHE = 5;
const ZEROES = 6;
const STATUS = 7;
const FLAG = { fua: 1, noHole: 2, df: 4, one: 8, fast: 16 };
const SIZE = 16 << 20;
const block = (value: number): Buffer => Buffer.alloc(4096, value);

afterEach(stopAll);

async function peerOf(
  device: BlockDevice,
  options: { structured?: boolean; readOnly?: boolean } = {},
): Promise<RawPeer> {
  const { path } = await serve({ exports: [{ name: "", device, readOnly: options.readOnly ?? false }] });
  return RawPeer.ready(path, { structured: options.structured ?? false });
}
const memory = (): MemoryDevice => new MemoryDevice({ blockCount: SIZE / 4096 });

async function allChunks(peer: RawPeer): Promise<Reply[]> {
  const chunks: Reply[] = [];
  do chunks.push(await peer.reply());
  while (!chunks.at(-1)?.done);
  return chunks;
}

describe("requests", () => {
  test.each([true, false])(
    "that cannot be served get their error and the next one is served (structured: %s)",
    async (structured) => {
      const peer = await peerOf(memory(), { structured });
      const payload = block(1);
      const cases: [string, Buffer, number][] = [
        ["unknown command", request(99, { length: 4096 }), E.INVAL],
        ["unknown flag", request(FLUSH, { flags: 0x20 }), E.INVAL],
        ["NO_HOLE on READ", request(READ, { flags: FLAG.noHole, length: 8 }), E.INVAL],
        ["FAST_ZERO on WRITE", request(WRITE, { flags: FLAG.fast, length: 4096, payload }), E.INVAL],
        ["READ past the end", request(READ, { offset: SIZE, length: 1 }), E.INVAL],
        ["READ across the end", request(READ, { offset: SIZE - 1, length: 2 }), E.INVAL],
        ["WRITE past the end", request(WRITE, { offset: SIZE, length: 4096, payload }), E.NOSPC],
        ["WRITE_ZEROES past the end", request(ZEROES, { offset: SIZE - 1, length: 2 }), E.NOSPC],
        ["TRIM past the end", request(TRIM, { offset: SIZE, length: 4096 }), E.INVAL],
        ["CACHE past the end", request(CACHE, { offset: SIZE, length: 1 }), E.INVAL],
        ["BLOCK_STATUS past the end", request(STATUS, { offset: SIZE, length: 4096 }), E.INVAL],
        ["BLOCK_STATUS of nothing", request(STATUS, { length: 0 }), E.INVAL],
        ["READ of 4 GiB", request(READ, { length: 2 ** 32 - 1 }), E.INVAL],
      ];
      for (const [what, bytes, error] of cases) {
        peer.send(bytes, request(READ, { cookie: 7, length: 16 }));
        const reply = await peer.reply();
        expect(reply.error, what).toBe(error);
        expect(reply.type, what).toBe(structured ? 0x8001 : -1);
        if (structured) expect(reply.data.readUInt16BE(4), what).toBe(reply.data.length - 6);
        expect((await peer.reply(16)).cookie, what).toBe(7);
      }
      peer.send(
        request(READ, { offset: 2 ** 63, length: 8 }),
        request(WRITE, { offset: 2 ** 63, length: 4096, payload }),
      );
      expect((await peer.reply()).error).toBe(E.INVAL);
      expect((await peer.reply()).error).toBe(E.NOSPC);
    },
  );

  test("DF and block status without their agreement are invalid", async () => {
    const peer = await peerOf(memory());
    peer.send(request(READ, { flags: FLAG.df, length: 8 }), request(STATUS, { length: 4096 }));
    expect((await peer.reply()).error).toBe(E.INVAL);
    expect((await peer.reply()).error).toBe(E.INVAL);
  });

  test("for nothing succeed", async () => {
    for (const structured of [false, true]) {
      const peer = await peerOf(memory(), { structured });
      for (const command of [READ, WRITE, TRIM, CACHE, ZEROES]) {
        peer.send(request(command));
        expect((await peer.reply()).error).toBe(0);
      }
    }
  });

  test("that change a read-only export are not permitted", async () => {
    const peer = await peerOf(memory(), { readOnly: true });
    peer.send(
      request(WRITE, { length: 4096, payload: block(1) }),
      request(TRIM, { length: 4096 }),
      request(ZEROES, { length: 4096 }),
    );
    for (let i = 0; i < 3; i++) expect((await peer.reply()).error).toBe(E.PERM);
  });

  test("in any pieces are understood", async () => {
    const peer = await peerOf(memory());
    const said = Buffer.concat([
      request(WRITE, { cookie: 1, offset: 4096, length: 4096, payload: block(5) }),
      request(READ, { cookie: 2, offset: 4096, length: 4096 }),
      request(WRITE, { cookie: 3, offset: 100, length: 9, payload: Buffer.alloc(9, 6) }),
      request(READ, { cookie: 4, offset: 99, length: 11 }),
    ]);
    peer.socket.setNoDelay(true);
    for (let at = 0; at < said.length; at += 13) {
      peer.send(said.subarray(at, at + 13));
      if (at % 169 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const replies = new Map<number, Reply>();
    for (let i = 0; i < 4; i++) {
      const head = await peer.reply();
      if (head.cookie === 2) head.data = await peer.take(4096);
      if (head.cookie === 4) head.data = await peer.take(11);
      replies.set(head.cookie, head);
    }
    expect([...replies.values()].every(({ error }) => error === 0)).toBe(true);
    expect(replies.get(4)?.data).toHaveLength(11);
  });

  test("keep their cookie, all 64 bits of it", async () => {
    const peer = await peerOf(memory());
    const bytes = request(FLUSH);
    Buffer.from("ffeeddccbbaa9988", "hex").copy(bytes, 8);
    peer.send(bytes);
    expect((await peer.take(16)).toString("hex")).toBe("6744669800000000" + "ffeeddccbbaa9988");
  });

  test("with a wrong magic end the connection, after what was in flight is answered", async () => {
    const peer = await peerOf(memory());
    peer.send(request(FLUSH), Buffer.alloc(28, 7), request(FLUSH));
    expect(await peer.rest()).toHaveLength(16);
  });

  test("too large to write: up to 64 MiB is consumed and refused, more ends the connection", async () => {
    const peer = await peerOf(memory());
    const length = 33 << 20;
    peer.send(request(WRITE, { length }), Buffer.alloc(length), request(FLUSH));
    expect((await peer.reply()).error).toBe(E.INVAL);
    expect((await peer.reply()).error).toBe(0);
    peer.send(request(WRITE, { length: 2 ** 32 - 1 }), Buffer.alloc(1000));
    expect((await peer.reply()).error).toBe(E.INVAL);
    expect(await peer.rest()).toHaveLength(0);
  });
});

describe("reads", () => {
  test("send zeros as holes and data as data, without gap or overlap", async () => {
    const device = memory();
    await device.write(2, block(1));
    await device.write(3, Buffer.concat([Buffer.alloc(4095), Buffer.alloc(1, 2)]));
    const peer = await peerOf(device, { structured: true });
    peer.send(request(READ, { offset: 100, length: 32768 }));
    const result = Buffer.alloc(32768, 0xee);
    let covered = 0;
    for (const { type, data } of await allChunks(peer)) {
      const at = Number(data.readBigUInt64BE(0)) - 100;
      const length = type === 2 ? data.readUInt32BE(8) : data.length - 8;
      if (type === 2) result.fill(0, at, at + length);
      else data.copy(result, at, 8);
      covered += length;
    }
    expect(covered).toBe(32768);
    const expected = Buffer.alloc(32768 + 100);
    await device.read(0, expected.subarray(0, 32768));
    expect(result.equals(expected.subarray(100))).toBe(true);
    peer.send(request(READ, { flags: FLAG.df, length: 65536 }));
    const whole = await allChunks(peer);
    expect(whole).toHaveLength(1);
    expect(whole[0]?.data).toHaveLength(65536 + 8);
  });

  test("of many mebibytes are streamed, and others are answered meanwhile", async () => {
    const device = memory();
    for (let i = 0; i < SIZE / 4096; i += 2) await device.write(i, block(1 + (i % 200)));
    const peer = await peerOf(device, { structured: true });
    peer.send(request(READ, { cookie: 1, length: SIZE }), request(READ, { cookie: 2, offset: 0, length: 4096 }));
    let covered = 0;
    const order: number[] = [];
    while (covered < SIZE + 4096) {
      const { type, data, cookie, error } = await peer.reply();
      expect(error).toBe(0);
      covered += type === 2 ? data.readUInt32BE(8) : data.length - 8;
      order.push(cookie);
    }
    expect(order.indexOf(2)).toBeLessThan(order.lastIndexOf(1));
  });

  test("that fail midway end with an error chunk, and the connection lives", async () => {
    const rule = { operation: "read", blocks: { start: 1024, count: 1 }, times: 1 } as const;
    const peer = await peerOf(new FaultyDevice(memory(), [rule]), { structured: true });
    peer.send(request(READ, { length: SIZE }));
    const chunks = await allChunks(peer);
    expect(chunks.at(-1)).toMatchObject({ type: 0x8001, error: E.IO });
    expect(chunks.length).toBeGreaterThan(1);
    peer.send(request(READ, { length: 4096 }));
    expect((await allChunks(peer)).every(({ error }) => error === 0)).toBe(true);
  });

  test("above 64 MiB are refused: EOVERFLOW with structured replies, EINVAL without", async () => {
    const device = new MemoryDevice({ blockCount: (128 << 20) / 4096 });
    for (const [structured, error] of [
      [true, E.OVERFLOW],
      [false, E.INVAL],
    ] as const) {
      const peer = await peerOf(device, { structured });
      peer.send(request(READ, { length: (64 << 20) + 1 }), request(FLUSH, { cookie: 5 }));
      expect((await peer.reply()).error).toBe(error);
      expect((await peer.reply()).cookie).toBe(5);
    }
  });
});

describe("zeroing, trimming and block status", () => {
  test("zeroing is exact at any alignment; trimming keeps partial blocks", async () => {
    const device = memory();
    for (let i = 0; i < 8; i++) await device.write(i, block(7));
    const peer = await peerOf(device);
    peer.send(request(ZEROES, { offset: 4000, length: 9000 }));
    await peer.reply();
    peer.send(request(READ, { length: 16384 }));
    const data = (await peer.reply(16384)).data;
    expect([3999, 4000, 12999, 13000].map((at) => data[at])).toEqual([7, 0, 0, 7]);
    peer.send(request(TRIM, { offset: 16384 + 1, length: 12000 }));
    await peer.reply();
    peer.send(request(READ, { offset: 16384, length: 16384 }));
    const trimmed = (await peer.reply(16384)).data;
    expect([4095, 4096, 8191, 8192].map((at) => trimmed[at])).toEqual([7, 0, 0, 7]);
  });

  test("reach the device in slices, with NO_HOLE and FUA; one flush serves many slices", async () => {
    const device = new RecordingDevice(new MemoryDevice({ blockCount: (1 << 30) / 4096 }));
    const peer = await peerOf(device);
    peer.send(request(TRIM, { flags: FLAG.fua, length: 1 << 30 }));
    expect((await peer.reply()).error).toBe(0);
    expect(device.of("discard").length).toBe(32);
    expect(device.log.at(-1)?.kind).toBe("flush");
    peer.send(request(ZEROES, { flags: FLAG.fua, length: 8192 }));
    await peer.reply();
    expect(device.log.at(-1)).toMatchObject({ kind: "zero", start: 0, count: 2, fua: true });
  });

  test("FAST_ZERO is refused, and nothing changed, where zeros would have to be written", async () => {
    const slow: BlockDevice = new FaultyDevice(memory());
    const log = new RecordingDevice(memory());
    const plain: BlockDevice = {
      blockSize: 4096,
      blockCount: log.blockCount,
      read: (start, target) => log.read(start, target),
      write: (start, source, options) => log.write(start, source, options),
      flush: () => log.flush(),
      close: () => log.close(),
    };
    const peer = await peerOf(plain);
    peer.send(request(ZEROES, { flags: FLAG.fast, length: 8192 }));
    expect((await peer.reply()).error).toBe(E.NOTSUP);
    expect(log.log).toEqual([]);
    peer.send(request(ZEROES, { length: 8192 }), request(TRIM, { length: 8192 }));
    expect([(await peer.reply()).error, (await peer.reply()).error]).toEqual([0, 0]);
    const fast = await peerOf(slow);
    fast.send(request(ZEROES, { flags: FLAG.fast, length: 8192 }));
    expect((await fast.reply()).error).toBe(0);
  });

  test("block status begins where asked, merges equal states, and obeys REQ_ONE", async () => {
    const device = memory();
    await device.write(256, block(1));
    const peer = await peerOf(device, { structured: true });
    const status = async (flags: number, offset: number, length: number): Promise<number[]> => {
      peer.send(request(STATUS, { flags, offset, length }));
      const { data, done } = await peer.reply();
      expect(done).toBe(true);
      return Array.from({ length: (data.length - 4) / 4 }, (_, i) => data.readUInt32BE(4 + i * 4));
    };
    expect(await status(0, 0, SIZE)).toEqual([1 << 20, 3, 1 << 20, 0, SIZE - (2 << 20), 3]);
    expect(await status(FLAG.one, 100, SIZE - 100)).toEqual([(1 << 20) - 100, 3]);
    expect(await status(FLAG.one, 1 << 20, 5000)).toEqual([5000, 0]);
  });
});

describe("errors and durability", () => {
  test("of the device become the protocol's, and clients learn no path of the host", async () => {
    const paths = ["/secret/place"];
    const failing = (error: Error): BlockDevice => ({
      blockSize: 4096,
      blockCount: 1024,
      read: () => Promise.reject(error),
      write: () => {
        throw error;
      },
      flush: () => Promise.resolve(),
      close: () => Promise.resolve(),
    });
    const text = `${paths[0]}: failed`;
    for (const [error, expected] of [
      [new VdoError("VDO_NO_SPACE", text, { blocksFree: 0 }), E.NOSPC],
      [new VdoError("VDO_READ_ONLY", text, { object: text }), E.PERM],
      [new VdoError("VDO_IO", text, { operation: "read", block: 0 }), E.IO],
      [new VdoError("VDO_CLOSED", text, { object: text }), E.SHUTDOWN],
      [new VdoError("VDO_INVARIANT", text, {}), E.IO],
      [new Error(text), E.IO],
    ] as const) {
      const peer = await peerOf(failing(error), { structured: true });
      peer.send(request(READ, { length: 4096 }), request(WRITE, { length: 4096, payload: block(1) }));
      for (let i = 0; i < 2; i++) {
        const reply = await peer.reply();
        expect(reply.error).toBe(expected);
        expect(reply.data.toString()).not.toContain("secret");
      }
    }
  });

  test("flushes asked for while one runs share the next", async () => {
    const clock = new HandClock();
    const recorder = new RecordingDevice(
      new FaultyDevice(memory(), [{ operation: "flush", fault: { delayMs: 5 } }], clock),
    );
    const peer = await peerOf(recorder);
    peer.send(...Array.from({ length: 20 }, (_, i) => request(FLUSH, { cookie: i })));
    await until(() => recorder.of("flush").length === 1, "the first flush runs");
    clock.advance(5);
    await until(() => recorder.of("flush").length === 2, "the second flush runs");
    clock.advance(5);
    for (let i = 0; i < 20; i++) expect((await peer.reply()).error).toBe(0);
    expect(recorder.of("flush").length).toBe(2);
  });

  test("after a failed flush every flush and FUA fails, plain writes go on", async () => {
    const peer = await peerOf(new FaultyDevice(memory(), [{ operation: "flush", times: 1 }]));
    const write = (flags: number): Buffer => request(WRITE, { flags, length: 4096, payload: block(1) });
    for (const [bytes, error] of [
      [request(FLUSH), E.IO],
      [request(FLUSH), E.IO],
      [write(FLAG.fua), E.IO],
      [write(0), 0],
    ] as const) {
      peer.send(bytes);
      expect((await peer.reply()).error).toBe(error);
    }
  });

  test("a write answered on one connection is read, and flushed, on another", async () => {
    const device = new RecordingDevice(memory());
    const { path } = await serve({ exports: [{ name: "", device }] });
    const [one, two] = [await RawPeer.ready(path), await RawPeer.ready(path)];
    one.send(request(WRITE, { offset: 8192, length: 4096, payload: block(9) }));
    await one.reply();
    two.send(request(READ, { offset: 8192, length: 4096 }));
    expect((await two.reply(4096)).data.equals(block(9))).toBe(true);
    two.send(request(FLUSH));
    await two.reply();
    expect(device.log.map(({ kind }) => kind)).toEqual(["write", "read", "flush"]);
  });

  test("unaligned writes to one block from several connections lose nothing", async () => {
    const device = memory();
    const { path } = await serve({ exports: [{ name: "", device }] });
    const peers = await Promise.all([RawPeer.ready(path), RawPeer.ready(path), RawPeer.ready(path)]);
    for (let i = 0; i < 96; i++) {
      const payload = Buffer.alloc(85, i + 1);
      (peers[i % 3] as RawPeer).send(request(WRITE, { offset: i * 85, length: 85, payload }));
    }
    for (let i = 0; i < 96; i++) await (peers[i % 3] as RawPeer).reply();
    const data = Buffer.alloc(8192);
    await device.read(0, data);
    for (let i = 0; i < 96 * 85; i++) expect(data[i]).toBe(Math.floor(i / 85) + 1);
  });
});
