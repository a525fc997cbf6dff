import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryDevice } from "@vdo/block-device";
import { NbdClient, NbdServer } from "@vdo/nbd";

const folder = mkdtempSync(join(tmpdir(), "nbd-"));
const path = join(folder, "disk.sock");

// Any block device becomes an export: here 64 MiB of memory.
const device = new MemoryDevice({ blockCount: 16384 });
const server = new NbdServer({ exports: [{ name: "disk", description: "in memory", device }] });
await server.listen({ path });

// Any export becomes a block device.
const disk = await NbdClient.connect(`nbd+unix:///disk?socket=${path}`);
await disk.write(7, new Uint8Array(4096).fill(42), { fua: true });
const block = new Uint8Array(4096);
await disk.read(7, block);
console.log(`${disk.blockCount} blocks; block 7 begins with ${block[0]}`);
// 16384 blocks; block 7 begins with 42
console.log(JSON.stringify(await disk.extents?.(0, 512)));
// [{"count":256,"hole":false,"zero":false},{"count":256,"hole":true,"zero":true}]

await disk.close();
await server.close();
await device.close();
rmSync(folder, { recursive: true });
