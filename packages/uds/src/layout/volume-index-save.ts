/**
 * The saved form of the volume index: one stream per zone that saved it (we save one, and load 1 to 16).
 *
 *     sparse only: MI6-0001, sample rate          12 bytes
 *     head of each sub-index: MI5-0005 …          40 bytes, then a flush chapter (u64) per list
 *                             DI-00002 …          40 bytes, then a size in bits (u16) per list
 *     list records of each sub-index, not empty   tag, bit offset, byte count, list number, then the bytes
 *     'z' and 7 zero bytes
 */
import { ascii, setU64, struct, u8, u16le, u32le, u64le, u64leBig } from "@vdo/base";
import { ceilDiv } from "../arithmetic.ts";
import type { SubIndex } from "../delta/sub-index.ts";
import { corrupt, notSaved } from "../errors.ts";
import type { VolumeIndex } from "../volume-index.ts";
import { type IndexStorage, RegionReader, RegionWriter } from "./index-storage.ts";
import type { Region } from "./region-table.ts";

export const sparseHeader = struct("SparseVolumeIndexHeader", 12, { magic: ascii(8), sampleRate: u32le });
export const subIndexHeader = struct("SubIndexHeader", 40, {
  magic: ascii(8),
  nonce: u64leBig,
  low: u64le,
  high: u64le,
  firstList: u32le,
  listCount: u32le,
});
export const deltaIndexHeader = struct("DeltaIndexHeader", 40, {
  magic: ascii(8),
  zone: u32le,
  zones: u32le,
  firstList: u32le,
  listCount: u32le,
  recordCount: u64le,
  collisionCount: u64le,
});
export const listRecord = struct("ListRecord", 8, { tag: u8, bitOffset: u8, byteCount: u16le, list: u32le });

const SPARSE_MAGIC = "MI6-0001";
const SUB_INDEX_MAGIC = "MI5-0005";
const DELTA_INDEX_MAGIC = "DI-00002";
const GUARD_TAG = "z".charCodeAt(0);
const NAME = "saved volume index";

export interface VolumeIndexSave {
  readonly index: VolumeIndex;
  readonly nonce: bigint;
  /** Which zone of how many is written; all lists by default. */
  readonly zone?: number;
  readonly zones?: number;
}

/** The lists of one zone. */
interface ZoneLists {
  readonly zone: number;
  readonly zones: number;
  readonly first: number;
  readonly count: number;
}

function listsOf(sub: SubIndex, { zone = 0, zones = 1 }: VolumeIndexSave): ZoneLists {
  const perZone = ceilDiv(sub.geometry.listCount, zones);
  const first = zone * perZone;
  return { zone, zones, first, count: Math.min(perZone, sub.geometry.listCount - first) };
}

/** Writes the volume index, or one zone of it, to `region`. */
export async function saveVolumeIndex(storage: IndexStorage, region: Region, save: VolumeIndexSave): Promise<void> {
  const { index, nonce } = save;
  const writer = new RegionWriter(storage, region);
  if (index.hooks !== undefined) {
    await writer.put(sparseHeader.encode({ magic: SPARSE_MAGIC, sampleRate: index.sampleRate }));
  }
  for (const sub of index.subIndexes) await saveHead(writer, sub, { ...listsOf(sub, save), nonce });
  for (const sub of index.subIndexes) await saveLists(writer, sub, listsOf(sub, save));
  await writer.put(listRecord.encode({ tag: GUARD_TAG, bitOffset: 0, byteCount: 0, list: 0 }));
  await writer.finish();
}

async function saveHead(writer: RegionWriter, sub: SubIndex, lists: ZoneLists & { nonce: bigint }): Promise<void> {
  const { low, high } = sub;
  const { zone, zones, first: firstList, count: listCount, nonce } = lists;
  await writer.put(subIndexHeader.encode({ magic: SUB_INDEX_MAGIC, nonce, low, high, firstList, listCount }));
  for (let list = firstList; list < firstList + listCount; list++) {
    if (!writer.hasRoom(8)) await writer.drain();
    setU64(writer.view, writer.at, sub.flushChapter[list] as number, true);
    writer.at += 8;
  }
  // The counts are those of all zones, stated by the first, as the kernel does after a change of zones.
  const recordCount = zone === 0 ? sub.recordCount : 0;
  const collisionCount = zone === 0 ? sub.collisionCount : 0;
  const counts = { recordCount, collisionCount };
  await writer.put(deltaIndexHeader.encode({ magic: DELTA_INDEX_MAGIC, zone, zones, firstList, listCount, ...counts }));
  for (let list = firstList; list < firstList + listCount; list++) {
    if (!writer.hasRoom(2)) await writer.drain();
    writer.view.setUint16(writer.at, sub.segmentOf(list).sizeOf(sub.localList(list)), true);
    writer.at += 2;
  }
}

async function saveLists(writer: RegionWriter, sub: SubIndex, { first, count }: ZoneLists): Promise<void> {
  const tag = sub.geometry.tag.charCodeAt(0);
  for (let list = first; list < first + count; list++) {
    const segment = sub.segmentOf(list);
    const local = sub.localList(list);
    if (segment.sizeOf(local) === 0) continue;
    const bytes = segment.bytesOf(local);
    if (!writer.hasRoom(listRecord.size + bytes.length)) await writer.drain();
    const { view, at } = writer;
    view.setUint8(at, tag);
    view.setUint8(at + 1, 0);
    view.setUint16(at + 2, bytes.length, true);
    view.setUint32(at + 4, list, true);
    writer.bytes.set(bytes, at + listRecord.size);
    writer.at = at + listRecord.size + bytes.length;
  }
}

/** What the heads of all zones say about one sub-index. */
class SubIndexLoad {
  readonly sub: SubIndex;
  readonly sizes: Uint16Array;
  /** Non-empty lists announced by each zone. */
  readonly announced: number[] = [];
  nextList = 0;
  low = 0;
  high = -1;

  constructor(sub: SubIndex) {
    this.sub = sub;
    this.sizes = new Uint16Array(sub.geometry.listCount);
  }
}

/**
 * Loads `index` from the regions of all zones of a save, in order. Throws `VDO_CORRUPT` or `UDS_NOT_SAVED` when they
 * are no sound save; the index must then be cleared.
 */
export async function loadVolumeIndex(
  storage: IndexStorage,
  regions: readonly Region[],
  { index, nonce }: { index: VolumeIndex; nonce: bigint },
): Promise<void> {
  index.clear();
  const readers = regions.map((region) => new RegionReader(storage, region));
  const loads = index.subIndexes.map((sub) => new SubIndexLoad(sub));
  for (let zone = 0; zone < readers.length; zone++) {
    const reader = readers[zone] as RegionReader;
    if (index.hooks !== undefined) await checkSparseHeader(reader, index.sampleRate);
    for (const load of loads) await loadHead(reader, load, { zone, zones: readers.length, nonce });
  }
  for (const load of loads) finishHeads(load);
  for (let zone = 0; zone < readers.length; zone++) {
    const reader = readers[zone] as RegionReader;
    for (const load of loads) await loadLists(reader, load, load.announced[zone] as number);
    await need(reader, listRecord.size);
    const tag = reader.view.getUint8(reader.at);
    if (tag !== GUARD_TAG) throw corrupt(NAME, "guard record", { expected: GUARD_TAG, actual: tag });
  }
}

async function need(reader: RegionReader, count: number): Promise<void> {
  if (!reader.has(count) && !(await reader.fill(count))) throw notSaved("the volume index ends early");
}

async function checkSparseHeader(reader: RegionReader, sampleRate: number): Promise<void> {
  await need(reader, sparseHeader.size);
  const header = sparseHeader.get(reader.view, reader.at);
  reader.at += sparseHeader.size;
  if (header.magic !== SPARSE_MAGIC) throw corrupt(NAME, "magic", { expected: SPARSE_MAGIC, actual: header.magic });
  if (header.sampleRate !== sampleRate)
    throw corrupt(NAME, "sample rate", { expected: sampleRate, actual: header.sampleRate });
}

async function loadHead(
  reader: RegionReader,
  load: SubIndexLoad,
  { zone, zones, nonce }: { zone: number; zones: number; nonce: bigint },
): Promise<void> {
  await need(reader, subIndexHeader.size);
  const head = subIndexHeader.get(reader.view, reader.at);
  reader.at += subIndexHeader.size;
  const { sub } = load;
  const first = load.nextList;
  const expect = (field: string, actual: unknown, expected: unknown): void => {
    if (actual !== expected) throw corrupt(NAME, `${field} of zone ${zone}`, { expected, actual });
  };
  expect("magic", head.magic, SUB_INDEX_MAGIC);
  expect("nonce", head.nonce, nonce);
  expect("first list", head.firstList, first);
  if (zone > 0) expect("newest chapter", head.high, load.high);
  load.high = head.high;
  load.low = Math.max(load.low, head.low);
  if (first + head.listCount > sub.geometry.listCount) {
    throw corrupt(NAME, `list count of zone ${zone}`, {
      expected: sub.geometry.listCount - first,
      actual: head.listCount,
    });
  }
  for (let list = first; list < first + head.listCount; list++) {
    if (!reader.has(8)) await need(reader, 8);
    sub.flushChapter[list] =
      reader.view.getUint32(reader.at, true) + reader.view.getUint32(reader.at + 4, true) * 2 ** 32;
    reader.at += 8;
  }
  await need(reader, deltaIndexHeader.size);
  const delta = deltaIndexHeader.get(reader.view, reader.at);
  reader.at += deltaIndexHeader.size;
  expect("delta index magic", delta.magic, DELTA_INDEX_MAGIC);
  expect("zone number", delta.zone, zone);
  expect("zone count", delta.zones, zones);
  expect("first delta list", delta.firstList, first);
  expect("delta list count", delta.listCount, head.listCount);
  let announced = 0;
  for (let list = first; list < first + head.listCount; list++) {
    if (!reader.has(2)) await need(reader, 2);
    const size = reader.view.getUint16(reader.at, true);
    load.sizes[list] = size;
    if (size > 0) announced++;
    reader.at += 2;
  }
  load.announced.push(announced);
  load.nextList = first + head.listCount;
}

function finishHeads({ sub, sizes, nextList, low, high }: SubIndexLoad): void {
  const { listCount } = sub.geometry;
  if (nextList !== listCount) throw corrupt(NAME, "list count", { expected: listCount, actual: nextList });
  if (low > high) throw corrupt(NAME, "oldest chapter", { expected: `at most ${high}`, actual: low });
  sub.low = low;
  sub.high = high;
  let first = 0;
  for (const segment of sub.segments) {
    if (!segment.reserve(sizes.subarray(first, first + segment.listCount)))
      throw notSaved("the volume index is too large");
    first += segment.listCount;
  }
}

async function loadLists(reader: RegionReader, { sub, sizes }: SubIndexLoad, count: number): Promise<void> {
  const tag = sub.geometry.tag.charCodeAt(0);
  for (let done = 0; done < count; done++) {
    if (!reader.has(listRecord.size)) await need(reader, listRecord.size);
    const { view, at } = reader;
    const bitOffset = view.getUint8(at + 1);
    const byteCount = view.getUint16(at + 2, true);
    const list = view.getUint32(at + 4, true);
    if (view.getUint8(at) !== tag) throw corrupt(NAME, "list tag", { expected: tag, actual: view.getUint8(at) });
    if (list >= sub.geometry.listCount)
      throw corrupt(NAME, "list number", { expected: "a list of the index", actual: list });
    const size = sizes[list] as number;
    if (size === 0 || bitOffset > 7 || byteCount !== (bitOffset + size + 7) >>> 3) {
      throw corrupt(NAME, `size of list ${list}`, { expected: (bitOffset + size + 7) >>> 3, actual: byteCount });
    }
    reader.at += listRecord.size;
    if (!reader.has(byteCount)) await need(reader, byteCount);
    if (!sub.segmentOf(list).load(sub.localList(list), reader.view, reader.at, bitOffset)) {
      throw corrupt(NAME, `list ${list}`, { expected: "whole entries", actual: "an entry that runs past the end" });
    }
    reader.at += byteCount;
  }
}
