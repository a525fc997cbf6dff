import { isVdoError, Random, toHex } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import {
  ContentDigest,
  receive,
  type SendOptions,
  type SendReport,
  send,
  ThinPool,
  verifyStream,
} from "../src/index.ts";

const UNIT = 65_536;
const SECTORS = 64 * 128;
const code = (wanted: string) => (error: unknown) => isVdoError(error) && error.code === wanted;

interface Made {
  metadata: MemoryDevice;
  data: MemoryDevice;
  pool: ThinPool;
}

/** A pool with device 0, its snapshot 1, changes, snapshot 2, changes, snapshot 3. */
async function made(seed: number, blockSectors = 128): Promise<Made> {
  const random = new Random(seed);
  const metadata = new MemoryDevice({ blockCount: 512 });
  const data = new MemoryDevice({ blockCount: 16 * 512 });
  const pool = await ThinPool.open({ metadata, data, blockSectors });
  await pool.createThin(0);
  for (let snapshot = 1; snapshot <= 3; snapshot++) {
    const volume = await pool.volume({ id: 0, sectors: SECTORS });
    for (let i = 0; i < 12; i++) {
      const start = random.below(volume.blockCount - 40);
      const count = 1 + random.below(40);
      const dice = random.below(10);
      if (dice < 2) await volume.discard?.(start, count);
      else if (dice < 4) await volume.write(start, new Uint8Array(count * 4096));
      else await volume.write(start, new Uint8Array(count * 4096).fill(1 + random.below(255)));
    }
    await volume.close();
    await pool.createSnapshot(snapshot, 0);
  }
  return { metadata, data, pool };
}

async function sent(options: SendOptions): Promise<{ stream: Uint8Array; report: SendReport }> {
  const pieces: Uint8Array[] = [];
  const producer = send(options);
  for (;;) {
    const { done, value } = await producer.next();
    if (done === true) return { stream: new Uint8Array(Buffer.concat(pieces)), report: value };
    pieces.push(value.slice());
  }
}

/** Cuts the stream into pieces of odd sizes. */
async function* cut(stream: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < stream.length; at += 50_021) yield stream.subarray(at, at + 50_021);
}

const into = (stream: Uint8Array, target: BlockDevice, more = {}): Promise<unknown> =>
  receive({ stream: () => cut(stream), target, ...more });

async function contentOf(pool: ThinPool, id: number): Promise<Uint8Array> {
  const volume = await pool.volume({ id, sectors: SECTORS });
  const content = new Uint8Array(SECTORS * 512);
  await volume.read(0, content);
  await volume.close();
  return content;
}

const blank = (): MemoryDevice => new MemoryDevice({ blockCount: SECTORS / 8 });

async function heldBy(device: BlockDevice): Promise<Uint8Array> {
  const content = new Uint8Array(device.blockCount * device.blockSize);
  await device.read(0, content);
  return content;
}

describe("send and receive", () => {
  test.each([
    [1, 128],
    [2, 128],
    [3, 384],
    [4, 2048],
  ])("bring all snapshots of history %d with blocks of %d sectors to a plain disk", async (seed, blockSectors) => {
    const { metadata, data, pool } = await made(seed, blockSectors);
    const target = blank();
    let base: number | undefined;
    let baseDigest: Uint8Array | undefined;
    for (const device of [1, 2, 3]) {
      const from = base === undefined ? {} : { base };
      const { stream, report } = await sent({ metadata, data, device, sectors: SECTORS, ...from });
      const known = baseDigest === undefined ? {} : { baseDigest };
      const again = await sent({ metadata, data, device, sectors: SECTORS, ...from, ...known });
      expect(Buffer.compare(again.stream, stream)).toBe(0);
      await into(stream, target);
      const wanted = await contentOf(pool, device);
      expect(Buffer.compare(await heldBy(target), wanted)).toBe(0);
      const digest = new ContentDigest();
      digest.addUnits(0, wanted);
      expect(toHex(report.digest)).toBe(toHex(digest.bytes()));
      base = device;
      baseDigest = report.digest;
    }
    await pool.close();
  });

  test("go from pool to pool, whatever the size of the data blocks", async () => {
    const from = await made(5, 128);
    const [metadata, data] = [new MemoryDevice({ blockCount: 512 }), new MemoryDevice({ blockCount: 16 * 512 })];
    const to = await ThinPool.open({ metadata, data, blockSectors: 256 });
    await to.createThin(1);
    for (const device of [1, 2]) {
      if (device === 2) await to.createSnapshot(2, 1);
      const base = device === 2 ? { base: 1 } : {};
      const { stream } = await sent({ ...from, device, sectors: SECTORS, ...base });
      const volume = await to.volume({ id: device, sectors: SECTORS });
      await into(stream, volume, { isBlank: device === 1 });
      await volume.close();
    }
    for (const id of [1, 2]) {
      expect(Buffer.compare(await contentOf(to, id), await contentOf(from.pool, id))).toBe(0);
    }
    await to.close();
    await from.pool.close();
  });

  test("read a pool that runs through its metadata snapshot", async () => {
    const { metadata, data, pool } = await made(6);
    const wanted = await contentOf(pool, 3);
    await pool.reserveMetadataSnapshot();
    const volume = await pool.volume({ id: 0, sectors: SECTORS });
    await volume.write(0, new Uint8Array(4 * UNIT).fill(9));
    await pool.delete(3);
    const { stream } = await sent({ metadata, data, device: 3, metadataSnapshot: true });
    const target = blank();
    await into(stream, target);
    expect(Buffer.compare(await heldBy(target), wanted)).toBe(0);
    await volume.close();
    await pool.close();
  });

  test("leave out what is the same, though it was written again", async () => {
    const { metadata, data, pool } = await made(7, 2048);
    const volume = await pool.volume({ id: 3, sectors: SECTORS });
    const block = new Uint8Array(4096);
    await volume.read(100, block);
    await volume.write(100, block);
    await volume.close();
    await pool.createSnapshot(4, 3);
    const { report } = await sent({ metadata, data, device: 4, base: 3 });
    expect(report).toMatchObject({ payloadBytes: 0, records: 0 });
    await pool.close();
  });
});

describe("a target", () => {
  test("that is not the base is refused, and not written", async () => {
    const { metadata, data, pool } = await made(8);
    const streams: Uint8Array[] = [];
    for (const device of [1, 2, 3]) {
      const base = device === 1 ? {} : { base: device - 1 };
      streams.push((await sent({ metadata, data, device, sectors: SECTORS, ...base })).stream);
    }
    const [full, second, third] = streams as [Uint8Array, Uint8Array, Uint8Array];
    const target = blank();
    await expect(into(second, target)).rejects.toSatisfy(code("VDO_THIN_BASE"));
    await into(full, target);
    const before = await heldBy(target);
    await expect(into(third, target)).rejects.toThrow(/does not hold the base of the stream/);
    await expect(into(full, target)).rejects.toThrow(/is the stream's base but|holds what the stream makes|not blank/);
    expect(Buffer.compare(await heldBy(target), before)).toBe(0);
    await into(second, target);
    await expect(into(second, target)).rejects.toThrow(/holds what the stream makes of it already/);
    await into(third, target);
    await into(full, target, { overwrite: true });
    expect(Buffer.compare(await heldBy(target), before)).toBe(0);
    await target.write(1000, new Uint8Array(4096).fill(77));
    await expect(into(second, target)).rejects.toSatisfy(code("VDO_THIN_BASE"));
    await pool.close();
  });

  test("that is too small is refused", async () => {
    const { metadata, data, pool } = await made(9);
    const { stream } = await sent({ metadata, data, device: 1, sectors: SECTORS });
    const small = new MemoryDevice({ blockCount: SECTORS / 8 - 1 });
    await expect(into(stream, small)).rejects.toSatisfy(code("VDO_THIN_MISMATCH"));
    await pool.close();
  });

  test("on which a run was interrupted is finished with `resume`", async () => {
    const { metadata, data, pool } = await made(10);
    const target = blank();
    await into((await sent({ metadata, data, device: 1, sectors: SECTORS })).stream, target);
    const { stream } = await sent({ metadata, data, device: 2, base: 1, sectors: SECTORS });
    let writes = 0;
    const breaking: BlockDevice = Object.assign(Object.create(target) as MemoryDevice, {
      read: (at: number, bytes: Uint8Array) => target.read(at, bytes),
      flush: () => target.flush(),
      write: (at: number, bytes: Uint8Array) =>
        ++writes === 3 ? Promise.reject(new Error("unplugged")) : target.write(at, bytes),
      writeZeroes: (at: number, count: number) => target.writeZeroes(at, count),
      extents: undefined,
    });
    await expect(into(stream, breaking)).rejects.toThrow("unplugged");
    await expect(into(stream, target)).rejects.toThrow(/--resume/);
    await into(stream, target, { resume: true });
    expect(Buffer.compare(await heldBy(target), await contentOf(pool, 2))).toBe(0);
    await pool.close();
  });
});

describe("a stream", () => {
  test("is refused when it is cut off anywhere, longer, or one bit is another; nothing is written", async () => {
    const { metadata, data, pool } = await made(11);
    const { stream } = await sent({ metadata, data, device: 1, sectors: SECTORS });
    const random = new Random(11);
    const target = blank();
    const wrong: Uint8Array[] = [new Uint8Array(0), new Uint8Array([...stream, 0])];
    for (let i = 0; i < 60; i++) {
      wrong.push(stream.subarray(0, i < 20 ? i * 17 : random.below(stream.length)));
      const flipped = stream.slice();
      const at = i < 30 ? random.below(200) : random.below(stream.length);
      flipped[at] = (flipped[at] as number) ^ (1 << random.below(8));
      wrong.push(flipped);
    }
    for (let at = stream.length - 128; at < stream.length; at++) {
      const flipped = stream.slice();
      flipped[at] = (flipped[at] as number) ^ 1;
      wrong.push(flipped);
    }
    for (const bytes of wrong) await expect(into(bytes, target)).rejects.toSatisfy(code("VDO_THIN_STREAM"));
    expect((await heldBy(target)).every((byte) => byte === 0)).toBe(true);
    await pool.close();
  });

  test("says where it is cut off, and what is no stream", async () => {
    const { metadata, data, pool } = await made(12);
    const { stream } = await sent({ metadata, data, device: 1 });
    await expect(verifyStream(cut(stream.subarray(0, 1000)))).rejects.toThrow(/ends at byte 1000, within its content/);
    for (const other of [new Uint8Array(500), new Uint8Array(500).fill(255)]) {
      await expect(verifyStream(cut(other))).rejects.toThrow("not a stream of vdo thin send");
    }
    await pool.close();
  });
});
