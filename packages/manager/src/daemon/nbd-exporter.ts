/** Serves a volume with the NBD server of `@vdo/nbd`. */
import { errorMessage } from "@vdo/base";
import { NbdServer } from "@vdo/nbd";
import type { Exporter } from "./exporter.ts";

/** Time that requests in flight have to be answered when the volume stops, in milliseconds. */
const GRACE_MILLISECONDS = 30_000;

/** One export under the volume's name; the empty name leads to it too. */
export const nbdExporter: Exporter = async ({ name, device, socketPath, descriptor, log }) => {
  const server = new NbdServer({
    exports: [{ name, device, description: `VDO volume ${name}` }],
    onError: (error) => log("error", errorMessage(error)),
  });
  await server.listen({ path: socketPath });
  if (descriptor !== undefined) await server.listen({ fd: descriptor });
  return {
    connections: () => server.connectionCount,
    close: () => server.close({ graceMs: GRACE_MILLISECONDS }),
  };
};
