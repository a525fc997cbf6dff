/** The handshake, client side: what a server offers and what was agreed. */
import { VdoError } from "@vdo/base";
import {
  BASE_ALLOCATION,
  HANDSHAKE_FLAG,
  INFO,
  MAGIC,
  OPTION,
  OPTION_REPLY,
  PAYLOAD_BYTES_MAX,
  TRANSMISSION_FLAG,
} from "../protocol/constants.ts";
import { blockSizeInfo, exportInfo, optionHeader, optionReplyHeader, serverHello } from "../protocol/headers.ts";
import type { ByteSource } from "./byte-source.ts";

/** What the handshake agreed on. Sizes in bytes. */
export interface Agreement {
  sizeBytes: number;
  /** Transmission flags. */
  flags: number;
  structured: boolean;
  /** Context id of `base:allocation`, if the server reports it. */
  allocationId: number | undefined;
  minimum: number;
  preferred: number;
  /** Largest payload of one request. */
  maximum: number;
}

/** Longest option reply accepted. */
const OPTION_REPLY_BYTES_MAX = 64 << 10;
/** Replies to one option accepted, against servers that never end. */
const REPLIES_MAX = 1024;

interface OptionReply {
  type: number;
  data: Buffer;
}

/** Runs the handshake. Throws `VDO_NBD_PROTOCOL` or `VDO_NBD_REFUSED`. */
export async function shakeHands(
  source: ByteSource,
  send: (bytes: Uint8Array) => void,
  name: string,
): Promise<Agreement> {
  const hello = await source.take(serverHello.size);
  expect("hello", MAGIC.initHigh, hello.readUInt32BE(0));
  expect("hello", MAGIC.initLow, hello.readUInt32BE(4));
  expect("hello: newstyle", MAGIC.optionHigh, hello.readUInt32BE(8));
  expect("hello: newstyle", MAGIC.optionLow, hello.readUInt32BE(12));
  const offered = hello.readUInt16BE(16);
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(offered & (HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes));
  send(flags);
  const session = new OptionSession(source, send);
  const agreement: Agreement = {
    sizeBytes: -1,
    flags: 0,
    structured: false,
    allocationId: undefined,
    minimum: 1,
    preferred: 4096,
    maximum: PAYLOAD_BYTES_MAX,
  };
  const fixed = (offered & HANDSHAKE_FLAG.fixedNewstyle) !== 0;
  if (fixed) {
    const [answer] = await session.ask(OPTION.structuredReply, Buffer.alloc(0));
    agreement.structured = answer?.type === OPTION_REPLY.ack;
    if (agreement.structured) agreement.allocationId = await session.selectAllocation(name);
  }
  const went = fixed && (await go(session, name, agreement));
  if (!went) await exportName(session, { name, zeroes: (offered & HANDSHAKE_FLAG.noZeroes) === 0, agreement });
  if ((agreement.flags & TRANSMISSION_FLAG.hasFlags) === 0) {
    throw protocolError("transmission flags", "bit 0 set", agreement.flags);
  }
  return agreement;
}

/** False when the server does not know GO. */
async function go(session: OptionSession, name: string, agreement: Agreement): Promise<boolean> {
  const nameBytes = Buffer.from(name);
  const data = Buffer.alloc(4 + nameBytes.length + 4);
  data.writeUInt32BE(nameBytes.length, 0);
  nameBytes.copy(data, 4);
  data.writeUInt16BE(1, 4 + nameBytes.length);
  data.writeUInt16BE(INFO.blockSize, 6 + nameBytes.length);
  const replies = await session.ask(OPTION.go, data);
  const last = replies.at(-1) as OptionReply;
  if (last.type === OPTION_REPLY.errorUnsupported) return false;
  if (last.type !== OPTION_REPLY.ack) throw refused("GO", last, name);
  for (const { type, data: info } of replies) {
    if (type !== OPTION_REPLY.info || info.length < 2) continue;
    const kind = info.readUInt16BE(0);
    if (kind === INFO.export) takeExport(info, agreement);
    else if (kind === INFO.blockSize) takeBlockSizes(info, agreement);
  }
  if (agreement.sizeBytes < 0) throw protocolError("GO", "an information reply about the export", "none");
  return true;
}

function takeExport(info: Buffer, agreement: Agreement): void {
  if (info.length !== exportInfo.size) throw protocolError("GO: export information", exportInfo.size, info.length);
  const { sizeBytes, flags } = exportInfo.decode(info);
  agreement.sizeBytes = sizeBytes;
  agreement.flags = flags;
}

function takeBlockSizes(info: Buffer, agreement: Agreement): void {
  if (info.length !== blockSizeInfo.size) throw protocolError("GO: block sizes", blockSizeInfo.size, info.length);
  const { minimum, preferred, maximum } = blockSizeInfo.decode(info);
  const powers = isPower(minimum) && isPower(preferred);
  if (!powers || minimum > 65536 || preferred < minimum || maximum < minimum) {
    throw protocolError("GO: block sizes", "powers of two, minimum to 65536, in order", [minimum, preferred, maximum]);
  }
  agreement.minimum = minimum;
  agreement.preferred = preferred;
  agreement.maximum = Math.min(maximum, PAYLOAD_BYTES_MAX);
}

function isPower(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

async function exportName(
  session: OptionSession,
  { name, zeroes, agreement }: { name: string; zeroes: boolean; agreement: Agreement },
): Promise<void> {
  let reply: Buffer;
  try {
    reply = await session.exportName(name, zeroes ? 134 : 10);
  } catch (error) {
    throw refused("EXPORT_NAME", { type: 0, data: Buffer.alloc(0) }, name, error);
  }
  const sizeBytes = reply.readUInt32BE(0) * 0x1_0000_0000 + reply.readUInt32BE(4);
  if (!Number.isSafeInteger(sizeBytes)) throw protocolError("EXPORT_NAME: size", "up to 2^53 - 1", sizeBytes);
  agreement.sizeBytes = sizeBytes;
  agreement.flags = reply.readUInt16BE(8);
}

/** Options one after the other. */
class OptionSession {
  readonly #source: ByteSource;
  readonly #send: (bytes: Uint8Array) => void;

  constructor(source: ByteSource, send: (bytes: Uint8Array) => void) {
    this.#source = source;
    this.#send = send;
  }

  #request(option: number, data: Buffer): void {
    const head = { magicHigh: MAGIC.optionHigh, magicLow: MAGIC.optionLow, option, length: data.length };
    this.#send(Buffer.concat([optionHeader.encode(head), data]));
  }

  /** Sends an option; all replies up to and with the final one (an ACK or an error). */
  async ask(option: number, data: Buffer): Promise<OptionReply[]> {
    this.#request(option, data);
    const replies: OptionReply[] = [];
    while (replies.length < REPLIES_MAX) {
      const head = optionReplyHeader.decode(await this.#source.take(optionReplyHeader.size));
      expect("option reply", MAGIC.optionReplyHigh, head.magicHigh);
      expect("option reply", MAGIC.optionReplyLow, head.magicLow);
      expect("option reply: option", option, head.option);
      if (head.length > OPTION_REPLY_BYTES_MAX) {
        throw protocolError("option reply: length", `up to ${OPTION_REPLY_BYTES_MAX}`, head.length);
      }
      replies.push({ type: head.type, data: await this.#source.take(head.length) });
      if (head.type === OPTION_REPLY.ack || head.type >= 0x80000000) return replies;
    }
    throw protocolError("option replies", `up to ${REPLIES_MAX}`, "more");
  }

  async selectAllocation(name: string): Promise<number | undefined> {
    const nameBytes = Buffer.from(name);
    const query = Buffer.from(BASE_ALLOCATION);
    const data = Buffer.alloc(4 + nameBytes.length + 8 + query.length);
    data.writeUInt32BE(nameBytes.length, 0);
    nameBytes.copy(data, 4);
    data.writeUInt32BE(1, 4 + nameBytes.length);
    data.writeUInt32BE(query.length, 8 + nameBytes.length);
    query.copy(data, 12 + nameBytes.length);
    const replies = await this.ask(OPTION.setMetaContext, data);
    const context = replies.find(
      (reply) =>
        reply.type === OPTION_REPLY.metaContext && reply.data.length > 4 && reply.data.subarray(4).equals(query),
    );
    return replies.at(-1)?.type === OPTION_REPLY.ack ? context?.data.readUInt32BE(0) : undefined;
  }

  exportName(name: string, length: number): Promise<Buffer> {
    this.#request(OPTION.exportName, Buffer.from(name));
    return this.#source.take(length);
  }
}

function expect(place: string, expected: number, actual: number): void {
  if (actual !== expected) throw protocolError(place, expected, actual);
}

/** The peer does not speak the protocol as agreed. */
export function protocolError(place: string, expected: unknown, actual: unknown): VdoError {
  return new VdoError("VDO_NBD_PROTOCOL", `NBD ${place}: expected ${expected}, the server sent ${actual}`, {
    place,
    expected,
    actual,
  });
}

function refused(option: string, { type, data }: OptionReply, name: string, cause?: unknown): VdoError {
  const why =
    data.length > 0
      ? data.toString().slice(0, 4096)
      : type === 0
        ? "it closed the connection"
        : `error ${type - 0x80000000}`;
  const text = `the NBD server refused export '${name}': ${why}. See which exports it has: nbdinfo --list URI`;
  return new VdoError("VDO_NBD_REFUSED", text, { option, reply: type }, cause);
}
