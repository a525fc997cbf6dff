/** The saved form of the open chapter: magic, version, number of records, the records in order of arrival. */
import { ascii, struct, u32le, viewOf } from "@vdo/base";
import type { OpenChapter } from "../chapter/open-chapter.ts";
import { RECORD_BYTES } from "../constants.ts";
import { corrupt, notSaved } from "../errors.ts";
import { type IndexStorage, RegionWriter } from "./index-storage.ts";
import type { Region } from "./region-table.ts";

export const openChapterHeader = struct("OpenChapterHeader", 14, {
  magic: ascii(5),
  version: ascii(5),
  recordCount: u32le,
});
const MAGIC = "ALBOC";
const VERSION = "02.00";

export async function saveOpenChapter(storage: IndexStorage, region: Region, chapter: OpenChapter): Promise<void> {
  const writer = new RegionWriter(storage, region);
  const recordCount = chapter.size - chapter.removed;
  await writer.put(openChapterHeader.encode({ magic: MAGIC, version: VERSION, recordCount }));
  for (let record = 0; record < chapter.size; record++) {
    if (chapter.isRemoved(record)) continue;
    if (!writer.hasRoom(RECORD_BYTES)) await writer.drain();
    writer.bytes.set(chapter.records.subarray(record * RECORD_BYTES, (record + 1) * RECORD_BYTES), writer.at);
    writer.at += RECORD_BYTES;
  }
  await writer.finish();
}

/** Loads `chapter`; records for which only one place is left are dropped, as the kernel does. Throws `VDO_CORRUPT`. */
export async function loadOpenChapter(storage: IndexStorage, region: Region, chapter: OpenChapter): Promise<void> {
  chapter.clear();
  const bytes = await storage.readRegion(region);
  const header = openChapterHeader.get(viewOf(bytes), 0);
  const name = "saved open chapter";
  if (header.magic !== MAGIC) throw corrupt(name, "magic", { expected: MAGIC, actual: header.magic });
  if (header.version !== VERSION) throw corrupt(name, "version", { expected: VERSION, actual: header.version });
  if (openChapterHeader.size + header.recordCount * RECORD_BYTES > bytes.length) {
    throw notSaved(`the open chapter claims ${header.recordCount} records`);
  }
  const record = new Uint8Array(RECORD_BYTES);
  const words = new Uint32Array(record.buffer);
  for (let i = 0; i < header.recordCount && chapter.size < chapter.capacity - 1; i++) {
    const at = openChapterHeader.size + i * RECORD_BYTES;
    record.set(bytes.subarray(at, at + RECORD_BYTES));
    chapter.put(record, words, 4);
  }
}
