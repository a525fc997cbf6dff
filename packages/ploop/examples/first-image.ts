/** From an empty file to a disk, and back. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createImage, NodeFile, PloopDevice } from "@vdo/ploop";

const folder = await mkdtemp(join(tmpdir(), "ploop-"));
const file = await NodeFile.open(join(folder, "disk.hds"), "wx+");
await createImage(file, { version: 2, sizeSectors: 1024 * 2048, clusterSectors: 2048 });

const disk = await PloopDevice.open({ deltas: [{ file }] });
await disk.write(7 * 2048, new TextEncoder().encode("hello".padEnd(512, ".")));
await disk.flush();

const block = new Uint8Array(512);
await disk.read(7 * 2048, block);
console.log(new TextDecoder().decode(block.subarray(0, 5))); // hello
console.log(disk.blockCount * disk.blockSize); // 1073741824
await disk.close();
console.log((await NodeFile.open(join(folder, "disk.hds"), "r")).length); // 2097152
await rm(folder, { recursive: true });
