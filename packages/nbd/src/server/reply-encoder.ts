/** Replies as bytes, written straight into the reply queue's slab. */
import { nbdErrorText } from "../errors.ts";
import { CHUNK, CHUNK_FLAG_DONE, MAGIC } from "../protocol/constants.ts";
import { chunkHeader, simpleReply } from "../protocol/headers.ts";
import { COPIED_PAYLOAD_MAX, type ReplyQueue } from "./reply-queue.ts";
import type { Request } from "./request.ts";

/** Zeros are looked for in steps of this size, so that holes need not be sent. */
const ZERO_STEP = 4096;
const ZEROES = Buffer.alloc(ZERO_STEP);

/** A simple reply without data. `error` 0 is success. */
export function encodeSimple(queue: ReplyQueue, request: Request, error: number): void {
  const at = queue.reserve(simpleReply.size);
  putSimple(queue.slab, at, request, error);
}

function putSimple(slab: Buffer, at: number, request: Request, error: number): void {
  slab.writeUInt32BE(MAGIC.simpleReply, at);
  slab.writeUInt32BE(error, at + 4);
  slab.writeInt32BE(request.cookieHigh, at + 8);
  slab.writeInt32BE(request.cookieLow, at + 12);
}

function putChunk(slab: Buffer, at: number, request: Request, flags: number, type: number, length: number): void {
  slab.writeUInt32BE(MAGIC.structuredReply, at);
  slab.writeUInt16BE(flags, at + 4);
  slab.writeUInt16BE(type, at + 6);
  slab.writeInt32BE(request.cookieHigh, at + 8);
  slab.writeInt32BE(request.cookieLow, at + 12);
  slab.writeUInt32BE(length, at + 16);
}

function putOffset(slab: Buffer, at: number, offset: number): void {
  slab.writeUInt32BE(Math.floor(offset / 0x1_0000_0000), at);
  slab.writeUInt32BE(offset >>> 0, at + 4);
}

/** A structured error with a text for people; ends the reply. */
export function encodeErrorChunk(queue: ReplyQueue, request: Request, error: number): void {
  const text = nbdErrorText(error);
  const length = 6 + text.length;
  const at = queue.reserve(chunkHeader.size + length);
  const slab = queue.slab;
  putChunk(slab, at, request, CHUNK_FLAG_DONE, CHUNK.error, length);
  slab.writeUInt32BE(error, at + 20);
  slab.writeUInt16BE(text.length, at + 24);
  slab.write(text, at + 26, "latin1");
}

/** The empty end of a structured reply. */
export function encodeNone(queue: ReplyQueue, request: Request): void {
  const at = queue.reserve(chunkHeader.size);
  putChunk(queue.slab, at, request, CHUNK_FLAG_DONE, CHUNK.none, 0);
}

/**
 * A simple reply with the data of a READ. Returns false when `data` was queued as it is, so that its memory must be
 * handed over with `queue.own`.
 */
export function encodeSimpleData(queue: ReplyQueue, request: Request, data: Buffer): boolean {
  if (data.length <= COPIED_PAYLOAD_MAX) {
    const at = queue.reserve(simpleReply.size + data.length);
    putSimple(queue.slab, at, request, 0);
    queue.slab.set(data, at + simpleReply.size);
    return true;
  }
  encodeSimple(queue, request, 0);
  queue.append(data);
  return false;
}

/**
 * Content chunks for `data`, which begins at byte `offset` of the export. Runs of zeros are sent as holes unless
 * `dontFragment`. `last` puts DONE on the final chunk. Returns false when memory of `data` was queued.
 */
export function encodeContent(
  queue: ReplyQueue,
  request: Request,
  data: Buffer,
  options: { offset: number; last: boolean; dontFragment: boolean },
): boolean {
  const { offset, last, dontFragment } = options;
  const length = data.length;
  let copied = true;
  for (let from = 0; from < length; ) {
    let to = length;
    let zero = false;
    if (!dontFragment) {
      zero = isZeroStep(data, from);
      to = from + ZERO_STEP;
      while (to < length && isZeroStep(data, to) === zero) to += ZERO_STEP;
      if (to > length) to = length;
    }
    const flags = last && to === length ? CHUNK_FLAG_DONE : 0;
    if (zero) encodeHole(queue, request, { offset: offset + from, length: to - from, flags });
    else if (!encodeData(queue, request, data, { offset: offset + from, from, to, flags })) copied = false;
    from = to;
  }
  return copied;
}

function encodeHole(
  queue: ReplyQueue,
  request: Request,
  { offset, length, flags }: { offset: number; length: number; flags: number },
): void {
  const at = queue.reserve(chunkHeader.size + 12);
  putChunk(queue.slab, at, request, flags, CHUNK.offsetHole, 12);
  putOffset(queue.slab, at + 20, offset);
  queue.slab.writeUInt32BE(length, at + 28);
}

function encodeData(
  queue: ReplyQueue,
  request: Request,
  data: Buffer,
  { offset, from, to, flags }: { offset: number; from: number; to: number; flags: number },
): boolean {
  const length = to - from;
  const copied = length <= COPIED_PAYLOAD_MAX;
  const at = queue.reserve(chunkHeader.size + 8 + (copied ? length : 0));
  putChunk(queue.slab, at, request, flags, CHUNK.offsetData, 8 + length);
  putOffset(queue.slab, at + 20, offset);
  if (copied) data.copy(queue.slab, at + 28, from, to);
  else queue.append(data.subarray(from, to));
  return copied;
}

/** The block status of one context: `words` holds pairs of length and status, `count` of them are used. */
export function encodeBlockStatus(queue: ReplyQueue, request: Request, payload: Buffer): boolean {
  const copied = payload.length <= COPIED_PAYLOAD_MAX;
  const at = queue.reserve(chunkHeader.size + (copied ? payload.length : 0));
  putChunk(queue.slab, at, request, CHUNK_FLAG_DONE, CHUNK.blockStatus, payload.length);
  if (copied) queue.slab.set(payload, at + chunkHeader.size);
  else queue.append(payload);
  return copied;
}

function isZeroStep(data: Buffer, from: number): boolean {
  const to = Math.min(from + ZERO_STEP, data.length);
  if (data[from] !== 0 || data[to - 1] !== 0 || data[(from + to) >>> 1] !== 0) return false;
  return data.compare(ZEROES, 0, to - from, from, to) === 0;
}
