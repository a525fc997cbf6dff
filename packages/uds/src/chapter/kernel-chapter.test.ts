/** Pages of a chapter that the kernel wrote (golden extract), written again. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { firstDifference, Random, viewOf } from "@vdo/base";
import { expect, test } from "vitest";
import { repackChapter } from "../../test/support/repack-chapter.ts";
import { CHAPTER_MEAN_DELTA } from "../constants.ts";
import { deltaCode } from "../delta/delta-code.ts";
import { ListCursor } from "../delta/list-cursor.ts";
import { listStart, readIndexPage } from "./index-page.ts";
import { findRecord, RecordPageWriter } from "./record-page.ts";

const PAGE = 32768;
const extract = gunzipSync(readFileSync(new URL("../../test/golden/kernel-chapter.bin.gz", import.meta.url)));
const indexPage = new Uint8Array(extract.subarray(0, PAGE));
const recordPage = new Uint8Array(extract.subarray(PAGE));
const nonce = viewOf(indexPage).getBigUint64(0, true);

test("a record page, its records shuffled, is sorted into the same bytes", () => {
  const random = new Random(1);
  const shuffled = recordPage.slice();
  const spare = new Uint8Array(32);
  for (let i = 1023; i > 0; i--) {
    const other = random.below(i + 1) * 32;
    spare.set(shuffled.subarray(other, other + 32));
    shuffled.copyWithin(other, i * 32, i * 32 + 32);
    shuffled.set(spare, i * 32);
  }
  const page = new Uint8Array(PAGE);
  new RecordPageWriter(1024).write(shuffled, page);
  expect(firstDifference(page, recordPage)).toBe(-1);
  for (let at = 0; at < PAGE; at += 32)
    expect(findRecord(recordPage, 0, 1024, recordPage.subarray(at, at + 16))).toBe(at);
});

test("an index page, packed again from the entries on it, has the same bytes", () => {
  const view = viewOf(indexPage);
  const info = readIndexPage(view, 0, PAGE, nonce);
  expect(info).toMatchObject({ virtualChapter: 0n, firstList: 0, bigEndian: false });
  const cursor = new ListCursor(deltaCode(CHAPTER_MEAN_DELTA), 6);
  const random = new Random(2);
  const records = random.fill(new Uint8Array(65536 * 32));
  const taken = new Uint16Array(64);
  const place = (recordPage: number, ci: number): void => {
    const at = (recordPage * 1024 + (taken[recordPage] as number)) * 32;
    taken[recordPage] = (taken[recordPage] as number) + 1;
    viewOf(records).setUint16(at + 8, 0);
    viewOf(records).setUint32(at + 10, ci);
  };
  for (let list = 0; list < (info?.listCount ?? 0); list++) {
    cursor.open(view, 0, listStart(view, 0, list), listStart(view, 0, list + 1));
    while (cursor.advance()) {
      expect(cursor.isCollision).toBe(false);
      place(cursor.value(), list * 2 ** 22 + cursor.key);
    }
  }
  // The other places of the chapter go to the lists behind this page.
  const first = info?.listCount ?? 0;
  for (let page = 0; page < 64; page++) {
    while ((taken[page] as number) < 1024)
      place(page, (first + random.below(1024 - first)) * 2 ** 22 + random.below(2 ** 22));
  }
  const packed = repackChapter(records, nonce, 0);
  expect(firstDifference(packed.subarray(0, PAGE), indexPage)).toBe(-1);
});
