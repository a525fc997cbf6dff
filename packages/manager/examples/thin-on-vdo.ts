/** Snapshots of a VDO volume: a thin pool on it, in one process. `tsx thin-on-vdo.ts FILE` */
import { truncate, writeFile } from "node:fs/promises";
import { FileDevice, SliceDevice } from "@vdo/block-device";
import { format, VdoVolume } from "@vdo/kvdo";
import { ThinPool } from "@vdo/thin";

const path = process.argv[2] ?? "volume.vdo";
await writeFile(path, "", { flag: "wx" });
await truncate(path, 5 * 2 ** 30); // sparse: takes what is written
const device = await FileDevice.open({ path });
await format(device, { slabBits: 17, logicalSize: 20 * 2 ** 30 });
const vdo = await VdoVolume.open(device);

// The first 16 MiB of the volume hold the pool's metadata, the rest its data: all of it is deduplicated and compressed.
const metadata = new SliceDevice(vdo, { start: 0, blockCount: 4096 });
const data = new SliceDevice(vdo, { start: 4096, blockCount: vdo.blockCount - 4096 });
const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });

await pool.createThin(0);
const disk = await pool.volume({ id: 0, sectors: 2 ** 24 });
const text = (words: string): Uint8Array => new TextEncoder().encode(words.padEnd(65_536));
await disk.write(0, text("as it was"));
await pool.createSnapshot(1, 0);
await disk.write(0, text("as it is"));

const snapshot = await pool.volume({ id: 1, sectors: 2 ** 24 });
const block = new Uint8Array(4096);
await disk.read(0, block);
console.log(`disk: ${new TextDecoder().decode(block).trim()}`);
// disk: as it is
await snapshot.read(0, block);
console.log(`snapshot: ${new TextDecoder().decode(block).trim()}`);
// snapshot: as it was

await pool.close(); // the pool first, then what it lies on
await vdo.close();
await device.close();
