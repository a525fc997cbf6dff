/**
 * Makes `kernel-chapter.bin.gz`: index page 0 and record page 0 (32768 bytes each) of chapter 0 of an index, one after the
 * other. With `--all` it also packs every page of the chapter again and compares all of them.
 *
 * The image was made by Linux 6.12.95 dm-vdo (Debian) and the vdo tools 8.3.0.71: a volume with a dense index of 0.25 GB,
 * 69888 distinct blocks written in order, stopped cleanly; so chapter 0 is closed. Its index region starts at block 1.
 *
 *     npx tsx --conditions=@vdo/source packages/uds/test/golden/make-chapter-extract.ts VOLUME.img OUTPUT [--all]
 */
import { open, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { repackChapter } from "../support/repack-chapter.ts";

const PAGE = 32768;
const INDEX_PAGES = 6;
const RECORD_PAGES = 64;
/** Block 3 is the unused header page of the volume, then comes chapter 0. */
const CHAPTER_BYTE = 3 * 4096 + PAGE;

const [source, target, all] = process.argv.slice(2) as [string, string, string | undefined];
const file = await open(source);
const chapter = new Uint8Array((INDEX_PAGES + RECORD_PAGES) * PAGE);
await file.read(chapter, 0, chapter.length, CHAPTER_BYTE);
await file.close();
const recordPage = chapter.subarray(INDEX_PAGES * PAGE, (INDEX_PAGES + 1) * PAGE);
await writeFile(target, gzipSync(Buffer.concat([chapter.subarray(0, PAGE), recordPage]), { level: 9 }));
if (all === "--all") {
  const nonce = new DataView(chapter.buffer).getBigUint64(0, true);
  const packed = repackChapter(chapter.subarray(INDEX_PAGES * PAGE), nonce, 0);
  const difference = Buffer.compare(packed, chapter);
  console.log(difference === 0 ? "all 70 pages are the same" : "the pages differ");
  process.exitCode = difference === 0 ? 0 : 1;
}
