/**
 * Writes the stream that changes one snapshot into another, or a disk of zeros into one.
 *
 * The two devices must not be written meanwhile. A pool that runs is read through its metadata snapshot, which also keeps the
 * data blocks from being used again.
 */
import { createHash } from "node:crypto";
import { crc32c, equalBytes, isZero, viewOf } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { SECTOR_BYTES } from "../constants.ts";
import {
  PAYLOAD_UNITS_MAX,
  RECORD_DATA,
  RECORD_END,
  RECORD_HOLE,
  STREAM_HAS_BASE,
  STREAM_MAGIC,
  STREAM_VERSION,
  thinStreamHeader,
  thinStreamRecord,
  thinStreamTrailer,
  UNIT_BYTES,
  UNIT_SECTORS,
} from "../format/stream.ts";
import { type DeltaRun, joinRuns, mappedRuns, mergeRuns } from "../tools/delta.ts";
import type { MappingRun } from "../tools/mapping-runs.ts";
import { damage } from "../tools/node.ts";
import { type DeviceRecord, PoolReader, type ReadOptions } from "../tools/pool-reader.ts";
import { ContentDigest } from "./content-digest.ts";

/** What a long step has done, in bytes. */
export interface StreamProgress {
  step: "reading the base" | "sending" | "checking the stream" | "checking the target" | "writing" | "verifying";
  done: number;
  total: number;
}

export interface SendOptions extends ReadOptions {
  metadata: BlockDevice;
  data: BlockDevice;
  /** Id of the snapshot that is sent. */
  device: number;
  /** Id of the snapshot that the receiver has; without, all is sent. */
  base?: number;
  /** Virtual size; else up to the last mapped block. What is mapped beyond it is left out. */
  sectors?: number;
  /** Digest of the base, from the report of its own sending; without, the base is read whole. */
  baseDigest?: Uint8Array;
  onProgress?(progress: StreamProgress): void;
}

export interface SendReport {
  /** Digest of the device's content: `baseDigest` of the next one. */
  digest: Uint8Array;
  bytes: number;
  payloadBytes: number;
  records: number;
}

/** Yields the stream piece by piece; returns what it came to. Throws `VDO_THIN_NOT_FOUND`, `VDO_CORRUPT`, and what the devices throw. */
export async function* send(options: SendOptions): AsyncGenerator<Uint8Array, SendReport> {
  const pool = await PoolReader.open(options.metadata, options);
  const device = await pool.device(options.device);
  const left = options.base === undefined ? [] : await mappedRuns(pool, options.base);
  const right = await mappedRuns(pool, options.device);
  return yield* new Sender(options, pool, device).run(left, right);
}

class Sender {
  readonly #options: SendOptions;
  readonly #pool: PoolReader;
  readonly #device: DeviceRecord;
  readonly #hash = createHash("sha256");
  readonly #replaced = new ContentDigest();
  readonly #added = new ContentDigest();
  #bytes = 0;
  #payloadBytes = 0;
  #records = 0;
  #sectors = 0;

  constructor(options: SendOptions, pool: PoolReader, device: DeviceRecord) {
    this.#options = options;
    this.#pool = pool;
    this.#device = device;
  }

  /** Units of a data block. */
  get #perBlock(): number {
    return this.#pool.view.dataBlockSectors / UNIT_SECTORS;
  }

  async *run(left: readonly MappingRun[], right: readonly MappingRun[]): AsyncGenerator<Uint8Array, SendReport> {
    const mapped = Math.max(endOf(left), endOf(right)) * this.#pool.view.dataBlockSectors;
    this.#sectors = this.#options.sectors ?? mapped;
    const baseDigest = await this.#baseDigest(left);
    const runs = joinRuns(mergeRuns(left, right), true).filter(({ kind }) => kind !== "same");
    const total = runs.reduce((sum, { length }) => sum + length, 0) * this.#perBlock * UNIT_BYTES;
    yield this.#emit(this.#header(baseDigest, total));
    let done = 0;
    for (const run of runs) {
      const units = run.length * this.#perBlock;
      for (let at = 0; at < units; at += PAYLOAD_UNITS_MAX) {
        const count = Math.min(PAYLOAD_UNITS_MAX, units - at);
        yield* this.#piece(run, at, count);
        done += count * UNIT_BYTES;
        this.#options.onProgress?.({ step: "sending", done, total });
      }
    }
    yield this.#emit(this.#record(RECORD_END, 0, 0));
    const digest = new ContentDigest(baseDigest.bytes());
    digest.subtract(this.#replaced);
    digest.add(this.#added);
    yield this.#trailer(digest);
    const { records, payloadBytes } = this.#totals();
    return { digest: digest.bytes(), bytes: this.#bytes, payloadBytes, records };
  }

  #totals(): { records: number; payloadBytes: number } {
    return { records: this.#records - 1, payloadBytes: this.#payloadBytes };
  }

  async #baseDigest(left: readonly MappingRun[]): Promise<ContentDigest> {
    const { baseDigest, onProgress } = this.#options;
    if (baseDigest !== undefined) return new ContentDigest(baseDigest);
    const digest = new ContentDigest();
    const total = left.reduce((sum, { length }) => sum + length, 0) * this.#perBlock * UNIT_BYTES;
    let done = 0;
    for (const { begin, data, length } of left) {
      const units = length * this.#perBlock;
      for (let at = 0; at < units; at += PAYLOAD_UNITS_MAX) {
        const unit = begin * this.#perBlock + at;
        const content = await this.#read(unit, data * this.#perBlock + at, Math.min(PAYLOAD_UNITS_MAX, units - at));
        digest.addUnits(unit, content);
        done += content.length;
        onProgress?.({ step: "reading the base", done, total });
      }
    }
    return digest;
  }

  /** Units as the device shows them: what lies beyond its size counts as zeros. */
  async #read(unit: number, dataUnit: number, count: number): Promise<Uint8Array> {
    const { data } = this.#options;
    const content = new Uint8Array(count * UNIT_BYTES);
    const per = UNIT_BYTES / data.blockSize;
    if ((dataUnit + count) * per > data.blockCount) {
      throw damage("mappings", `unit ${unit} lies at ${dataUnit * UNIT_BYTES}, beyond the end of the data device`);
    }
    await data.read(dataUnit * per, content);
    const visible = (this.#sectors - unit * UNIT_SECTORS) * SECTOR_BYTES;
    if (visible < content.length) content.fill(0, Math.max(0, visible));
    return content;
  }

  async *#piece(run: DeltaRun, at: number, count: number): AsyncGenerator<Uint8Array> {
    const unit = run.begin * this.#perBlock + at;
    const side = (isHere: boolean, block: number): Promise<Uint8Array> =>
      isHere
        ? this.#read(unit, block * this.#perBlock + at, count)
        : Promise.resolve(new Uint8Array(count * UNIT_BYTES));
    const [before, after] = await Promise.all([
      side(run.kind !== "right_only", run.leftData),
      side(run.kind !== "left_only", run.rightData),
    ]);
    for (let i = 0; i < count; ) {
      const kind = kindOf(before, after, i);
      let end = i + 1;
      while (end < count && kindOf(before, after, end) === kind) end++;
      if (kind !== undefined) {
        this.#replaced.addUnits(unit + i, before.subarray(i * UNIT_BYTES, end * UNIT_BYTES));
        yield* this.#change(kind, unit + i, after.subarray(i * UNIT_BYTES, end * UNIT_BYTES));
      }
      i = end;
    }
  }

  *#change(kind: number, begin: number, content: Uint8Array): Generator<Uint8Array> {
    const count = content.length / UNIT_BYTES;
    if (kind === RECORD_HOLE) {
      yield this.#emit(this.#record(kind, begin, count));
      return;
    }
    this.#added.addUnits(begin, content);
    this.#payloadBytes += content.length;
    yield this.#emit(this.#record(kind, begin, count, content));
    yield this.#emit(content);
  }

  #emit(piece: Uint8Array): Uint8Array {
    this.#hash.update(piece);
    this.#bytes += piece.length;
    return piece;
  }

  #header(baseDigest: ContentDigest, payloadBytesMax: number): Uint8Array {
    const { base } = this.#options;
    const { id, details } = this.#device;
    const header = thinStreamHeader.encode({
      magic: STREAM_MAGIC,
      version: STREAM_VERSION,
      flags: base === undefined ? 0 : STREAM_HAS_BASE,
      sectors: this.#sectors,
      payloadBytesMax,
      dataBlockSectors: this.#pool.view.dataBlockSectors,
      device: id,
      base: base ?? 0,
      creationTime: details.creationTime,
      transactionId: details.transactionId,
      baseDigest: baseDigest.bytes(),
      reserved: new Uint8Array(36),
      checksum: 0,
    });
    return sealed(header, thinStreamHeader.at.checksum.offset);
  }

  #record(kind: number, begin: number, count: number, payload?: Uint8Array): Uint8Array {
    this.#records++;
    const payloadBytes = payload?.length ?? 0;
    const payloadChecksum = payload === undefined ? 0 : crc32c(payload);
    const record = thinStreamRecord.encode({ kind, payloadBytes, begin, count, payloadChecksum, checksum: 0 });
    return sealed(record, thinStreamRecord.at.checksum.offset);
  }

  #trailer(result: ContentDigest): Uint8Array {
    const trailer = thinStreamTrailer.encode({
      ...this.#totals(),
      replacedDigest: this.#replaced.bytes(),
      resultDigest: result.bytes(),
      streamDigest: this.#hash.digest(),
      reserved: new Uint8Array(12),
      checksum: 0,
    });
    this.#bytes += trailer.length;
    return sealed(trailer, thinStreamTrailer.at.checksum.offset);
  }
}

/** Which record unit `i` needs; undefined when it stays as it is. */
function kindOf(before: Uint8Array, after: Uint8Array, i: number): number | undefined {
  const [old, now] = [before, after].map((side) => side.subarray(i * UNIT_BYTES, (i + 1) * UNIT_BYTES)) as [
    Uint8Array,
    Uint8Array,
  ];
  if (equalBytes(old, now)) return undefined;
  return isZero(now) ? RECORD_HOLE : RECORD_DATA;
}

/** Puts the CRC-32C of the bytes before `at` there. */
function sealed(piece: Uint8Array, at: number): Uint8Array {
  viewOf(piece).setUint32(at, crc32c(piece.subarray(0, at)), true);
  return piece;
}

function endOf(runs: readonly MappingRun[]): number {
  const last = runs.at(-1);
  return last === undefined ? 0 : last.begin + last.length;
}
