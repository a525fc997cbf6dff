/** A client that says what a test wants, well-formed or not. */
import { connect, type Socket } from "node:net";

/** Bytes of hexadecimal texts, numbers as 32 bits, and buffers, one after the other. */
export function wire(...parts: (string | number | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === "number") {
        const bytes = Buffer.alloc(4);
        bytes.writeUInt32BE(part);
        return bytes;
      }
      return typeof part === "string" ? Buffer.from(part.replace(/\s+/g, ""), "hex") : part;
    }),
  );
}

export const text = (value: string): Buffer => Buffer.from(value);

/** A named string: its length, then itself. */
export const named = (value: string): Buffer => wire(value.length, text(value));

export function option(number: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return wire("49484156454f5054", number, data.length, data);
}

/** GO or INFO for the export `name` without information requests. */
export const go = (name = "", number = 7): Buffer => option(number, wire(named(name), "0000"));

export const setMeta = (name = "", query = "base:allocation"): Buffer => option(10, wire(named(name), 1, named(query)));

export function request(
  command: number,
  { flags = 0, cookie = 1, offset = 0, length = 0, payload = Buffer.alloc(0) as Buffer } = {},
): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(0x25609513, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(command, 6);
  header.writeBigUInt64BE(BigInt(cookie), 8);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(length, 24);
  return Buffer.concat([header, payload]);
}

export interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

/** One chunk of a structured reply, or a simple reply (type -1). */
export interface Reply {
  type: number;
  done: boolean;
  cookie: number;
  error: number;
  data: Buffer;
}

export class RawPeer {
  readonly socket: Socket;
  static readonly #all = new Set<RawPeer>();
  #chunks: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    RawPeer.#all.add(this);
    socket.on("data", (chunk) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.#wake?.();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on("end", end);
    socket.on("error", end);
    socket.on("close", end);
  }

  static async connect(path: string): Promise<RawPeer> {
    const socket = connect({ path, allowHalfOpen: true });
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new RawPeer(socket);
  }

  /** Past the hello and the client flags. */
  static async greeted(path: string, flags = 3): Promise<RawPeer> {
    const peer = await RawPeer.connect(path);
    await peer.take(18);
    peer.send(wire(flags));
    return peer;
  }

  /** In transmission, with structured replies and base:allocation if asked for. */
  static async ready(path: string, { structured = false, name = "" } = {}): Promise<RawPeer> {
    const peer = await RawPeer.greeted(path);
    if (structured) {
      peer.send(option(8));
      await peer.optionReply();
      peer.send(setMeta(name));
      await peer.optionReply();
      await peer.optionReply();
    }
    peer.send(go(name));
    for (let reply = await peer.optionReply(); reply.type !== 1; reply = await peer.optionReply()) {
      if (reply.type >= 0x80000000) throw new Error(`GO was refused: ${reply.data}`);
    }
    return peer;
  }

  send(...parts: Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  async #wait(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  async take(length: number): Promise<Buffer> {
    while (this.#length < length) {
      if (this.#ended) throw new Error(`the server closed after ${this.#length} of ${length} bytes`);
      await this.#wait();
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(length)];
    this.#length -= length;
    return all.subarray(0, length);
  }

  /** Everything up to the end of the stream. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) await this.#wait();
    return this.take(this.#length);
  }

  async optionReply(): Promise<OptionReply> {
    const head = await this.take(20);
    if (head.toString("hex", 0, 8) !== "0003e889045565a9") throw new Error(`no option reply: ${head.toString("hex")}`);
    return {
      option: head.readUInt32BE(8),
      type: head.readUInt32BE(12),
      data: await this.take(head.readUInt32BE(16)),
    };
  }

  /** A reply; `dataLength` is what a successful simple READ carries. */
  async reply(dataLength = 0): Promise<Reply> {
    const head = await this.take(16);
    const magic = head.readUInt32BE(0);
    if (magic === 0x67446698) {
      const error = head.readUInt32BE(4);
      const data = error === 0 ? await this.take(dataLength) : Buffer.alloc(0);
      return { type: -1, done: true, cookie: Number(head.readBigUInt64BE(8)), error, data };
    }
    if (magic !== 0x668e33ef) throw new Error(`no reply: ${head.toString("hex")}`);
    const type = head.readUInt16BE(6);
    const data = await this.take((await this.take(4)).readUInt32BE(0));
    const error = (type & 0x8000) === 0 ? 0 : data.readUInt32BE(0);
    return { type, done: (head.readUInt16BE(4) & 1) === 1, cookie: Number(head.readBigUInt64BE(8)), error, data };
  }

  close(): void {
    this.socket.destroy();
    RawPeer.#all.delete(this);
  }

  static closeAll(): void {
    for (const peer of RawPeer.#all) peer.close();
  }
}
