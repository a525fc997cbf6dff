/**
 * The transmission phase of one connection: requests out of the socket's chunks, replies into the reply queue.
 *
 * Chunks are parsed in place; the payload of a WRITE is copied once, into one pooled buffer that goes to the device as a
 * whole. A request is admitted when a request slot and its bytes are free; until then nothing more is parsed and the
 * socket is not read.
 *
 *     parse ─▶ check ─▶ (payload) ─▶ lock ─▶ device ─▶ reply
 */
import { nbdErrorOf } from "../errors.ts";
import { COMMAND, COMMAND_FLAG, MAGIC, NBD_ERROR } from "../protocol/constants.ts";
import { requestHeader } from "../protocol/headers.ts";
import { type BufferPool, pooledSize } from "./buffer-pool.ts";
import type { ByteAccount } from "./byte-budget.ts";
import { READ_BYTES_MAX, STREAM_BYTES, WRITE_BYTES_CONSUMED_MAX, WRITE_BYTES_MAX } from "./limits.ts";
import { blockStatus, isAligned, readModifyWrite, trimRange, writeOptions, zeroRange } from "./operations.ts";
import {
  encodeBlockStatus,
  encodeContent,
  encodeErrorChunk,
  encodeNone,
  encodeSimple,
  encodeSimpleData,
} from "./reply-encoder.ts";
import { COPIED_PAYLOAD_MAX, type ReplyQueue } from "./reply-queue.ts";
import { NO_BUFFER, Request, type RequestOwner } from "./request.ts";
import type { ServedExport } from "./served-export.ts";

const HEADER_BYTES = requestHeader.size;
/** The id under which `base:allocation` is reported; the only context there is. */
export const ALLOCATION_CONTEXT_ID = 0;

/** What a connection lends to its transmission. */
export interface TransmissionOptions {
  served: ServedExport;
  structured: boolean;
  /** `base:allocation` was selected. */
  allocation: boolean;
  requestsMax: number;
  pool: BufferPool;
  account: ByteAccount;
  replies: ReplyQueue;
  /** Free request objects, shared by all connections. */
  requests: Request[];
  /** The client said goodbye or broke the protocol: take no more input, end when all is answered. */
  onInputEnd(): void;
  /** A request ended: input that waited may be parsed, and the connection may be over. */
  onProgress(): void;
  /** A device failed; for logs. */
  onError(error: unknown): void;
}

/** Flags allowed per command; FUA is allowed on all. */
const FLAGS_ALLOWED: number[] = [];
FLAGS_ALLOWED[COMMAND.read] = COMMAND_FLAG.fua | COMMAND_FLAG.df;
FLAGS_ALLOWED[COMMAND.write] = COMMAND_FLAG.fua;
FLAGS_ALLOWED[COMMAND.disconnect] = 0xffff;
FLAGS_ALLOWED[COMMAND.flush] = COMMAND_FLAG.fua;
FLAGS_ALLOWED[COMMAND.trim] = COMMAND_FLAG.fua;
FLAGS_ALLOWED[COMMAND.cache] = COMMAND_FLAG.fua;
FLAGS_ALLOWED[COMMAND.writeZeroes] = COMMAND_FLAG.fua | COMMAND_FLAG.noHole | COMMAND_FLAG.fastZero;
FLAGS_ALLOWED[COMMAND.blockStatus] = COMMAND_FLAG.fua | COMMAND_FLAG.requestOne;

export class Transmission implements RequestOwner {
  /** Parsing stopped for want of a request slot or bytes; {@link consume} is to be called again after progress. */
  blocked = false;
  /** New requests are answered with ESHUTDOWN. */
  draining = false;
  readonly #options: TransmissionOptions;
  readonly #served: ServedExport;
  readonly #replies: ReplyQueue;
  /** The start of a header that a chunk's end cut off. */
  readonly #cut = Buffer.alloc(HEADER_BYTES);
  #cutLength = 0;
  /** The WRITE whose payload is being received. */
  #receiving: Request | undefined;
  #inFlight = 0;
  #ended = false;

  constructor(options: TransmissionOptions) {
    this.#options = options;
    this.#served = options.served;
    this.#replies = options.replies;
  }

  /** Requests taken up and not yet answered. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Bytes of a request have arrived and more must follow. */
  get midRequest(): boolean {
    return this.#receiving !== undefined;
  }

  /** Takes bytes from `at`; returns where it stopped, before the end only when {@link blocked} or the input ended. */
  consume(chunk: Buffer, at: number): number {
    const end = chunk.length;
    this.blocked = false;
    while ((at < end || this.#cutLength === HEADER_BYTES) && !this.#ended) {
      if (this.#receiving !== undefined) {
        at = this.#receive(this.#receiving, chunk, at);
        continue;
      }
      if (this.#cutLength === 0 && end - at >= HEADER_BYTES) {
        if (!this.#header(chunk, at)) break;
        at += HEADER_BYTES;
        continue;
      }
      const missing = Math.min(HEADER_BYTES - this.#cutLength, end - at);
      chunk.copy(this.#cut, this.#cutLength, at, at + missing);
      this.#cutLength += missing;
      at += missing;
      if (this.#cutLength < HEADER_BYTES || !this.#header(this.#cut, 0)) break;
      this.#cutLength = 0;
    }
    return this.#ended ? end : at;
  }

  /** The peer will send nothing more: a request not yet complete is dropped. */
  inputEnded(): void {
    this.#ended = true;
    this.blocked = false;
    const receiving = this.#receiving;
    if (receiving === undefined) return;
    this.#receiving = undefined;
    this.#retire(receiving);
  }

  /** Takes up one request. False when it must wait. */
  #header(from: Buffer, at: number): boolean {
    if (from.readUInt32BE(at) !== MAGIC.request) {
      this.#end();
      return true;
    }
    const command = from.readUInt16BE(at + 6);
    const length = from.readUInt32BE(at + 24);
    const offset = from.readUInt32BE(at + 16) * 0x1_0000_0000 + from.readUInt32BE(at + 20);
    const { account, requests, requestsMax } = this.#options;
    if (command === COMMAND.disconnect) {
      this.#end();
      return true;
    }
    const flags = from.readUInt16BE(at + 4);
    const error = this.#check(command, flags, offset, length);
    const { blockSize } = this.#served;
    const head = offset % blockSize;
    const firstBlock = (offset - head) / blockSize;
    const blockCount = Math.ceil((head + length) / blockSize);
    let bytes = 0;
    if (error === 0 && length > 0) {
      if (command === COMMAND.write) bytes = pooledSize(blockCount * blockSize);
      else if (command === COMMAND.read) {
        bytes = pooledSize(this.#isStreamed(flags, length) ? STREAM_BYTES : blockCount * blockSize);
      }
    }
    if (this.#inFlight >= requestsMax || !account.take(bytes)) {
      this.blocked = true;
      return false;
    }
    const request = requests.pop() ?? new Request();
    request.owner = this;
    request.command = command;
    request.flags = flags;
    request.cookieHigh = from.readInt32BE(at + 8);
    request.cookieLow = from.readInt32BE(at + 12);
    request.offset = offset;
    request.length = length;
    request.head = head;
    request.firstBlock = firstBlock;
    request.blockCount = blockCount;
    request.received = 0;
    request.earlyError = error;
    this.#inFlight++;
    if (bytes > 0) this.#giveBuffer(request, bytes);
    if (command === COMMAND.write && length > 0) this.#expectPayload(request);
    else this.#begin(request);
    return true;
  }

  #giveBuffer(request: Request, bytes: number): void {
    const pooled = this.#options.pool.take(bytes);
    const needed = request.blockCount * this.#served.blockSize;
    request.pooled = pooled;
    request.blocks = needed >= pooled.length ? pooled : pooled.subarray(0, needed);
  }

  #expectPayload(request: Request): void {
    this.#receiving = request;
    if (request.length <= WRITE_BYTES_CONSUMED_MAX) {
      return;
    }
    this.#receiving = undefined;
    request.earlyError = NBD_ERROR.EINVAL;
    this.#begin(request);
    this.#end();
  }

  #receive(request: Request, chunk: Buffer, at: number): number {
    const count = Math.min(request.length - request.received, chunk.length - at);
    if (request.earlyError === 0) chunk.copy(request.blocks, request.head + request.received, at, at + count);
    request.received += count;
    if (request.received === request.length) {
      this.#receiving = undefined;
      this.#begin(request);
    }
    return at + count;
  }

  #end(): void {
    this.inputEnded();
    this.#options.onInputEnd();
  }

  #isStreamed(flags: number, length: number): boolean {
    return this.#options.structured && length > STREAM_BYTES && (flags & COMMAND_FLAG.df) === 0;
  }

  /** The NBD error of a request that cannot be served, 0 for one that can. The order of the checks is the protocol's. */
  #check(command: number, flags: number, offset: number, length: number): number {
    const { structured, allocation } = this.#options;
    const allowed = FLAGS_ALLOWED[command];
    if (this.draining) return NBD_ERROR.ESHUTDOWN;
    if (allowed === undefined || (flags & ~allowed) !== 0) return NBD_ERROR.EINVAL;
    if (command === COMMAND.flush) return 0;
    if (command === COMMAND.blockStatus && (!allocation || length === 0)) return NBD_ERROR.EINVAL;
    if ((flags & COMMAND_FLAG.df) !== 0 && !structured) return NBD_ERROR.EINVAL;
    const changes = command === COMMAND.write || command === COMMAND.trim || command === COMMAND.writeZeroes;
    if (changes && this.#served.readOnly) return NBD_ERROR.EPERM;
    if (command === COMMAND.write && length > WRITE_BYTES_MAX) return NBD_ERROR.EINVAL;
    if (offset + length > this.#served.sizeBytes) {
      return changes && command !== COMMAND.trim ? NBD_ERROR.ENOSPC : NBD_ERROR.EINVAL;
    }
    if (command === COMMAND.read) {
      const most = (flags & COMMAND_FLAG.df) === 0 ? READ_BYTES_MAX : WRITE_BYTES_MAX;
      if (length > most) return structured ? NBD_ERROR.EOVERFLOW : NBD_ERROR.EINVAL;
    }
    return 0;
  }

  #begin(request: Request): void {
    if (request.earlyError !== 0) {
      this.#refuse(request, request.earlyError);
      return;
    }
    const served = this.#served;
    if (request.command === COMMAND.flush) {
      served.flush(request);
      return;
    }
    if (request.length === 0 || request.command === COMMAND.cache) {
      this.succeeded(request);
      return;
    }
    if (
      (request.flags & COMMAND_FLAG.fua) !== 0 &&
      served.flushFailure !== undefined &&
      request.command !== COMMAND.read
    ) {
      this.failed(request, served.flushFailure.error);
      return;
    }
    switch (request.command) {
      case COMMAND.trim:
        trimRange(served, request).then(request.onDone, request.onFail);
        return;
      case COMMAND.writeZeroes:
        this.#zero(request);
        return;
      case COMMAND.blockStatus:
        this.#status(request).then(request.onDone, request.onFail);
        return;
    }
    if (request.command === COMMAND.read && this.#isStreamed(request.flags, request.length)) {
      this.#stream(request).then(request.onDone, request.onFail);
      return;
    }
    request.lockStart = request.firstBlock;
    request.lockEnd = request.firstBlock + request.blockCount;
    request.lockShared = request.command === COMMAND.read;
    if (served.locks.acquire(request)) this.lockHeld(request);
  }

  /** READ or WRITE with its blocks locked. The whole cost of a plain request in promises is the device's own. */
  lockHeld(request: Request): void {
    const served = this.#served;
    let outcome: Promise<void>;
    try {
      if (request.command === COMMAND.read) outcome = served.device.read(request.firstBlock, request.blocks);
      else if (isAligned(request, served.blockSize)) {
        outcome = served.device.write(request.firstBlock, request.blocks, writeOptions(request));
      } else outcome = readModifyWrite(served, request, this.#options.pool);
    } catch (error) {
      this.failed(request, error);
      return;
    }
    outcome.then(request.onDone, request.onFail);
  }

  #zero(request: Request): void {
    const served = this.#served;
    const fast =
      served.device.writeZeroes !== undefined &&
      request.offset % served.blockSize === 0 &&
      request.length % served.blockSize === 0;
    if ((request.flags & COMMAND_FLAG.fastZero) !== 0 && !fast) this.#refuse(request, NBD_ERROR.ENOTSUP);
    else zeroRange(served, request, this.#options.pool).then(request.onDone, request.onFail);
  }

  async #status(request: Request): Promise<void> {
    const payload = await blockStatus(this.#served, request, ALLOCATION_CONTEXT_ID);
    if (payload.length <= COPIED_PAYLOAD_MAX) {
      encodeBlockStatus(this.#replies, request, payload);
      return;
    }
    const { account, pool } = this.#options;
    const pooled = pool.take(payload.length);
    account.force(pooled.length);
    payload.copy(pooled);
    encodeBlockStatus(this.#replies, request, pooled.subarray(0, payload.length));
    this.#replies.own(pooled);
  }

  /** A long READ in pieces; each has left for the socket before the next is read. */
  async #stream(request: Request): Promise<void> {
    const { account, pool } = this.#options;
    const { device, blockSize, locks } = this.#served;
    const end = request.offset + request.length;
    for (let at = request.offset; at < end; ) {
      const to = Math.min(end, at - (at % blockSize) + STREAM_BYTES);
      const first = Math.floor(at / blockSize);
      const count = Math.ceil(to / blockSize) - first;
      if (request.pooled === NO_BUFFER) {
        request.pooled = pool.take(STREAM_BYTES);
        account.force(request.pooled.length);
      }
      await request.lock(locks, first, first + count, true);
      try {
        await device.read(first, request.pooled.subarray(0, count * blockSize));
      } finally {
        locks.release(request);
      }
      const start = at - first * blockSize;
      const data = request.pooled.subarray(start, start + to - at);
      if (!encodeContent(this.#replies, request, data, { offset: at, last: to === end, dontFragment: false })) {
        this.#replies.own(request.pooled);
        request.pooled = NO_BUFFER;
      }
      await this.#replies.flushed();
      at = to;
    }
  }

  succeeded(request: Request): void {
    if (request.lockIndex >= 0) this.#served.locks.release(request);
    const { structured } = this.#options;
    const replies = this.#replies;
    if (request.command !== COMMAND.read) {
      if (request.command !== COMMAND.blockStatus) encodeSimple(replies, request, 0);
    } else if (request.length === 0) {
      if (structured) encodeNone(replies, request);
      else encodeSimple(replies, request, 0);
    } else if (!this.#isStreamed(request.flags, request.length)) this.#answerRead(request);
    this.#retire(request);
  }

  #answerRead(request: Request): void {
    const { head, length, blocks } = request;
    const data = blocks.length === length ? blocks : blocks.subarray(head, head + length);
    const copied = this.#options.structured
      ? encodeContent(this.#replies, request, data, {
          offset: request.offset,
          last: true,
          dontFragment: (request.flags & COMMAND_FLAG.df) !== 0,
        })
      : encodeSimpleData(this.#replies, request, data);
    if (!copied) {
      this.#replies.own(request.pooled);
      request.pooled = NO_BUFFER;
    }
  }

  failed(request: Request, error: unknown): void {
    if (request.lockIndex >= 0) this.#served.locks.release(request);
    this.#options.onError(error);
    this.#refuse(request, nbdErrorOf(error));
  }

  #refuse(request: Request, error: number): void {
    if (this.#options.structured) encodeErrorChunk(this.#replies, request, error);
    else encodeSimple(this.#replies, request, error);
    this.#retire(request);
  }

  /** Gives everything back that the request held. Last, because progress may start new requests. */
  #retire(request: Request): void {
    const { account, pool, requests } = this.#options;
    const { pooled } = request;
    request.pooled = NO_BUFFER;
    request.blocks = NO_BUFFER;
    this.#inFlight--;
    if (requests.length < 1024) requests.push(request);
    this.#replies.relieve();
    if (pooled !== NO_BUFFER) {
      pool.give(pooled);
      account.give(pooled.length);
    }
    this.#options.onProgress();
  }
}
