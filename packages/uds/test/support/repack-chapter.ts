/** Packs a closed chapter of a dense index of 0.25 GB again from its record pages. */
import { ChapterPacker } from "../../src/chapter/chapter-packer.ts";
import { OpenChapter } from "../../src/chapter/open-chapter.ts";
import { RecordPageWriter } from "../../src/chapter/record-page.ts";
import { indexGeometry } from "../../src/index.ts";

/** All pages of the chapter, from its 64 record pages. */
export function repackChapter(recordPages: Uint8Array, nonce: bigint, virtualChapter: number): Uint8Array {
  const geometry = indexGeometry({ memory: 0.25 });
  const { bytesPerPage, indexPagesPerChapter, recordPagesPerChapter, recordsPerPage, recordsPerChapter } = geometry;
  const chapter = new OpenChapter(recordsPerChapter);
  const record = new Uint8Array(32);
  const words = new Uint32Array(record.buffer);
  for (let at = 0; at < recordPages.length; at += 32) {
    record.set(recordPages.subarray(at, at + 32));
    chapter.put(record, words, 4);
  }
  const packer = new ChapterPacker(geometry);
  packer.distribute(chapter);
  packer.sort(0, geometry.listsPerChapter);
  const pages = new Uint8Array(bytesPerPage * geometry.pagesPerChapter);
  let firstList = 0;
  for (let page = 0; page < indexPagesPerChapter; page++) {
    const isLast = page === indexPagesPerChapter - 1;
    const target = pages.subarray(page * bytesPerPage, (page + 1) * bytesPerPage);
    firstList += packer.pack(target, { firstList, isLast, nonce, virtualChapter });
  }
  const writer = new RecordPageWriter(recordsPerPage);
  for (let page = 0; page < recordPagesPerChapter; page++) {
    const at = (indexPagesPerChapter + page) * bytesPerPage;
    const source = chapter.records.subarray(page * bytesPerPage, (page + 1) * bytesPerPage);
    writer.write(source, pages.subarray(at, at + bytesPerPage));
  }
  return pages;
}
