/**
 * One client: the life of its socket.
 *
 *     handshake ─▶ transmission ─▶ ending (answer what is in flight) ─▶ lingering (peer's end, or a second) ─▶ closed
 *
 * Input is stopped, not buffered, while the current phase cannot take more.
 */
import type { Socket } from "node:net";
import type { Clock } from "@vdo/base";
import type { BufferPool } from "./buffer-pool.ts";
import { BusyPoll } from "./busy-poll.ts";
import { ByteAccount, type ByteBudget } from "./byte-budget.ts";
import { Handshake } from "./handshake.ts";
import type { ServerLimits } from "./limits.ts";
import { ReplyQueue } from "./reply-queue.ts";
import type { Request } from "./request.ts";
import type { ServedExport } from "./served-export.ts";
import { Transmission } from "./transmission.ts";

/** What the server shares with its connections. */
export interface ConnectionContext {
  clock: Clock;
  limits: ServerLimits;
  pool: BufferPool;
  budget: ByteBudget;
  requests: Request[];
  findExport(name: string): ServedExport | undefined;
  exports(): readonly ServedExport[];
  onError(error: unknown): void;
  onClosed(connection: Connection): void;
  /** The connection waits for bytes that others hold. */
  onStarved(): void;
}

export class Connection {
  readonly #socket: Socket;
  readonly #context: ConnectionContext;
  readonly #account: ByteAccount;
  readonly #replies: ReplyQueue;
  readonly #handshake: Handshake;
  readonly #poll = new BusyPoll({ isIdle: () => !this.#closed && this.#transmission?.inFlight === 0 });
  #transmission: Transmission | undefined;
  #served: ServedExport | undefined;
  #chunk: Buffer | undefined;
  #position = 0;
  #pumping = false;
  #paused = false;
  #ending = false;
  #ended = false;
  #closed = false;
  #progress = 0;
  #stopTimer: () => void;

  constructor(socket: Socket, context: ConnectionContext) {
    this.#socket = socket;
    this.#context = context;
    this.#account = new ByteAccount(context.budget, context.limits.connectionBytesMax, this);
    this.#replies = new ReplyQueue(socket, context.pool, this.#account, () => this.#replied());
    this.#handshake = new Handshake({
      limits: context.limits,
      findExport: context.findExport,
      exports: context.exports,
      send: (bytes) => socket.write(bytes),
      onStart: (served, agreed) => this.#start(served, agreed),
      onEnd: () => this.#end(),
    });
    this.#stopTimer = context.clock.after(context.limits.handshakeMs, () => this.destroy());
    socket.on("data", (chunk) => this.#received(chunk));
    socket.on("end", () => this.#inputEnded());
    socket.on("error", () => this.destroy());
    socket.on("close", () => this.#onClose());
    socket.resume();
    this.#handshake.hello();
  }

  /** The export in use, once transmission began. */
  get served(): ServedExport | undefined {
    return this.#served;
  }

  /** Bytes held: payloads and replies that the socket has not taken. */
  get bytesHeld(): number {
    return this.#account.held;
  }

  /** Counts what the socket moved; it stands still when the peer does. */
  get progress(): number {
    return this.#progress;
  }

  /** The peer owes us something: the rest of a request, or taking its replies. */
  get waitsForPeer(): boolean {
    return this.#transmission?.midRequest === true || !this.#replies.idle;
  }

  /** Ends in order: what is in flight is answered, new requests are refused. */
  shutDown(): void {
    this.#handshake.draining = true;
    if (this.#transmission !== undefined) {
      this.#transmission.draining = true;
      if (this.#transmission.inFlight === 0) this.#end();
    } else this.#end();
  }

  /** Ends at once. */
  destroy(): void {
    this.#socket.destroy();
  }

  budgetFreed(): void {
    if (this.#paused) this.#pump();
  }

  #start(served: ServedExport, agreed: { structured: boolean; allocation: boolean }): void {
    this.#stopTimer();
    this.#served = served;
    const { pool, limits, requests, onError } = this.#context;
    this.#transmission = new Transmission({
      served,
      ...agreed,
      requestsMax: limits.requestsMax,
      pool,
      requests,
      account: this.#account,
      replies: this.#replies,
      onInputEnd: () => this.#end(),
      onProgress: () => this.#advanced(),
      onError,
    });
    this.#transmission.draining = this.#handshake.draining;
  }

  #received(chunk: Buffer): void {
    this.#progress++;
    if (this.#ending) return;
    this.#poll.input();
    this.#chunk = chunk;
    this.#position = 0;
    this.#pump();
  }

  /** Feeds the phase with what was received, until it is used up or must wait. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const phases = [this.#handshake, this.#transmission] as const;
    let phase: Handshake | Transmission = phases[1] ?? phases[0];
    while (this.#chunk !== undefined && !this.#ending) {
      this.#position = phase.consume(this.#chunk, this.#position);
      if (phase.blocked) break;
      if (phase === this.#transmission || this.#transmission === undefined) break;
      phase = this.#transmission;
    }
    this.#pumping = false;
    if (phase.blocked && !this.#ending) {
      if (!this.#paused) this.#socket.pause();
      this.#paused = true;
      if (this.#context.budget.contended) this.#context.onStarved();
      return;
    }
    this.#chunk = undefined;
    if (this.#paused) {
      this.#paused = false;
      this.#socket.resume();
    }
  }

  /** A request ended. */
  #advanced(): void {
    if (this.#paused) this.#pump();
    const transmission = this.#transmission as Transmission;
    if (transmission.draining && transmission.inFlight === 0) this.#end();
    else if (this.#ending) this.#finish();
  }

  #replied(): void {
    this.#progress++;
    if (this.#ending) this.#finish();
  }

  #inputEnded(): void {
    this.#transmission?.inputEnded();
    this.#end();
  }

  /** Takes no more input; the socket ends when all is answered. */
  #end(): void {
    if (!this.#ending) {
      this.#ending = true;
      this.#chunk = undefined;
      this.#stopTimer();
      if (this.#paused) {
        this.#paused = false;
        this.#socket.resume();
      }
    }
    this.#finish();
  }

  /**
   * When everything is answered and sent: our end of stream, then the peer's or a second's grace. Unread bytes at the
   * close would reset the connection, and the peer could lose replies: so what still comes is read and thrown away.
   */
  #finish(): void {
    if (this.#ended || (this.#transmission !== undefined && this.#transmission.inFlight > 0)) return;
    this.#replies.flush();
    if (!this.#replies.idle) return;
    this.#ended = true;
    this.#socket.end();
    this.#stopTimer = this.#context.clock.after(this.#context.limits.lingerMs, () => this.destroy());
    if (this.#socket.readableEnded) this.#socket.destroySoon();
  }

  #onClose(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ending = true;
    this.#ended = true;
    this.#chunk = undefined;
    this.#stopTimer();
    this.#transmission?.inputEnded();
    this.#replies.close();
    this.#context.budget.forget(this);
    this.#context.onClosed(this);
  }
}
