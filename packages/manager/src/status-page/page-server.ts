/**
 * The HTTP server of one volume's status page, on the loopback.
 *
 *     GET  /, /app.js, /style.css, …     the page: the same for everybody, it tells nothing of the volume
 *     GET  /api/snapshot                 VolumeSnapshot           needs the token
 *     GET  /api/history                  VolumeHistory            needs the token
 *     POST /api/compression              {"enabled":true}         needs the token
 *     POST /api/deduplication            {"enabled":true}         needs the token
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { errorMessage, isVdoError } from "@vdo/base";
import { commandError, errorText, listenReason } from "../errors.ts";
import { denyData, denyHost, SAFE_HEADERS } from "./guard.ts";
import type { PageFile } from "./page-files.ts";
import type { VolumeHistory, VolumeSnapshot } from "./snapshot.ts";

const HOST = "127.0.0.1";

/** A few people and their browsers. */
const CONNECTIONS_MAX = 32;
const REQUEST_MILLISECONDS = 10_000;

/** A switch takes some twenty bytes. */
const BODY_BYTES_MAX = 1024;

export type SwitchName = "compression" | "deduplication";

/** Where the page's data comes from and its switches go to. */
export interface StatusSource {
  snapshot(): VolumeSnapshot;
  history(): VolumeHistory;
  /** Throws a `VdoError` when the switch cannot be moved. */
  setSwitch(name: SwitchName, on: boolean): Promise<void>;
}

export interface PageServerOptions {
  source: StatusSource;
  files: ReadonlyMap<string, PageFile>;
  token: string;
  /** 0 takes any that is free. */
  port: number;
}

interface Answer {
  status: number;
  type?: string;
  body?: Buffer | string;
  headers?: Record<string, string>;
}

export class PageServer {
  readonly #options: PageServerOptions;
  readonly #server: Server;

  private constructor(options: PageServerOptions) {
    this.#options = options;
    this.#server = createServer(
      { requestTimeout: REQUEST_MILLISECONDS, headersTimeout: REQUEST_MILLISECONDS },
      (request, response) => {
        this.#answer(request).then(
          (answer) => send(response, answer),
          (error: unknown) => send(response, failure(500, "INTERNAL", errorMessage(error))),
        );
      },
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens on the loopback. Throws `VDO_SYSTEM` when the port cannot be had, with the next step. */
  static async listen(options: PageServerOptions): Promise<PageServer> {
    const page = new PageServer(options);
    await new Promise<void>((resolve, reject) => {
      page.#server.once("error", (error) => reject(listenError(error, options.port)));
      page.#server.listen(options.port, HOST, resolve);
    });
    return page;
  }

  /** Where the page is, without the token. */
  get url(): string {
    return `http://${HOST}:${(this.#server.address() as AddressInfo).port}/`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const { method = "", headers } = request;
    const path = (request.url ?? "").split("?")[0] ?? "";
    const denial = denyHost(headers) ?? (path.startsWith("/api/") ? denyData(headers, this.#options.token) : undefined);
    if (denial !== undefined) return failure(denial.status, denial.code, denial.message);
    const { files } = this.#options;
    const file = files.get(path);
    if (path === "/" && !files.has("/app.js")) {
      return failure(503, "NOT_BUILT", "the scripts of this page were not built: run npm run build");
    }
    if (file !== undefined)
      return method === "GET" ? { status: 200, type: file.type, body: file.content } : wrong("GET");
    if (path === "/api/snapshot") return method === "GET" ? json(this.#options.source.snapshot()) : wrong("GET");
    if (path === "/api/history") return method === "GET" ? json(this.#options.source.history()) : wrong("GET");
    if (path === "/api/compression" || path === "/api/deduplication") {
      return method === "POST" ? this.#moveSwitch(request, path.slice("/api/".length) as SwitchName) : wrong("POST");
    }
    return failure(404, "NOT_FOUND", `there is nothing at ${path}`);
  }

  async #moveSwitch(request: IncomingMessage, name: SwitchName): Promise<Answer> {
    if (!/^application\/json\b/.test(request.headers["content-type"] ?? "")) {
      return failure(415, "BAD_REQUEST", "the body must be JSON: Content-Type: application/json");
    }
    const enabled = wantedState(await readBody(request));
    if (enabled === undefined)
      return failure(400, "BAD_REQUEST", 'the body must be {"enabled":true} or {"enabled":false}');
    try {
      await this.#options.source.setSwitch(name, enabled);
      return json(this.#options.source.snapshot());
    } catch (error) {
      return failure(409, isVdoError(error) ? error.code : "FAILED", errorText(error));
    }
  }
}

function listenError(error: Error, port: number): Error {
  const otherChoice = "Choose another with --statusPage=PORT, or any free one with --statusPage=enabled";
  const text = `The status page cannot use port ${port} of ${HOST}: ${listenReason(error, otherChoice)}`;
  return commandError("VDO_SYSTEM", text, String(port), error);
}

function send(response: ServerResponse, { status, type, body = "", headers }: Answer): void {
  const content = type === undefined ? {} : { "Content-Type": type };
  response.writeHead(status, { ...SAFE_HEADERS, ...content, ...headers }).end(body);
}

function json(value: object, status = 200): Answer {
  return { status, type: "application/json; charset=utf-8", body: JSON.stringify(value) };
}

function failure(status: number, code: string, message: string): Answer {
  const answer = json({ error: { code, message } }, status);
  return status === 401 ? { ...answer, headers: { "WWW-Authenticate": "Bearer" } } : answer;
}

function wrong(allowed: string): Answer {
  return { ...failure(405, "METHOD_NOT_ALLOWED", `use ${allowed}`), headers: { Allow: allowed } };
}

/** The body's text, cut where it is longer than any that makes sense. It is read to its end, so that an answer arrives. */
async function readBody(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of request.setEncoding("utf8")) {
    if (text.length <= BODY_BYTES_MAX) text += part as string;
  }
  return text.slice(0, BODY_BYTES_MAX);
}

function wantedState(body: string): boolean | undefined {
  try {
    const { enabled } = JSON.parse(body) as { enabled?: unknown };
    return typeof enabled === "boolean" ? enabled : undefined;
  } catch {
    return undefined;
  }
}
