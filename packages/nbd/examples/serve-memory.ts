/** Serves a disk in memory: `tsx serve-memory.ts SOCKET [MEBIBYTES]`. Ends on SIGTERM or SIGINT. */
import { MemoryDevice } from "@vdo/block-device";
import { NbdServer } from "@vdo/nbd";

const [path = "disk.sock", mebibytes = "64"] = process.argv.slice(2);
const device = new MemoryDevice({ blockCount: Number(mebibytes) * 256 });
const server = new NbdServer({ exports: [{ name: "", description: "a disk in memory", device }] });
await server.listen({ path });
console.log(`nbd+unix:///?socket=${path}`);
const stop = (): void => void server.close().then(() => device.close());
process.once("SIGTERM", stop);
process.once("SIGINT", stop);
