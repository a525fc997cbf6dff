/**
 * The handshake of one connection, server side: hello, client flags, then options until one of them starts the
 * transmission. Every option's data are consumed before it is answered; bad data are answered, not punished, unless the
 * protocol leaves no way to answer.
 */
import {
  BASE_ALLOCATION,
  HANDSHAKE_FLAG,
  INFO,
  MAGIC,
  OPTION,
  OPTION_REPLY,
  PAYLOAD_BYTES_MAX,
  STRING_BYTES_MAX,
} from "../protocol/constants.ts";
import { blockSizeInfo, exportInfo, optionHeader, optionReplyHeader, serverHello } from "../protocol/headers.ts";
import type { ServerLimits } from "./limits.ts";
import type { ServedExport } from "./served-export.ts";
import { ALLOCATION_CONTEXT_ID } from "./transmission.ts";

/** What a connection lends to its handshake. */
export interface HandshakeOptions {
  limits: ServerLimits;
  /** The export of that name; "" names the default one. */
  findExport(name: string): ServedExport | undefined;
  exports(): readonly ServedExport[];
  send(bytes: Buffer): void;
  /** Transmission begins with the next byte. */
  onStart(served: ServedExport, agreed: { structured: boolean; allocation: boolean }): void;
  /** The handshake is over without transmission: close after what was sent has left. */
  onEnd(): void;
}

/** A malformed option, answered with ERR_INVALID. */
class Malformed extends Error {}

export class Handshake {
  readonly blocked = false;
  /** Options but ABORT are answered with ERR_SHUTDOWN. */
  draining = false;
  readonly #options: HandshakeOptions;
  #parts: Buffer[] = [];
  #have = 0;
  /** Bytes that make the next step possible: client flags, then option headers, then an option with its data. */
  #need = 4;
  #step: "flags" | "header" | "data" | "over" = "flags";
  #option = 0;
  #fixed = false;
  #noZeroes = false;
  #structured = false;
  #allocation = false;
  #metaExport = "";
  #optionCount = 0;

  constructor(options: HandshakeOptions) {
    this.#options = options;
  }

  /** The server speaks first. */
  hello(): void {
    const flags = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;
    const initMagic = (BigInt(MAGIC.initHigh) << 32n) | BigInt(MAGIC.initLow);
    const optionMagic = (BigInt(MAGIC.optionHigh) << 32n) | BigInt(MAGIC.optionLow);
    this.#options.send(Buffer.from(serverHello.encode({ initMagic, optionMagic, flags })));
  }

  /** Takes bytes from `at`; returns where it stopped: before the end only when the handshake is over. Keeps nothing of `chunk`. */
  consume(chunk: Buffer, at: number): number {
    while (at < chunk.length && this.#step !== "over") {
      const count = Math.min(this.#need - this.#have, chunk.length - at);
      // The chunk is read over once this returns.
      this.#parts.push(Buffer.from(chunk.subarray(at, at + count)));
      this.#have += count;
      at += count;
      while (this.#have === this.#need && this.#state() !== "over") {
        const message = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
        this.#parts = [];
        this.#have = 0;
        this.#advance(message);
      }
    }
    return at;
  }

  #state(): string {
    return this.#step;
  }

  #advance(message: Buffer): void {
    if (this.#step === "flags") this.#clientFlags(message.readUInt32BE(0));
    else if (this.#step === "header") this.#header(message);
    else {
      this.#step = "header";
      this.#need = optionHeader.size;
      this.#dispatch(this.#option, message);
    }
  }

  #clientFlags(flags: number): void {
    if ((flags & ~(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes)) !== 0) {
      this.#end();
      return;
    }
    this.#fixed = (flags & HANDSHAKE_FLAG.fixedNewstyle) !== 0;
    this.#noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    this.#step = "header";
    this.#need = optionHeader.size;
  }

  #header(message: Buffer): void {
    const { magicHigh, magicLow, option, length } = optionHeader.decode(message);
    const { optionBytesMax, optionsMax } = this.#options.limits;
    this.#optionCount++;
    const isOption = magicHigh === MAGIC.optionHigh && magicLow === MAGIC.optionLow;
    // A client that lists the exports asks a few questions about each.
    const most = optionsMax + 3 * this.#options.exports().length;
    if (!isOption || length > optionBytesMax || this.#optionCount > most) {
      this.#end();
      return;
    }
    this.#option = option;
    this.#step = "data";
    this.#need = length;
  }

  #end(): void {
    this.#step = "over";
    this.#options.onEnd();
  }

  #start(served: ServedExport): void {
    this.#step = "over";
    const allocation = this.#allocation && this.#metaExport === served.name;
    this.#options.onStart(served, { structured: this.#structured, allocation });
  }

  #reply(type: number, data: Uint8Array | string = ""): void {
    const body = typeof data === "string" ? Buffer.from(data) : data;
    const message = Buffer.allocUnsafe(optionReplyHeader.size + body.length);
    const head = { magicHigh: MAGIC.optionReplyHigh, magicLow: MAGIC.optionReplyLow, option: this.#option, type };
    message.set(optionReplyHeader.encode({ ...head, length: body.length }));
    message.set(body, optionReplyHeader.size);
    this.#options.send(message);
  }

  #dispatch(option: number, data: Buffer): void {
    if (option === OPTION.exportName) {
      this.#exportName(data);
      return;
    }
    if (!this.#fixed) {
      this.#end();
      return;
    }
    if (option === OPTION.abort) {
      this.#reply(OPTION_REPLY.ack);
      this.#end();
      return;
    }
    if (this.draining) {
      this.#reply(OPTION_REPLY.errorShutdown, "the server is shutting down");
      return;
    }
    try {
      this.#answer(option, data);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.#reply(OPTION_REPLY.errorInvalid, error.message);
    }
  }

  #answer(option: number, data: Buffer): void {
    switch (option) {
      case OPTION.list:
        this.#list(data);
        break;
      case OPTION.startTls:
        noData(data);
        this.#reply(OPTION_REPLY.errorPolicy, "TLS is not configured");
        break;
      case OPTION.info:
      case OPTION.go:
        this.#infoOrGo(option, data);
        break;
      case OPTION.structuredReply:
        noData(data);
        this.#structured = true;
        this.#reply(OPTION_REPLY.ack);
        break;
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        this.#metaContext(option, data);
        break;
      default:
        this.#reply(OPTION_REPLY.errorUnsupported, `option ${option} is not supported`);
    }
  }

  #exportName(data: Buffer): void {
    const name = data.length > STRING_BYTES_MAX ? undefined : data.toString();
    const served = name === undefined || this.draining ? undefined : this.#options.findExport(name);
    if (served === undefined) {
      this.#end();
      return;
    }
    const reply = Buffer.alloc(this.#noZeroes ? 10 : 134);
    reply.writeBigUInt64BE(BigInt(served.sizeBytes), 0);
    reply.writeUInt16BE(served.flags(this.#structured), 8);
    this.#options.send(reply);
    this.#start(served);
  }

  #list(data: Buffer): void {
    noData(data);
    for (const { name, description } of this.#options.exports()) {
      const nameBytes = Buffer.from(name);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(nameBytes.length);
      this.#reply(OPTION_REPLY.server, Buffer.concat([length, nameBytes, Buffer.from(description)]));
    }
    this.#reply(OPTION_REPLY.ack);
  }

  #infoOrGo(option: number, data: Buffer): void {
    const reader = new OptionReader(data);
    const name = reader.string();
    const count = reader.u16();
    const asked = new Set<number>();
    for (let i = 0; i < count; i++) asked.add(reader.u16());
    reader.end();
    const served = this.#options.findExport(name);
    if (served === undefined) {
      this.#reply(OPTION_REPLY.errorUnknown, `export '${name.slice(0, 256)}' not present`);
      return;
    }
    const flags = served.flags(this.#structured);
    this.#reply(OPTION_REPLY.info, exportInfo.encode({ type: INFO.export, sizeBytes: served.sizeBytes, flags }));
    const sizes = { minimum: 1, preferred: Math.max(4096, served.blockSize), maximum: PAYLOAD_BYTES_MAX };
    this.#reply(OPTION_REPLY.info, blockSizeInfo.encode({ type: INFO.blockSize, ...sizes }));
    if (asked.has(INFO.name)) this.#textInfo(INFO.name, served.name);
    if (asked.has(INFO.description) && served.description !== "") {
      this.#textInfo(INFO.description, served.description);
    }
    this.#reply(OPTION_REPLY.ack);
    if (option === OPTION.go) this.#start(served);
  }

  #textInfo(type: number, text: string): void {
    this.#reply(OPTION_REPLY.info, Buffer.concat([Buffer.from([0, type]), Buffer.from(text)]));
  }

  #metaContext(option: number, data: Buffer): void {
    const setting = option === OPTION.setMetaContext;
    if (setting) this.#allocation = false;
    const reader = new OptionReader(data);
    const name = reader.string();
    const count = reader.u32();
    let selected = count === 0 && !setting;
    for (let i = 0; i < count; i++) {
      const query = reader.string();
      if (query === BASE_ALLOCATION || (query === "base:" && !setting)) selected = true;
    }
    reader.end();
    if (setting && !this.#structured) throw new Malformed("structured replies have to be agreed on first");
    const served = this.#options.findExport(name);
    if (served === undefined) {
      this.#reply(OPTION_REPLY.errorUnknown, `export '${name.slice(0, 256)}' not present`);
      return;
    }
    if (setting) {
      this.#metaExport = served.name;
      this.#allocation = selected;
    }
    if (selected) {
      const id = Buffer.alloc(4);
      id.writeUInt32BE(setting ? ALLOCATION_CONTEXT_ID : 0);
      this.#reply(OPTION_REPLY.metaContext, Buffer.concat([id, Buffer.from(BASE_ALLOCATION)]));
    }
    this.#reply(OPTION_REPLY.ack);
  }
}

function noData(data: Buffer): void {
  if (data.length > 0) throw new Malformed("this option carries no data");
}

/** Reads an option's data; running past the end, and what is left at the end, is {@link Malformed}. */
class OptionReader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.#data.length - at) throw new Malformed("the option's data end early");
    this.#at = at + count;
    return at;
  }

  u16(): number {
    return this.#data.readUInt16BE(this.#take(2));
  }

  u32(): number {
    return this.#data.readUInt32BE(this.#take(4));
  }

  /** A string with its length in front. */
  string(): string {
    const length = this.u32();
    const at = this.#take(length);
    const bytes = this.#data.subarray(at, at + length);
    if (length > STRING_BYTES_MAX) throw new Malformed("a string is too long");
    if (bytes.includes(0)) throw new Malformed("a string contains NUL");
    return bytes.toString();
  }

  end(): void {
    if (this.#at !== this.#data.length) throw new Malformed("the option has more data than it should");
  }
}
