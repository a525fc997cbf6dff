/**
 * Replies of a server, parsed in place out of what the socket received. Data go straight into the buffers of the requests.
 *
 * Anything that does not fit its request ends the connection: after it nothing could be trusted.
 */
import { ALLOCATION, CHUNK, CHUNK_FLAG_DONE, MAGIC, NBD_ERROR } from "../protocol/constants.ts";
import { chunkHeader, simpleReply } from "../protocol/headers.ts";
import { protocolError } from "./client-handshake.ts";
import type { PendingRequest } from "./pending-request.ts";

/** Room for the longest header: a chunk's, with the offset of its data. */
const HEADER_BYTES_MAX = chunkHeader.size + 8;
/** Longest payload that is gathered before it is looked at: block status (2^20 extents) and errors. */
const GATHERED_BYTES_MAX = (8 << 20) + 4;

export interface ReplyParserOptions {
  structured: boolean;
  allocationId: number | undefined;
  /** The request with that cookie, if it is in flight. */
  find(cookieHigh: number, cookieLow: number): PendingRequest | undefined;
  /** The reply is complete; `request.error` tells how it went. */
  onReply(request: PendingRequest): void;
}

export class ReplyParser {
  readonly #options: ReplyParserOptions;
  readonly #header = Buffer.alloc(HEADER_BYTES_MAX);
  #headerLength = 0;
  #headerNeed = 4;
  /** The request whose data are being received, where they go, and how many are missing. */
  #request: PendingRequest | undefined;
  #target = 0;
  #missing = 0;
  /** A payload being gathered, instead of data. */
  #gathered: Buffer | undefined;
  #type = 0;
  #isLast = false;

  constructor(options: ReplyParserOptions) {
    this.#options = options;
  }

  /** Takes all of `chunk`. Throws `VDO_NBD_PROTOCOL`. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#missing > 0) at = this.#payload(chunk, at);
      else {
        const count = Math.min(this.#headerNeed - this.#headerLength, chunk.length - at);
        chunk.copy(this.#header, this.#headerLength, at, at + count);
        this.#headerLength += count;
        at += count;
        if (this.#headerLength === this.#headerNeed) this.#headerPart();
      }
    }
  }

  /** Enough of a header is there to learn how much more is needed, or to act. */
  #headerPart(): void {
    const header = this.#header;
    const magic = header.readUInt32BE(0);
    if (this.#headerNeed === 4) {
      if (magic === MAGIC.simpleReply) this.#headerNeed = simpleReply.size;
      else if (magic === MAGIC.structuredReply && this.#options.structured) this.#headerNeed = chunkHeader.size;
      else throw protocolError("reply: magic", `0x${MAGIC.simpleReply.toString(16)}`, `0x${magic.toString(16)}`);
    } else if (magic === MAGIC.simpleReply) this.#simple();
    else this.#chunk();
  }

  #nextHeader(): void {
    this.#headerLength = 0;
    this.#headerNeed = 4;
  }

  #find(): PendingRequest {
    const request = this.#options.find(this.#header.readInt32BE(8), this.#header.readInt32BE(12));
    if (request === undefined) throw protocolError("reply: cookie", "one of a request in flight", "another");
    return request;
  }

  #simple(): void {
    const request = this.#find();
    const error = this.#header.readUInt32BE(4);
    if (this.#options.structured && (request.isRead || request.isStatus)) {
      throw protocolError("reply to a read", "a structured reply", "a simple one");
    }
    this.#nextHeader();
    if (error !== 0) request.error = error;
    else if (request.isRead && request.length > 0) {
      this.#begin(request, 0, request.length);
      this.#isLast = true;
      return;
    }
    this.#options.onReply(request);
  }

  #chunk(): void {
    const header = this.#header;
    const type = header.readUInt16BE(6);
    const length = header.readUInt32BE(16);
    const isData = type === CHUNK.offsetData;
    if (isData && this.#headerNeed === chunkHeader.size) {
      if (length < 9) throw protocolError("data chunk: length", "above 8", length);
      this.#headerNeed = HEADER_BYTES_MAX;
      return;
    }
    const request = this.#find();
    this.#isLast = (header.readUInt16BE(4) & CHUNK_FLAG_DONE) !== 0;
    this.#type = type;
    this.#nextHeader();
    if (isData) {
      const offset = header.readUInt32BE(20) * 0x1_0000_0000 + header.readUInt32BE(24);
      this.#begin(request, this.#within(request, offset, length - 8), length - 8);
      return;
    }
    if (length > GATHERED_BYTES_MAX) throw protocolError("chunk: length", `up to ${GATHERED_BYTES_MAX}`, length);
    this.#request = request;
    this.#gathered = Buffer.allocUnsafe(length);
    this.#missing = length;
    if (length === 0) this.#payloadEnds();
  }

  /** Where in the request's buffer a range of the export lies. */
  #within(request: PendingRequest, offset: number, length: number): number {
    const target = offset - request.offset;
    if (!request.isRead || target < 0 || target + length > request.length) {
      throw protocolError("chunk", "a range inside its request", `${length} bytes at ${offset}`);
    }
    return target;
  }

  #begin(request: PendingRequest, target: number, length: number): void {
    this.#request = request;
    this.#target = target;
    this.#missing = length;
    this.#gathered = undefined;
    request.cover(target, length);
  }

  #payload(chunk: Buffer, at: number): number {
    const count = Math.min(this.#missing, chunk.length - at);
    const gathered = this.#gathered;
    if (gathered !== undefined) chunk.copy(gathered, gathered.length - this.#missing, at, at + count);
    else {
      chunk.copy(this.#request?.target as Uint8Array, this.#target, at, at + count);
      this.#target += count;
    }
    this.#missing -= count;
    if (this.#missing === 0) this.#payloadEnds();
    return at + count;
  }

  #payloadEnds(): void {
    const request = this.#request as PendingRequest;
    const gathered = this.#gathered;
    this.#request = undefined;
    this.#gathered = undefined;
    if (gathered !== undefined) this.#special(request, gathered);
    if (!this.#isLast) return;
    if (request.error === 0 && request.isRead && !request.isCovered()) {
      throw protocolError("reply to a read", `all of its ${request.length} bytes`, "a part of them");
    }
    this.#options.onReply(request);
  }

  #special(request: PendingRequest, data: Buffer): void {
    const type = this.#type;
    if (type === CHUNK.none) {
      if (data.length > 0 || !this.#isLast) throw protocolError("empty chunk", "no data, and the end", data.length);
    } else if (type === CHUNK.offsetHole) {
      if (data.length !== 12) throw protocolError("hole chunk: length", 12, data.length);
      const length = data.readUInt32BE(8);
      const offset = data.readUInt32BE(0) * 0x1_0000_0000 + data.readUInt32BE(4);
      const target = this.#within(request, offset, length);
      request.cover(target, length);
      request.target?.fill(0, target, target + length);
    } else if (type === CHUNK.blockStatus) this.#status(request, data);
    else if ((type & 0x8000) !== 0) {
      const value = data.length >= 4 ? data.readUInt32BE(0) : 0;
      request.error = value === 0 ? NBD_ERROR.EINVAL : value;
      const textLength = data.length >= 6 ? data.readUInt16BE(4) : 0;
      if ((type === CHUNK.error || type === CHUNK.errorOffset) && 6 + textLength <= data.length) {
        request.errorText = data.toString("utf8", 6, 6 + textLength);
      }
    } else throw protocolError("chunk: type", "a known one", type);
  }

  #status(request: PendingRequest, data: Buffer): void {
    const isOurs = request.isStatus && data.length >= 4 && data.readUInt32BE(0) === this.#options.allocationId;
    if (!isOurs || data.length < 12 || (data.length - 4) % 8 !== 0) {
      throw protocolError("block status", "extents of base:allocation", `${data.length} bytes`);
    }
    for (let at = 4; at < data.length; at += 8) {
      const status = data.readUInt32BE(at + 4);
      const length = data.readUInt32BE(at);
      if (length === 0) throw protocolError("block status: length of an extent", "at least 1", 0);
      request.extents.push({
        length,
        hole: (status & ALLOCATION.hole) !== 0,
        zero: (status & ALLOCATION.zero) !== 0,
      });
    }
  }
}
