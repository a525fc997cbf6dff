/** The daemon's end of the control socket. Listening on it is also the lock "one daemon per volume name". */
import { chmod } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { type Clock, errorMessage } from "@vdo/base";
import { exitStatus, nextStepOf } from "../errors.ts";
import { listenExclusively } from "../host/lock.ts";
import { type ControlReply, type ControlRequest, readLines, toJson } from "./protocol.ts";

/** Connections at a time: commands are short-lived, so more means that something is wrong. */
const CONNECTIONS_MAX = 64;

/** Requests of one connection that wait for an answer; reading pauses above. */
const REQUESTS_MAX = 32;

/** Answers one operation; what it returns is the result, what it throws the error. */
export type ControlHandler = (request: ControlRequest) => unknown;

export class ControlServer {
  readonly #server: Server;
  readonly #handlers: ReadonlyMap<string, ControlHandler>;
  /** Connections, with the number of answers that each waits for. */
  readonly #sockets = new Map<Socket, number>();
  #closing = false;

  constructor(handlers: ReadonlyMap<string, ControlHandler>) {
    this.#handlers = handlers;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens on `path` with permissions `mode`; resolves `false` when a living daemon already does. */
  async listen(path: string, mode: number, clock: Clock): Promise<boolean> {
    if (!(await listenExclusively(this.#server, path, clock))) return false;
    await chmod(path, mode);
    return true;
  }

  /** Stops listening, at once. Answers under way are still sent, so an operation may close its own server. */
  close(): void {
    this.#closing = true;
    this.#server.close();
    for (const [socket, waiting] of this.#sockets) if (waiting === 0) socket.end();
  }

  #accept(socket: Socket): void {
    const count = (change: number): number => {
      const waiting = (this.#sockets.get(socket) ?? 0) + change;
      this.#sockets.set(socket, waiting);
      return waiting;
    };
    count(0);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    readLines(socket, (line) => {
      if (count(1) >= REQUESTS_MAX) socket.pause();
      void this.#answer(line).then((reply) => {
        if (!socket.writable) return;
        socket.write(`${toJson(reply)}\n`);
        socket.resume();
        if (count(-1) === 0 && this.#closing) socket.end();
      });
    });
  }

  async #answer(line: string): Promise<ControlReply> {
    let id = 0;
    try {
      const request = parseRequest(line);
      id = request.id;
      const handler = this.#handlers.get(request.op);
      if (handler === undefined) return failure(id, "ENOSYS", `unknown operation ${JSON.stringify(request.op)}`, 1);
      return { id, ok: true, result: (await handler(request)) ?? null };
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const { error: facts, ...rest } = failure(
        id,
        typeof code === "string" ? code : "EIO",
        errorMessage(error),
        exitStatus(error),
      );
      return { ...rest, error: { ...facts, nextStep: nextStepOf(error) } };
    }
  }
}

function parseRequest(line: string): ControlRequest {
  const request = JSON.parse(line) as Partial<ControlRequest> | null;
  if (typeof request !== "object" || request === null || typeof request.op !== "string") {
    throw new SyntaxError("a request is an object with the text field 'op'");
  }
  return { ...request, op: request.op, id: typeof request.id === "number" ? request.id : 0 };
}

function failure(id: number, code: string, message: string, status: number): ControlReply & { ok: false } {
  return { id, ok: false, error: { code, message, status } };
}
