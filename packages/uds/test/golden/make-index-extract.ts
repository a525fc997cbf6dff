/**
 * Makes `kernel-index.bin.gz`: the blocks of an index region that are not all zero, each as its number (u32 LE, counted as
 * in the index: the region starts with block 1) and 4096 bytes.
 *
 * The image was made by Linux 6.12.95 dm-vdo (Debian) and the vdo tools 8.3.0.71: 4 GiB physical, 64 GiB logical, slab
 * bits 13, dense index of 0.25 GB; blocks 0 to 4095 of `../support/fixture-content.ts` (seed `fixture-1`) written at
 * logical block 0 and again at 1000000, some discarded and overwritten, then stopped cleanly.
 *
 *     npx tsx packages/uds/test/golden/make-index-extract.ts VOLUME.img packages/uds/test/golden/kernel-index.bin.gz
 */
import { open, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const BLOCK = 4096;
const FIRST = 1;
const COUNT = 679127;

const [source, target] = process.argv.slice(2) as [string, string];
const file = await open(source);
const parts: Uint8Array[] = [];
const buffer = new Uint8Array(256 * BLOCK);
for (let first = FIRST; first < FIRST + COUNT; first += 256) {
  const count = Math.min(256, FIRST + COUNT - first);
  await file.read(buffer, 0, count * BLOCK, first * BLOCK);
  for (let i = 0; i < count; i++) {
    const block = buffer.slice(i * BLOCK, (i + 1) * BLOCK);
    if (block.every((byte) => byte === 0)) continue;
    const number = new Uint8Array(4);
    new DataView(number.buffer).setUint32(0, first + i, true);
    parts.push(number, block);
  }
}
await file.close();
await writeFile(target, gzipSync(Buffer.concat(parts), { level: 9 }));
