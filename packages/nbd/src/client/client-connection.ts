/**
 * One connection of the client to a server: handshake, then pipelined requests.
 *
 * It is lost as a whole: every request in flight fails, and so does every later one. A device that is to survive the loss
 * gets a new connection; nothing here resends, because answered writes that were not flushed may be gone with a server.
 */
import { connect, type Socket } from "node:net";
import { type Clock, errorMessage, isVdoError, VdoError } from "@vdo/base";
import { vdoErrorOf } from "../errors.ts";
import { COMMAND, MAGIC, NBD_DEFAULT_PORT } from "../protocol/constants.ts";
import { requestHeader } from "../protocol/headers.ts";
import { ByteSource } from "./byte-source.ts";
import { type Agreement, shakeHands } from "./client-handshake.ts";
import type { NbdAddress } from "./nbd-uri.ts";
import { PendingRequest } from "./pending-request.ts";
import { ReplyParser } from "./reply-parser.ts";

const RECEIVE_BYTES = 256 << 10;

export interface ConnectionSettings {
  address: NbdAddress;
  clock: Clock;
  /** Milliseconds for connecting and the handshake. */
  connectMs: number;
  /** Requests in flight; further ones wait. */
  requestsMax: number;
}

/** A request to be sent. Bytes; `blockSize` is for the block numbers in errors. */
export interface RequestParts {
  command: number;
  flags: number;
  offset: number;
  length: number;
  blockSize: number;
  source?: Uint8Array;
  target?: Uint8Array;
}

export class ClientConnection {
  readonly agreement: Agreement;
  readonly #socket: Socket;
  readonly #requestsMax: number;
  readonly #slots: (PendingRequest | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  /** Told apart from an earlier request in the same slot. */
  readonly #generations: number[] = [];
  #waiting: PendingRequest[] = [];
  #inFlight = 0;
  #corked = false;
  #lost: VdoError | undefined;
  #ending = false;
  #onIdle: (() => void) | undefined;

  private constructor(socket: Socket, agreement: Agreement, requestsMax: number) {
    this.#socket = socket;
    this.agreement = agreement;
    this.#requestsMax = requestsMax;
  }

  /** Connects and shakes hands. Throws `VDO_IO` (operation `open`), `VDO_NBD_PROTOCOL`, `VDO_NBD_REFUSED`. */
  static async open({ address, clock, connectMs, requestsMax }: ConnectionSettings): Promise<ClientConnection> {
    const source = new ByteSource();
    let receive = (bytes: Buffer): void => source.push(bytes);
    let lose = (error: unknown): void => source.fail(error);
    const buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
    const onread = {
      buffer,
      callback: (count: number): boolean => {
        receive(buffer.subarray(0, count));
        return true;
      },
    };
    const place =
      address.path === undefined
        ? { host: address.host ?? "127.0.0.1", port: address.port ?? NBD_DEFAULT_PORT }
        : { path: address.path };
    const socket = connect({ ...place, onread, noDelay: true, keepAlive: true });
    socket.on("error", (error) => lose(error));
    socket.on("end", () => lose(new Error("the server closed the connection")));
    socket.on("close", () => lose(new Error("the connection is closed")));
    const cancel = clock.after(connectMs, () => lose(new Error(`no answer within ${connectMs} ms`)));
    try {
      const agreement = await shakeHands(source, (bytes) => socket.write(bytes), address.exportName ?? "");
      const connection = new ClientConnection(socket, agreement, requestsMax);
      const parser = connection.#parser();
      receive = (bytes) => connection.#received(parser, bytes);
      lose = (error) => connection.#lose(error);
      const rest = source.rest();
      if (rest.length > 0) receive(rest);
      return connection;
    } catch (error) {
      lose = () => undefined;
      receive = () => undefined;
      socket.destroy();
      if (isVdoError(error)) throw error;
      const where = address.path ?? `${place.host}:${place.port}`;
      const text = `cannot connect to the NBD server at ${where}: ${errorMessage(error)}`;
      throw new VdoError("VDO_IO", text, { operation: "open", block: 0 }, error);
    } finally {
      cancel();
    }
  }

  /** Sends a request; the promise is its reply. */
  request(what: RequestParts): Promise<PendingRequest> {
    return new Promise((resolve, reject) => {
      const request: PendingRequest = new PendingRequest({ ...what, resolve: () => resolve(request), reject });
      if (this.#lost !== undefined) reject(this.#failure(request));
      else if (this.#inFlight >= this.#requestsMax) this.#waiting.push(request);
      else this.#send(request);
    });
  }

  /** Waits for the replies, says goodbye and closes. */
  async close(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    if (this.#lost !== undefined) return;
    this.#ending = true;
    const header = this.#header({ command: COMMAND.disconnect, flags: 0, offset: 0, length: 0 }, 0);
    await new Promise<void>((resolve) => {
      this.#socket.once("close", () => resolve());
      this.#socket.end(header, () => this.#socket.destroySoon());
    });
  }

  #parser(): ReplyParser {
    const { structured, allocationId } = this.agreement;
    return new ReplyParser({
      structured,
      allocationId,
      find: (high, low) => (this.#generations[low] === high ? this.#slots[low] : undefined),
      onReply: (request) => this.#replied(request),
    });
  }

  #received(parser: ReplyParser, bytes: Buffer): void {
    if (this.#lost !== undefined) return;
    try {
      parser.push(bytes);
    } catch (error) {
      this.#lose(error);
    }
  }

  #header(request: { command: number; flags: number; offset: number; length: number }, slot: number): Buffer {
    const header = Buffer.allocUnsafe(requestHeader.size);
    header.writeUInt32BE(MAGIC.request, 0);
    header.writeUInt16BE(request.flags, 4);
    header.writeUInt16BE(request.command, 6);
    header.writeInt32BE(this.#generations[slot] ?? 0, 8);
    header.writeInt32BE(slot, 12);
    header.writeUInt32BE(Math.floor(request.offset / 0x1_0000_0000), 16);
    header.writeUInt32BE(request.offset >>> 0, 20);
    header.writeUInt32BE(request.length, 24);
    return header;
  }

  #send(request: PendingRequest): void {
    const slot = this.#freeSlots.pop() ?? this.#slots.length;
    this.#slots[slot] = request;
    this.#generations[slot] = ((this.#generations[slot] ?? 0) + 1) | 0;
    request.slot = slot;
    this.#inFlight++;
    const socket = this.#socket;
    if (!this.#corked) {
      // What is asked for in one turn leaves in one write.
      this.#corked = true;
      socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        socket.uncork();
      });
    }
    socket.write(this.#header(request, slot));
    if (request.source !== undefined) socket.write(request.source);
  }

  #free(request: PendingRequest): void {
    this.#slots[request.slot] = undefined;
    this.#freeSlots.push(request.slot);
    this.#inFlight--;
  }

  #replied(request: PendingRequest): void {
    this.#free(request);
    if (request.error === 0) request.resolve();
    else request.reject(vdoErrorOf(request.error, request.errorText, request.operation, request.block));
    const next = this.#waiting.shift();
    if (next !== undefined) this.#send(next);
    else if (this.#inFlight === 0) this.#onIdle?.();
  }

  /** All requests fail; the reason is kept for later ones. */
  #lose(reason: unknown): void {
    if (this.#lost !== undefined || this.#ending) return;
    this.#lost = new VdoError(
      "VDO_IO",
      `the connection to the NBD server is lost: ${errorMessage(reason)}`,
      { operation: "read", block: 0 },
      reason,
    );
    this.#socket.destroy();
    const failed = [...this.#slots.filter((request) => request !== undefined), ...this.#waiting];
    this.#slots.fill(undefined);
    this.#waiting = [];
    this.#inFlight = 0;
    for (const request of failed) request.reject(this.#failure(request));
    this.#onIdle?.();
  }

  /** The connection is gone: no request will ever be answered. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  #failure(request: PendingRequest): VdoError {
    const { operation, block } = request;
    const text = `NBD ${operation} at byte ${request.offset}: ${this.#lost?.message}`;
    return new VdoError("VDO_IO", text, { operation, block }, this.#lost);
  }
}
