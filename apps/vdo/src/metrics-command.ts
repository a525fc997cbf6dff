/** `vdo metrics`: a small HTTP server that Prometheus asks. */
import { type MetricsAddress, MetricsServer } from "@vdo/manager";
import * as options from "./options.ts";
import type { Subcommand } from "./subcommands.ts";

const DEFAULT_ADDRESS: MetricsAddress = { host: "127.0.0.1", port: 9756 };

export const METRICS: Subcommand = {
  help: "Serves the metrics of all running volumes over HTTP, for Prometheus, until it is interrupted.",
  selects: "nothing",
  options: options.METRICS,
  run: async ({ environment, streams }, args) => {
    const server = await MetricsServer.listen(
      environment,
      (args["listen"] as MetricsAddress | null) ?? DEFAULT_ADDRESS,
    );
    const { host, port } = server.address;
    streams.out(`Metrics are at http://${host.includes(":") ? `[${host}]` : host}:${port}/metrics\n`);
    await new Promise<void>((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
    });
    await server.close();
    return undefined;
  },
};
