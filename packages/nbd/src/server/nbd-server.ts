/** An NBD server: block devices under names, on Unix sockets and TCP. */
import { createServer, type Server, type Socket } from "node:net";
import { type Clock, systemClock, VdoError } from "@vdo/base";
import { STRING_BYTES_MAX } from "../protocol/constants.ts";
import { type ListenAddress, listenOn } from "./address.ts";
import { BufferPool } from "./buffer-pool.ts";
import { ByteBudget } from "./byte-budget.ts";
import { Connection, type ConnectionContext } from "./connection.ts";
import { DEFAULT_LIMITS, type ServerLimits } from "./limits.ts";
import { withReadBuffer } from "./read-buffer.ts";
import { type ExportOptions, ServedExport } from "./served-export.ts";

export interface NbdServerOptions {
  exports?: readonly ExportOptions[];
  limits?: Partial<ServerLimits>;
  clock?: Clock;
  /** Told about every failure of a device, with the details clients are not given. */
  onError?(error: unknown): void;
}

/**
 * Serves block devices over NBD.
 *
 * @example
 * const server = new NbdServer({ exports: [{ name: "", device: new MemoryDevice({ blockCount: 1024 }) }] });
 * await server.listen({ path: "/run/disk.sock" });
 */
export class NbdServer {
  readonly #exports = new Map<string, ServedExport>();
  readonly #connections = new Set<Connection>();
  readonly #listeners: Server[] = [];
  readonly #limits: ServerLimits;
  readonly #clock: Clock;
  readonly #context: ConnectionContext;
  #closing: Promise<void> | undefined;
  #allClosed: (() => void) | undefined;
  #starvationWatched = false;

  constructor({ exports = [], limits, clock = systemClock, onError }: NbdServerOptions = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#clock = clock;
    this.#context = {
      clock,
      limits: this.#limits,
      pool: new BufferPool(),
      budget: new ByteBudget(this.#limits.serverBytesMax),
      requests: [],
      findExport: (name) => this.#find(name),
      exports: () => [...this.#exports.values()],
      onError: onError ?? (() => undefined),
      onClosed: (connection) => this.#closed(connection),
      onStarved: () => this.#watchStarvation(),
    };
    for (const options of exports) this.addExport(options);
  }

  /** Connections now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Bytes of payloads and unsent replies held now, all connections together. */
  get bytesHeld(): number {
    return this.#context.budget.used;
  }

  /** Offers a device. Throws `VDO_BAD_ARGUMENT` for a name in use, too long, or with a NUL. */
  addExport(options: ExportOptions): void {
    const { name, description = "" } = options;
    const tooLong = Buffer.byteLength(name) > STRING_BYTES_MAX || Buffer.byteLength(description) > STRING_BYTES_MAX;
    if (tooLong || name.includes("\0") || description.includes("\0") || this.#exports.has(name)) {
      throw new VdoError(
        "VDO_BAD_ARGUMENT",
        `export '${name.slice(0, 64)}': names are unique, at most ${STRING_BYTES_MAX} bytes, without NUL`,
        { argument: "name", value: name },
      );
    }
    this.#exports.set(name, new ServedExport(options));
  }

  /** Withdraws an export: its connections answer what is in flight and end. Resolves when they are gone. */
  async removeExport(name: string): Promise<void> {
    const served = this.#exports.get(name);
    if (served === undefined) return;
    this.#exports.delete(name);
    const users = [...this.#connections].filter((connection) => connection.served === served);
    await Promise.all(users.map((connection) => this.#end(connection)));
  }

  /**
   * Listens; may be called several times. Resolves with the address, its port filled in. Throws `VDO_ADDRESS_IN_USE`,
   * `VDO_BAD_ARGUMENT` (a socket path above 107 bytes), `VDO_IO` (operation `open`).
   */
  async listen(address: ListenAddress): Promise<ListenAddress> {
    if (this.#closing !== undefined)
      throw new VdoError("VDO_CLOSED", "the NBD server was closed", { object: "NBD server" });
    const listener = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
      pauseOnConnect: true,
    });
    listener.on("connection", (socket) => this.#accept(withReadBuffer(socket)));
    const bound = await listenOn(listener, address);
    this.#listeners.push(listener);
    return bound;
  }

  /**
   * Stops in order: no new connections, no new requests; what is in flight is answered. Connections that take longer than
   * `graceMs` are cut. The devices stay open. Idempotent.
   */
  close({ graceMs = 5000 }: { graceMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    const stopped = this.#listeners.map((listener) => new Promise<void>((resolve) => listener.close(() => resolve())));
    const cancel = this.#clock.after(graceMs, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    const gone = new Promise<void>((resolve) => {
      this.#allClosed = resolve;
    });
    for (const connection of this.#connections) connection.shutDown();
    if (this.#connections.size === 0) this.#allClosed?.();
    await gone;
    cancel();
    await Promise.all(stopped);
  }

  #find(name: string): ServedExport | undefined {
    const served = this.#exports.get(name);
    if (served !== undefined || name !== "") return served;
    return this.#exports.size === 1 ? this.#exports.values().next().value : undefined;
  }

  #accept(socket: Socket): void {
    if (this.#connections.size >= this.#limits.connectionsMax || this.#closing !== undefined) {
      socket.on("error", () => undefined);
      socket.destroy();
      return;
    }
    this.#connections.add(new Connection(socket, this.#context));
  }

  #end(connection: Connection): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.set(connection, resolve);
      connection.shutDown();
    });
  }

  readonly #waiters = new Map<Connection, () => void>();

  #closed(connection: Connection): void {
    this.#connections.delete(connection);
    this.#waiters.get(connection)?.();
    this.#waiters.delete(connection);
    if (this.#connections.size === 0) this.#allClosed?.();
  }

  /** While somebody waits for bytes: who holds some and makes no progress for `stalledMs` because of its peer, goes. */
  #watchStarvation(): void {
    if (this.#starvationWatched) return;
    this.#starvationWatched = true;
    const before = new Map([...this.#connections].map((connection) => [connection, connection.progress]));
    this.#clock.after(this.#limits.stalledMs, () => {
      this.#starvationWatched = false;
      if (!this.#context.budget.contended) return;
      for (const connection of this.#connections) {
        const stalled = connection.progress === before.get(connection) && connection.waitsForPeer;
        if (stalled && connection.bytesHeld > 0) connection.destroy();
      }
      this.#watchStarvation();
    });
  }
}
