/** Serves a stack of ploop images over NBD until it is told to stop: serve-ploop.ts SOCKET BASE … TOP */
import { NbdServer } from "@vdo/nbd";
import { NodeFile, PloopDevice } from "@vdo/ploop";

const [socket, ...paths] = process.argv.slice(2);
const deltas = await Promise.all(
  paths.map(async (path, level) => ({
    file: await NodeFile.open(path, level === paths.length - 1 ? "r+" : "r", { inline: true }),
  })),
);
const device = await PloopDevice.open({ deltas });
const server = new NbdServer({ exports: [{ name: "", device }], onError: (error) => console.error(error) });
await server.listen({ path: socket as string });
const stop = async (): Promise<void> => {
  await server.close();
  await device.close();
  process.exit(0);
};
process.once("SIGTERM", () => void stop());
process.once("SIGINT", () => void stop());
