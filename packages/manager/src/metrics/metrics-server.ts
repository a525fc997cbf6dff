/** An HTTP server of the metrics of every running volume of this machine: `GET /metrics`. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { errorMessage } from "@vdo/base";
import { runningVolumes } from "../daemon/state.ts";
import { commandError, listenReason } from "../errors.ts";
import type { ClientEnvironment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { type MeasuredVolume, RunningVolumes } from "../stats/volumes.ts";
import { metricsText } from "./volume-metrics.ts";

/** Content type of the text format. */
const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Connections at a time: scrapers are few. */
const CONNECTIONS_MAX = 32;

export interface MetricsAddress {
  host: string;
  port: number;
}

export class MetricsServer {
  readonly #server: Server;
  readonly #environment: ClientEnvironment;

  private constructor(environment: ClientEnvironment) {
    this.#environment = environment;
    this.#server = createServer((request, response) => {
      const path = (request.url ?? "").split("?")[0];
      if (request.method !== "GET" || path !== "/metrics") {
        response.writeHead(path === "/metrics" ? 405 : 404).end();
        return;
      }
      this.#sample().then(
        (text) => response.writeHead(200, { "Content-Type": CONTENT_TYPE }).end(text),
        (error: unknown) => response.writeHead(500).end(`${errorMessage(error)}\n`),
      );
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens; port 0 takes any that is free. Throws `VDO_SYSTEM` when the address cannot be had. */
  static async listen(environment: ClientEnvironment, { host, port }: MetricsAddress): Promise<MetricsServer> {
    const metrics = new MetricsServer(environment);
    await new Promise<void>((resolve, reject) => {
      metrics.#server.once("error", (error) =>
        reject(
          commandError(
            "VDO_SYSTEM",
            `Cannot listen on ${host}:${port}: ${listenReason(error, "Choose another with --listen=HOST:PORT")}`,
            host,
            error,
          ),
        ),
      );
      metrics.#server.listen(port, host, resolve);
    });
    return metrics;
  }

  get address(): MetricsAddress {
    const { address, port } = this.#server.address() as AddressInfo;
    return { host: address, port };
  }

  /** A volume that stops while it is asked is left out. */
  async #sample(): Promise<string> {
    const running = new RunningVolumes(this.#environment);
    const volumes: MeasuredVolume[] = [];
    for (const name of await runningVolumes(new Paths(this.#environment))) {
      const measured = await running.measure({ name, operand: name }).catch(() => undefined);
      if (measured !== undefined) volumes.push(measured);
    }
    return metricsText(volumes, this.#environment.version);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
