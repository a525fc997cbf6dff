/**
 * Reads a stream and believes nothing of it: every field is judged, memory is bounded by one record, and what is handed on
 * has passed its sums.
 */
import { crc32c, equalBytes, invariant, isVdoError, VdoError, viewOf } from "@vdo/base";
import { SECTOR_BYTES } from "../constants.ts";
import {
  PAYLOAD_UNITS_MAX,
  RECORD_DATA,
  RECORD_END,
  RECORD_HOLE,
  STREAM_HAS_BASE,
  STREAM_MAGIC,
  STREAM_VERSION,
  type ThinStreamHeader,
  type ThinStreamRecord,
  type ThinStreamTrailer,
  thinStreamHeader,
  thinStreamRecord,
  thinStreamTrailer,
  UNIT_BYTES,
  UNIT_SECTORS,
} from "../format/stream.ts";
import { ByteSource } from "./byte-source.ts";

/** What a stream is made of, in its order. */
export interface StreamVisitor {
  header?(header: ThinStreamHeader): Promise<void> | void;
  data?(begin: number, content: Uint8Array): Promise<void> | void;
  hole?(begin: number, count: number): Promise<void> | void;
}

/** Reads to the end; resolves with the trailer when all of it is right. Throws `VDO_THIN_STREAM`. */
export async function readStream(
  pieces: AsyncIterable<Uint8Array>,
  visitor: StreamVisitor,
): Promise<{ header: ThinStreamHeader; trailer: ThinStreamTrailer }> {
  const source = new ByteSource(pieces);
  try {
    return await new StreamReader(source, visitor).run();
  } finally {
    await source.close();
  }
}

const NEXT_STEP = "send it again";

function refused(place: number, text: string): VdoError {
  const message = `the stream is damaged at byte ${place}: ${text}; ${NEXT_STEP}`;
  return new VdoError("VDO_THIN_STREAM", message, { place, text });
}

class StreamReader {
  readonly #source: ByteSource;
  readonly #visitor: StreamVisitor;
  #next = 0;
  #units = 0;
  #records = 0;
  #payloadBytes = 0;

  constructor(source: ByteSource, visitor: StreamVisitor) {
    this.#source = source;
    this.#visitor = visitor;
  }

  async run(): Promise<{ header: ThinStreamHeader; trailer: ThinStreamTrailer }> {
    const header = await this.#header();
    this.#units = Math.ceil(header.sectors / UNIT_SECTORS);
    await this.#visitor.header?.(header);
    while (await this.#record(header));
    return { header, trailer: await this.#trailer() };
  }

  /** `count` bytes, all of them. */
  async #take(count: number, what: string): Promise<Uint8Array> {
    const at = this.#source.position;
    const bytes = await this.#source.take(count);
    if (bytes.length === count) return bytes;
    const text = `the stream ends at byte ${at + bytes.length}, within its ${what}: it was cut off; ${NEXT_STEP}`;
    throw new VdoError("VDO_THIN_STREAM", text, { place: at + bytes.length, text: "cut off" });
  }

  async #header(): Promise<ThinStreamHeader> {
    const bytes = await this.#take(thinStreamHeader.size, "header");
    const view = viewOf(bytes);
    // First what it is, then what is in it: another file is not a damaged stream.
    if (thinStreamHeader.at.magic.get(view, 0) !== STREAM_MAGIC) {
      const text = "this is not a stream of vdo thin send";
      throw new VdoError("VDO_THIN_STREAM", text, { place: 0, text });
    }
    const version = thinStreamHeader.at.version.get(view, 0);
    if (version !== STREAM_VERSION) {
      const text = `the stream has version ${version}, this program reads ${STREAM_VERSION}: use the program that wrote it`;
      throw new VdoError("VDO_THIN_STREAM", text, { place: 8, text });
    }
    const header = decode(() => thinStreamHeader.decode(bytes), 0);
    checkSum(bytes, header.checksum, 0, "header");
    if (!Number.isSafeInteger(header.sectors * SECTOR_BYTES)) throw refused(16, `a size of ${header.sectors} sectors`);
    if (header.flags > STREAM_HAS_BASE) throw refused(12, `unknown flags ${header.flags}`);
    this.#source.digest(bytes);
    return header;
  }

  /** False at the end. */
  async #record(header: ThinStreamHeader): Promise<boolean> {
    const at = this.#source.position;
    const bytes = await this.#take(thinStreamRecord.size, `record ${this.#records}`);
    const record = decode(() => thinStreamRecord.decode(bytes), at);
    checkSum(bytes, record.checksum, at, "record");
    this.#source.digest(bytes);
    if (record.kind === RECORD_END) {
      if (record.count + record.begin + record.payloadBytes !== 0) throw refused(at, "the end has a size");
      return false;
    }
    this.#judge(record, at);
    if (record.kind === RECORD_HOLE) await this.#visitor.hole?.(record.begin, record.count);
    else await this.#data(record, header);
    this.#records++;
    this.#next = record.begin + record.count;
    return true;
  }

  #judge({ kind, begin, count, payloadBytes }: ThinStreamRecord, at: number): void {
    if (kind !== RECORD_DATA && kind !== RECORD_HOLE) throw refused(at, `a record of unknown kind ${kind}`);
    if (count < 1) throw refused(at, "a record of no units");
    if (begin < this.#next) throw refused(at, `unit ${begin} comes after unit ${this.#next - 1}`);
    if (begin + count > this.#units) {
      throw refused(at, `units ${begin} to ${begin + count - 1} of a device that has ${this.#units}`);
    }
    if (kind === RECORD_DATA && count > PAYLOAD_UNITS_MAX) throw refused(at, `${count} units in one record`);
    const expected = kind === RECORD_DATA ? count * UNIT_BYTES : 0;
    if (payloadBytes !== expected) throw refused(at, `${payloadBytes} bytes for ${count} units`);
  }

  async #data({ begin, payloadBytes, payloadChecksum }: ThinStreamRecord, header: ThinStreamHeader): Promise<void> {
    const at = this.#source.position;
    const content = await this.#take(payloadBytes, `content of unit ${begin}`);
    if (crc32c(content) !== payloadChecksum) throw refused(at, `bad checksum of the content of unit ${begin}`);
    this.#payloadBytes += payloadBytes;
    if (this.#payloadBytes > header.payloadBytesMax) throw refused(at, "more content than its header tells");
    this.#source.digest(content);
    await this.#visitor.data?.(begin, content);
  }

  async #trailer(): Promise<ThinStreamTrailer> {
    const at = this.#source.position;
    const bytes = await this.#take(thinStreamTrailer.size, "trailer");
    const trailer = decode(() => thinStreamTrailer.decode(bytes), at);
    checkSum(bytes, trailer.checksum, at, "trailer");
    if (trailer.records !== this.#records || trailer.payloadBytes !== this.#payloadBytes) {
      throw refused(at, `${this.#records} records came, ${trailer.records} were sent`);
    }
    if (!equalBytes(trailer.streamDigest, this.#source.end())) throw refused(at, "the digest of the whole is another");
    if ((await this.#source.take(1)).length > 0) throw refused(at + bytes.length, "something follows its end");
    return trailer;
  }
}

function checkSum(bytes: Uint8Array, stored: number, place: number, what: string): void {
  if (crc32c(bytes.subarray(0, bytes.length - 4)) !== stored) throw refused(place, `bad checksum of its ${what}`);
}

/** A 64-bit number beyond what can be held is damage at this place. */
function decode<T>(read: () => T, place: number): T {
  try {
    return read();
  } catch (error) {
    invariant(isVdoError(error), "a layout refuses with an error of its own");
    throw refused(place, error.message);
  }
}
