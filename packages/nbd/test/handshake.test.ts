import { MemoryDevice } from "@vdo/block-device";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { go, named, option, RawPeer, request, setMeta, text, wire } from "./raw-peer.ts";
import { HandClock, type Served, serve, stopAll, until } from "./served.ts";

const ACK = 1;
const ERR = { unsupported: 0x80000001, policy: 0x80000002, invalid: 0x80000003, unknown: 0x80000006 };
const MANY = 0xffffffff;

let served: Served;
let clock: HandClock;
beforeEach(async () => {
  clock = new HandClock();
  served = await serve({
    clock,
    exports: [
      { name: "vol0", description: "a test volume", device: new MemoryDevice({ blockCount: 16384 }) },
      { name: "locked", readOnly: true, device: new MemoryDevice({ blockCount: 256 }) },
      { name: "", device: new MemoryDevice({ blockCount: 64 }) },
    ],
  });
});
afterEach(stopAll);

describe("the handshake", () => {
  test("opens with the hello, and runs as real clients run it, byte by byte", async () => {
    const peer = await RawPeer.connect(served.path);
    expect((await peer.take(18)).toString("hex")).toBe("4e42444d4147494349484156454f50540003");
    const said = Buffer.concat([wire(3), option(8), setMeta("vol0"), option(7, wire(named("vol0"), "0001 0003"))]);
    for (const byte of said) {
      peer.send(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await peer.optionReply()).toEqual({ option: 8, type: ACK, data: Buffer.alloc(0) });
    const context = wire(0, text("base:allocation"));
    expect(await peer.optionReply()).toEqual({ option: 10, type: 4, data: context });
    expect((await peer.optionReply()).type).toBe(ACK);
    expect(await peer.optionReply()).toEqual({ option: 7, type: 3, data: wire("0000 0000000004000000 0ded") });
    expect(await peer.optionReply()).toEqual({ option: 7, type: 3, data: wire("0003 00000001 00001000 02000000") });
    expect((await peer.optionReply()).type).toBe(ACK);
    peer.send(request(2));
    expect(await peer.rest()).toHaveLength(0);
  });

  test("tells name, description and flags, each once however often asked", async () => {
    const peer = await RawPeer.greeted(served.path);
    peer.send(option(6, wire(named("vol0"), "0004 0001 0002 0001 0099")));
    const replies = [
      await peer.optionReply(),
      await peer.optionReply(),
      await peer.optionReply(),
      await peer.optionReply(),
    ];
    expect(replies.map(({ data }) => data.readUInt16BE(0))).toEqual([0, 3, 1, 2]);
    expect(replies[0]?.data.readUInt16BE(10)).toBe(0x0d6d);
    expect(replies[2]?.data.toString("utf8", 2)).toBe("vol0");
    expect(replies[3]?.data.toString("utf8", 2)).toBe("a test volume");
    expect((await peer.optionReply()).type).toBe(ACK);
    peer.send(go("locked", 6));
    expect((await peer.optionReply()).data.readUInt16BE(10)).toBe(0x050f);
  });

  test("lists the exports", async () => {
    const peer = await RawPeer.greeted(served.path);
    peer.send(option(3));
    expect((await peer.optionReply()).data).toEqual(wire(named("vol0"), text("a test volume")));
    expect((await peer.optionReply()).data).toEqual(named("locked"));
    expect((await peer.optionReply()).data).toEqual(named(""));
    expect((await peer.optionReply()).type).toBe(ACK);
  });

  test("EXPORT_NAME answers 10 or 134 bytes", async () => {
    for (const [flags, length] of [
      [3, 10],
      [1, 134],
      [0, 134],
    ] as const) {
      const peer = await RawPeer.greeted(served.path, flags);
      peer.send(option(1, text("vol0")), request(0, { length: 4 }), request(2));
      const answer = await peer.rest();
      expect(answer.toString("hex", 0, 10)).toBe("0000000004000000" + "0d6d");
      expect(answer.length).toBe(length + 16 + 4);
    }
  });

  test("ABORT is acknowledged, then the connection ends", async () => {
    const peer = await RawPeer.greeted(served.path);
    peer.send(option(2));
    expect((await peer.optionReply()).type).toBe(ACK);
    expect(await peer.rest()).toHaveLength(0);
  });

  test.each([
    ["an unknown option with data", option(0x1234, Buffer.alloc(1 << 20)), ERR.unsupported],
    ["LIST with data", option(3, Buffer.alloc(4)), ERR.invalid],
    ["GO with 2 bytes", option(7, Buffer.alloc(2)), ERR.invalid],
    ["GO with a name beyond the data", option(7, wire(MANY, "0000")), ERR.invalid],
    ["GO with more requests than data", option(7, wire(named("vol0"), "ffff")), ERR.invalid],
    ["GO with trailing bytes", option(7, wire(named("vol0"), "0000 00")), ERR.invalid],
    ["GO with NUL in the name", option(7, wire(named("v\0l0"), "0000")), ERR.invalid],
    ["GO with a name of 5000 bytes", go("x".repeat(5000)), ERR.invalid],
    ["GO for an export that is not there", go("none"), ERR.unknown],
    ["STARTTLS without TLS", option(5), ERR.policy],
    ["STRUCTURED_REPLY with data", option(8, Buffer.alloc(1)), ERR.invalid],
    ["SET_META_CONTEXT before STRUCTURED_REPLY", setMeta(), ERR.invalid],
    ["LIST_META_CONTEXT with a query count of 2^32 - 1", option(9, wire(named(""), MANY, named("base:"))), ERR.invalid],
    ["LIST_META_CONTEXT with 3 bytes", option(9, Buffer.alloc(3)), ERR.invalid],
    ["LIST_META_CONTEXT for an export that is not there", option(9, wire(named("none"), 0)), ERR.unknown],
  ])("%s is answered with its error, and the handshake goes on", async (_, bytes, error) => {
    const peer = await RawPeer.greeted(served.path);
    peer.send(bytes, option(3));
    expect((await peer.optionReply()).type).toBe(error);
    expect((await peer.optionReply()).type).toBe(2);
    peer.close();
  });

  test.each([
    ["an unknown client flag", wire(4)],
    ["a wrong option magic", wire(3, "49484156454f5055", 3, 0)],
    ["an option length of 2^32 - 1", wire(3, "49484156454f5054", 0x1234, MANY)],
    ["an EXPORT_NAME that is not there", wire(3, option(1, text("none")))],
    ["an EXPORT_NAME of 5000 bytes", wire(3, option(1, Buffer.alloc(5000, 65)))],
    ["an option but EXPORT_NAME from a client that is not fixed newstyle", wire(0, option(3))],
  ])("%s ends the connection without a word, and others are served", async (_, bytes) => {
    const peer = await RawPeer.connect(served.path);
    await peer.take(18);
    peer.send(bytes);
    expect(await peer.rest()).toHaveLength(0);
    (await RawPeer.ready(served.path)).close();
  });

  test("ends after 1024 options, and three for each export", async () => {
    const peer = await RawPeer.greeted(served.path);
    peer.send(...Array.from({ length: 1024 + 9 + 1 }, () => option(0x99)));
    const answers = await peer.rest();
    expect(answers.length % (1024 + 9)).toBe(0);
    expect(answers.length).toBeGreaterThan(0);
  });

  test("STRUCTURED_REPLY twice is acknowledged twice", async () => {
    const peer = await RawPeer.greeted(served.path);
    peer.send(option(8), option(8));
    expect([(await peer.optionReply()).type, (await peer.optionReply()).type]).toEqual([ACK, ACK]);
  });

  test("selects contexts as asked, and forgets them when another export is entered or a selection fails", async () => {
    const status = request(7, { length: 4096 });
    for (const [selections, expected] of [
      [[setMeta("vol0")], 5],
      [[setMeta("vol0", "base:")], 0x8001],
      [[setMeta("vol0", "x-none:y")], 0x8001],
      [[setMeta("locked")], 0x8001],
      [[setMeta("vol0"), option(10, wire(named("vol0"), 0))], 0x8001],
      [[setMeta("vol0"), option(10, wire(named("vol0"), MANY))], 0x8001],
    ] as const) {
      const peer = await RawPeer.greeted(served.path);
      peer.send(option(8), ...selections, go("vol0"), status);
      for (let seen = 0; seen < 1; ) if ((await peer.optionReply()).option === 7) seen++;
      await peer.optionReply();
      await peer.optionReply();
      expect((await peer.reply()).type).toBe(expected);
      peer.close();
    }
  });

  test("LIST_META_CONTEXT knows base:allocation under every question for it, once", async () => {
    const peer = await RawPeer.greeted(served.path);
    const list = async (...queries: string[]): Promise<number> => {
      peer.send(option(9, wire(named("vol0"), queries.length, ...queries.map(named))));
      let found = 0;
      while ((await peer.optionReply()).type !== ACK) found++;
      return found;
    };
    expect(await list()).toBe(1);
    expect(await list("base:")).toBe(1);
    expect(await list("base:allocation", "base:", "base:allocation")).toBe(1);
    expect(await list("base:none", "qemu:")).toBe(0);
  });

  test("that lasts longer than 10 s is cut off; one that ended is not", async () => {
    const slow = await RawPeer.greeted(served.path);
    const quick = await RawPeer.ready(served.path);
    slow.send(option(8).subarray(0, 9));
    await until(() => served.server.connectionCount === 2, "both are connected");
    clock.advance(10_001);
    expect(await slow.rest()).toHaveLength(0);
    quick.send(request(0, { length: 8 }));
    expect((await quick.reply(8)).error).toBe(0);
    quick.close();
  });
});
