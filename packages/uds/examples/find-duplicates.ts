import { readFile } from "node:fs/promises";
import { loadRecordNamer, UdsIndex } from "@vdo/uds";

const data = await readFile(process.argv[2] ?? process.execPath);
const recordName = await loadRecordNamer();
const index = await UdsIndex.create({ memory: 0.25 }); // in memory; with `device` it stays on storage
let duplicates = 0;
for (let offset = 0; offset < data.length; offset += 4096) {
  const location = new Uint8Array(16);
  new DataView(location.buffer).setBigUint64(0, BigInt(offset));
  const known = await index.post(recordName(data.subarray(offset, offset + 4096)), location);
  if (known !== undefined) duplicates++; // `known` says where it was: compare before you trust it
}
console.log(`${Math.ceil(data.length / 4096)} blocks, ${duplicates} duplicates`);
await index.close();
