/** Serves thin devices 0, 1, … of a pool over NBD until it is told to stop: serve-thin.ts SOCKET METADATA DATA SECTORS */
import { FileDevice } from "@vdo/block-device";
import { NbdServer } from "@vdo/nbd";
import { ThinPool } from "@vdo/thin";

const [socket, metadataPath, dataPath, sectors] = process.argv.slice(2) as [string, string, string, string];
const metadata = await FileDevice.open({ path: metadataPath, inline: true });
const data = await FileDevice.open({ path: dataPath, inline: true });
const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
const volumes = await Promise.all(
  (await pool.devices()).map(({ id }) => pool.volume({ id, sectors: Number(sectors) })),
);
const server = new NbdServer({
  exports: volumes.map((device) => ({ name: String(device.id), device })),
  onError: (error) => console.error(error),
});
await server.listen({ path: socket });
const stop = async (): Promise<void> => {
  await server.close();
  for (const volume of volumes) await volume.close();
  await pool.close();
  process.exit(0);
};
process.once("SIGTERM", () => void stop());
process.once("SIGINT", () => void stop());
