/** A process that serves the volume on a file until it is killed: `serve-volume.ts IMAGE SOCKET`. */
import { FileDevice } from "@vdo/block-device";
import { VdoVolume } from "@vdo/kvdo";
import { NbdServer } from "@vdo/nbd";

const [path = "", socket = ""] = process.argv.slice(2);
const device = await FileDevice.open({ path });
const volume = await VdoVolume.open(device, { maximumAge: 4, blockMapCacheBlocks: 128 });
await volume.indexSettled();
const server = new NbdServer({ exports: [{ name: "v", device: volume }] });
await server.listen({ path: socket });
process.stdout.write("ready\n");
setInterval(() => undefined, 1 << 30);
