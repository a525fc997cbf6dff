/**
 * Applies a stream to a disk: a thin device, a file, any block device.
 *
 *     read all of the stream ▸ read the target: is it the base? ▸ write ▸ flush ▸ read back what was written
 *
 * Nothing is written before the whole stream and the target are known to be right, so the stream is read twice.
 */
import { toHex, VdoError } from "@vdo/base";
import { type BlockDevice, zeroBlocks } from "@vdo/block-device";
import { SECTOR_BYTES } from "../constants.ts";
import {
  PAYLOAD_UNITS_MAX,
  STREAM_HAS_BASE,
  type ThinStreamHeader,
  type ThinStreamTrailer,
  UNIT_BYTES,
} from "../format/stream.ts";
import { ContentDigest } from "./content-digest.ts";
import { readStream } from "./read-stream.ts";
import type { StreamProgress } from "./send.ts";
import { UnitRanges } from "./unit-ranges.ts";

/** A stream that was read to its end and found right. */
export interface VerifiedStream {
  header: ThinStreamHeader;
  trailer: ThinStreamTrailer;
  hasBase: boolean;
  /** Virtual size of the device, in bytes. */
  bytes: number;
  /** What the stream changes. */
  changed: UnitRanges;
}

type Pieces = AsyncIterable<Uint8Array>;

/** Reads all of a stream. Throws `VDO_THIN_STREAM` for one that is cut off, damaged, or none. */
export async function verifyStream(
  pieces: Pieces,
  onProgress?: (progress: StreamProgress) => void,
): Promise<VerifiedStream> {
  const changed = new UnitRanges();
  const added = new ContentDigest();
  let [done, total] = [0, 0];
  const { header, trailer } = await readStream(pieces, {
    header({ payloadBytesMax }) {
      total = payloadBytesMax;
    },
    data(begin, content) {
      changed.add(begin, begin + content.length / UNIT_BYTES);
      added.addUnits(begin, content);
      done += content.length;
      onProgress?.({ step: "checking the stream", done, total });
    },
    hole: (begin, count) => changed.add(begin, begin + count),
  });
  const result = new ContentDigest(header.baseDigest);
  result.subtract(new ContentDigest(trailer.replacedDigest));
  result.add(added);
  if (!result.equals(trailer.resultDigest)) {
    const text = "what the stream changes does not make its base into its result; send it again";
    throw new VdoError("VDO_THIN_STREAM", text, { place: 0, text });
  }
  const hasBase = (header.flags & STREAM_HAS_BASE) !== 0;
  return { header, trailer, hasBase, bytes: header.sectors * SECTOR_BYTES, changed };
}

export interface ReceiveOptions {
  /** Gives the pieces of the stream from its beginning, each time it is called. */
  stream(): Pieces;
  target: BlockDevice;
  /** The target is known to hold zeros. */
  isBlank?: boolean;
  /** Zeros what a stream without a base does not fill, whatever is there; without, a target that is not blank is refused. */
  overwrite?: boolean;
  /** Goes on where another run was interrupted: what the stream replaces may hold anything. */
  resume?: boolean;
  onProgress?(progress: StreamProgress): void;
}

/**
 * Applies the stream; durable when it resolves. Throws `VDO_THIN_STREAM`; `VDO_THIN_BASE` when the target is not the base;
 * `VDO_THIN_MISMATCH` when it is too small; `VDO_IO` when it gives back something else than what was written.
 */
export async function receive(options: ReceiveOptions): Promise<VerifiedStream> {
  const verified = await verifyStream(options.stream(), options.onProgress);
  const receiver = new Receiver(options, verified);
  receiver.checkSize();
  if (options.overwrite === true && !verified.hasBase) await receiver.zeroRest();
  else if (options.isBlank !== true || verified.hasBase) await receiver.checkBase();
  await receiver.write();
  await receiver.readBack();
  return verified;
}

class Receiver {
  readonly #options: ReceiveOptions;
  readonly #stream: VerifiedStream;
  /** Bytes of the target. */
  readonly #bytes: number;

  constructor(options: ReceiveOptions, stream: VerifiedStream) {
    this.#options = options;
    this.#stream = stream;
    this.#bytes = options.target.blockCount * options.target.blockSize;
  }

  checkSize(): void {
    const { bytes } = this.#stream;
    if (this.#bytes >= bytes) return;
    const message = `the target has ${this.#bytes} bytes, the device that was sent has ${bytes}: make the target larger`;
    throw new VdoError("VDO_THIN_MISMATCH", message, { field: "size", expected: bytes, actual: this.#bytes });
  }

  /** Units of the target, the last of them perhaps not whole. */
  get #units(): number {
    return Math.ceil(this.#bytes / UNIT_BYTES);
  }

  async #read(begin: number, end: number): Promise<Uint8Array> {
    const { target } = this.#options;
    const content = new Uint8Array((end - begin) * UNIT_BYTES);
    const there = Math.min(content.length, this.#bytes - begin * UNIT_BYTES);
    await target.read((begin * UNIT_BYTES) / target.blockSize, content.subarray(0, there));
    return content;
  }

  /** Reads the target where it is not known to be zero. */
  async checkBase(): Promise<void> {
    const { changed, header, trailer } = this.#stream;
    const [replaced, rest] = [new ContentDigest(), new ContentDigest()];
    for (const { begin, end, isInside } of changed.cover(this.#units, PAYLOAD_UNITS_MAX)) {
      if (!(await this.#isHole(begin, end))) (isInside ? replaced : rest).addUnits(begin, await this.#read(begin, end));
      const [done, total] = [Math.min(this.#bytes, end * UNIT_BYTES), this.#bytes];
      this.#options.onProgress?.({ step: "checking the target", done, total });
    }
    const wanted = new ContentDigest(header.baseDigest);
    wanted.subtract(new ContentDigest(trailer.replacedDigest));
    if (!rest.equals(wanted.bytes())) throw this.#wrongBase(replaced, rest);
    if (replaced.equals(trailer.replacedDigest) || this.#options.resume === true) return;
    const found = new ContentDigest(rest.bytes());
    found.add(replaced);
    if (found.equals(trailer.resultDigest)) {
      throw baseError("the target holds what the stream makes of it already: there is nothing to do", header, found);
    }
    const text =
      "the target is the stream's base but where the stream changes it: if receiving it was interrupted, go on with --resume";
    throw baseError(text, header, found);
  }

  async #isHole(begin: number, end: number): Promise<boolean> {
    const { target } = this.#options;
    if (target.extents === undefined) return false;
    const start = (begin * UNIT_BYTES) / target.blockSize;
    const count = Math.min(target.blockCount, (end * UNIT_BYTES) / target.blockSize) - start;
    const [first] = await target.extents(start, count);
    return first?.zero === true && first.count >= count;
  }

  #wrongBase(replaced: ContentDigest, rest: ContentDigest): VdoError {
    const { header, hasBase } = this.#stream;
    const found = new ContentDigest(rest.bytes());
    found.add(replaced);
    const text = hasBase
      ? `the target does not hold the base of the stream (device ${header.base}): receive the streams in the order in which they were sent, onto a target that nobody else writes`
      : "the target is not blank: choose another, or give --overwrite if what is there may be lost";
    return baseError(text, header, found);
  }

  async zeroRest(): Promise<void> {
    const { target } = this.#options;
    for (const { begin, end, isInside } of this.#stream.changed.cover(this.#units, PAYLOAD_UNITS_MAX)) {
      if (isInside || (await this.#isHole(begin, end))) continue;
      await this.#zero(begin, end);
    }
    await target.flush();
  }

  async #zero(begin: number, end: number): Promise<void> {
    const { target } = this.#options;
    const start = (begin * UNIT_BYTES) / target.blockSize;
    const count = Math.min(target.blockCount, (end * UNIT_BYTES) / target.blockSize) - start;
    await zeroBlocks(target, start, count, { mayUnmap: true });
  }

  async write(): Promise<void> {
    const { target, onProgress } = this.#options;
    const total = this.#stream.trailer.payloadBytes;
    let done = 0;
    const { trailer } = await readStream(this.#options.stream(), {
      data: async (begin, content) => {
        const there = Math.min(content.length, this.#bytes - begin * UNIT_BYTES);
        await target.write((begin * UNIT_BYTES) / target.blockSize, content.subarray(0, there));
        done += content.length;
        onProgress?.({ step: "writing", done, total });
      },
      hole: (begin, count) => this.#zero(begin, begin + count),
    });
    await target.flush();
    if (toHex(trailer.streamDigest) !== toHex(this.#stream.trailer.streamDigest)) {
      const text =
        "the stream changed while it was read: the target holds neither base nor result; receive it again with --resume";
      throw new VdoError("VDO_THIN_STREAM", text, { place: 0, text });
    }
  }

  /** What was written must be there. */
  async readBack(): Promise<void> {
    const { changed, header, trailer } = this.#stream;
    const found = new ContentDigest(header.baseDigest);
    found.subtract(new ContentDigest(trailer.replacedDigest));
    const total = changed.units * UNIT_BYTES;
    let done = 0;
    for (const { begin, end } of changed.pieces(PAYLOAD_UNITS_MAX)) {
      found.addUnits(begin, await this.#read(begin, end));
      done += (end - begin) * UNIT_BYTES;
      this.#options.onProgress?.({ step: "verifying", done, total });
    }
    if (found.equals(trailer.resultDigest)) return;
    const message =
      "the target gives back something else than what was written: look for errors of its storage, then receive it again with --resume";
    throw new VdoError("VDO_IO", message, { operation: "read", block: 0 });
  }
}

function baseError(text: string, header: ThinStreamHeader, found: ContentDigest): VdoError {
  const data = { expected: toHex(header.baseDigest), actual: toHex(found.bytes()) };
  return new VdoError("VDO_THIN_BASE", text, data);
}
