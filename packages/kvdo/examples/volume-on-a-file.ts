/** A volume on a file: format, write, read, statistics, close. `tsx volume-on-a-file.ts FILE` */
import { truncate, writeFile } from "node:fs/promises";
import { FileDevice } from "@vdo/block-device";
import { format, VdoVolume } from "@vdo/kvdo";

const path = process.argv[2] ?? "volume.vdo";
await writeFile(path, "", { flag: "wx" });
await truncate(path, 5 * 2 ** 30); // sparse: takes what is written
const device = await FileDevice.open({ path });
await format(device, { slabBits: 17, logicalSize: 20 * 2 ** 30 });

const volume = await VdoVolume.open(device);
await volume.indexSettled(); // not needed to write, but duplicates are found from here on
const block = new Uint8Array(4096).map((_, i) => (i * i) >> 4);
for (let lbn = 0; lbn < 100; lbn++) await volume.write(lbn, block);
await volume.write(5000, new TextEncoder().encode("unlike the others".padEnd(4096)));
await volume.flush(); // durable from here on

const back = new Uint8Array(4096);
await volume.read(99, back);
const { dataBlocksUsed, logicalBlocksUsed } = volume.statistics();
console.log(`${logicalBlocksUsed} blocks written, ${dataBlocksUsed} stored, read back: ${back[40] === block[40]}`);
await volume.close(); // the Linux kernel can start it now
await device.close();
