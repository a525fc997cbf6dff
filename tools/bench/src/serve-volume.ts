/**
 * Serves a new VDO volume, or plain memory, over NBD until it is told to stop (SIGTERM, SIGINT).
 *
 *   serve-volume.ts vdo SOCKET LOGICAL-BYTES IMAGE      formats IMAGE: everything in it is lost
 *   serve-volume.ts memory SOCKET BYTES                 the protocol alone, as a floor
 */
import { type BlockDevice, FileDevice, MemoryDevice } from "@vdo/block-device";
import { format, VdoVolume } from "@vdo/kvdo";
import { NbdServer } from "@vdo/nbd";

async function openDevice(kind: string | undefined, bytes: number, image: string | undefined): Promise<BlockDevice> {
  if (kind === "memory") return new MemoryDevice({ blockCount: bytes / 4096 });
  if (kind !== "vdo" || image === undefined) throw new Error("usage: serve-volume.ts vdo|memory SOCKET BYTES [IMAGE]");
  const storage = await FileDevice.open({ path: image, inline: true });
  await format(storage, { logicalSize: bytes, indexMemory: 0.25, slabBits: 15, force: true });
  // As the daemon opens it.
  return VdoVolume.open(storage, { prefaultIndex: true });
}

async function main(): Promise<void> {
  const [kind, socket, bytes, image] = process.argv.slice(2);
  const device = await openDevice(kind, Number(bytes), image);
  const server = new NbdServer({ exports: [{ name: "", device }], onError: (error) => console.error(error) });
  await server.listen({ path: socket as string });
  const stop = async (): Promise<void> => {
    await server.close();
    await device.close();
    process.exit(0);
  };
  process.once("SIGTERM", () => void stop());
  process.once("SIGINT", () => void stop());
}

await main();
