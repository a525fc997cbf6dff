/**
 * The format extension: one cluster with elements, of which the dirty bitmap is the only known kind.
 *
 *     | header 24: magic, MD5 of the rest | element 24: magic, flags, size | data | element | data | … | magic 0
 *
 * Source of fact: QEMU docs/interop/parallels.txt and OpenVZ ploop 9.0.30, checked on bytes that both read.
 */
import { createHash } from "node:crypto";
import {
  array,
  bytes,
  equalBytes,
  fromHex,
  isVdoError,
  struct,
  toHex,
  u32le,
  u64le,
  u64leBig,
  viewOf,
} from "@vdo/base";
import { corrupt } from "../errors.ts";
import { ceilDiv, SECTOR } from "./header.ts";

const EXTENSION_MAGIC = 0xab234cef23dcea87n;
export const BITMAP_MAGIC = 0x20385fae252cb34an;

/** Flags of an element. */
export const ELEMENT_FLAG = {
  /** Who cannot load it must not change the image. */
  necessary: 1n,
  /** Who does not know it keeps it. */
  transit: 2n,
} as const;

export const extensionHeader = struct("PloopExtension", 24, {
  magic: u64leBig,
  /** MD5 of the cluster from the end of this field on. */
  checksum: bytes(16),
});

export const extensionElement = struct("PloopExtensionElement", 24, {
  magic: u64leBig,
  flags: u64leBig,
  dataSize: u32le,
  unused: u32le,
});

/** What an element of a dirty bitmap holds, before its table. */
export const dirtyBitmapHeader = struct("PloopDirtyBitmap", 32, {
  sizeSectors: u64le,
  /** A UUID, in the order of its text. */
  id: bytes(16),
  /** Sectors of one bit, a power of two. */
  granularity: u32le,
  /** Entries of the table that follows: one for each cluster of the bitmap. */
  tableSize: u32le,
});

/** Entries of the table that stand for a cluster of zeros and of ones; others are the cluster's first sector. */
export const PART = { zeros: 0, ones: 1 } as const;

export interface ExtensionElement {
  magic: bigint;
  flags: bigint;
  data: Uint8Array;
}

export interface DirtyBitmapTable {
  sizeSectors: number;
  /** 36 characters, without braces. */
  uuid: string;
  granularity: number;
  table: number[];
}

/** Elements of an extension cluster. Throws `VDO_CORRUPT` with `place`, an image's name, for what cannot be one. */
export function decodeExtension(cluster: Uint8Array, place: string): ExtensionElement[] {
  const fail = (field: string, expected: unknown, actual: unknown): never => {
    throw corrupt(place, `extension ${field}`, expected, actual);
  };
  const view = viewOf(cluster);
  const { magic, checksum } = extensionHeader.get(view, 0);
  if (magic !== EXTENSION_MAGIC) fail("magic", hexOf(EXTENSION_MAGIC), hexOf(magic));
  const sum = md5(cluster.subarray(extensionHeader.size));
  if (!equalBytes(sum, checksum)) fail("checksum", toHex(sum), toHex(checksum));
  const elements: ExtensionElement[] = [];
  for (let at = extensionHeader.size; at + extensionElement.size <= cluster.length; ) {
    const head = extensionElement.get(view, at);
    if (head.magic === 0n) return elements;
    at += extensionElement.size;
    if (at + head.dataSize > cluster.length) fail("element size", `at most ${cluster.length - at}`, head.dataSize);
    elements.push({ magic: head.magic, flags: head.flags, data: cluster.slice(at, at + head.dataSize) });
    at += ceilDiv(head.dataSize, 8) * 8;
  }
  return elements;
}

/** An extension cluster of `length` bytes; undefined when the elements do not fit. */
export function encodeExtension(elements: readonly ExtensionElement[], length: number): Uint8Array | undefined {
  const cluster = new Uint8Array(length);
  const view = viewOf(cluster);
  let at = extensionHeader.size;
  for (const { magic, flags, data } of elements) {
    const end = at + extensionElement.size + ceilDiv(data.length, 8) * 8;
    if (end > length) return undefined;
    extensionElement.set(view, at, { magic, flags, dataSize: data.length, unused: 0 });
    cluster.set(data, at + extensionElement.size);
    at = end;
  }
  extensionHeader.set(view, 0, { magic: EXTENSION_MAGIC, checksum: md5(cluster.subarray(extensionHeader.size)) });
  return cluster;
}

/** Bytes of a bitmap: one bit for each `granularity` sectors. */
export function bitmapBytes(sizeSectors: number, granularity: number): number {
  return ceilDiv(ceilDiv(sizeSectors, granularity), 8);
}

export function isGranularity(sectors: number): boolean {
  return Number.isInteger(sectors) && sectors >= 1 && sectors < 2 ** 32 && Number.isInteger(Math.log2(sectors));
}

/** The data of a dirty bitmap element, checked against the image. Throws `VDO_CORRUPT`. */
export function decodeBitmapTable(
  data: Uint8Array,
  image: { name: string; sizeSectors: number; clusterSectors: number; fileLength: number },
): DirtyBitmapTable {
  const fail = (field: string, expected: unknown, actual: unknown): never => {
    throw corrupt(image.name, `dirty bitmap ${field}`, expected, actual);
  };
  if (data.length < dirtyBitmapHeader.size) fail("element size", `at least ${dirtyBitmapHeader.size}`, data.length);
  const view = viewOf(data);
  const { sizeSectors, id, granularity, tableSize } = named(image.name, () => dirtyBitmapHeader.get(view, 0));
  if (sizeSectors !== image.sizeSectors) fail("size", image.sizeSectors, sizeSectors);
  if (!isGranularity(granularity)) fail("granularity", "a power of two", granularity);
  const parts = ceilDiv(bitmapBytes(sizeSectors, granularity), image.clusterSectors * SECTOR);
  // ploop 9.0.30 writes an empty table for a bitmap without bits.
  if (tableSize !== parts && tableSize !== 0) fail("table size", parts, tableSize);
  const room = (data.length - dirtyBitmapHeader.size) / 8;
  if (tableSize > room) fail("table size", `at most ${Math.floor(room)}, as the element has room for`, tableSize);
  const table = named(image.name, () => array(u64le, tableSize).get(view, dirtyBitmapHeader.size));
  const end = image.fileLength / SECTOR - image.clusterSectors;
  for (const [index, sector] of table.entries()) {
    if (sector > PART.ones && (sector % image.clusterSectors !== 0 || sector > end)) {
      fail(`table entry ${index}`, "0, 1, or a cluster inside the file", sector);
    }
  }
  return { sizeSectors, uuid: uuidOf(id), granularity, table: tableSize === 0 ? new Array(parts).fill(0) : table };
}

export function encodeBitmapTable({ sizeSectors, uuid, granularity, table }: DirtyBitmapTable): Uint8Array {
  const data = new Uint8Array(dirtyBitmapHeader.size + 8 * table.length);
  const id = fromHex(uuid.replaceAll("-", ""));
  dirtyBitmapHeader.set(viewOf(data), 0, { sizeSectors, id, granularity, tableSize: table.length });
  array(u64le, table.length).set(viewOf(data), dirtyBitmapHeader.size, table);
  return data;
}

/** Numbers beyond 2^53 are refused by the layout, which does not know the image. */
function named<T>(image: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    const { field, expected, actual } = error.data;
    throw corrupt(image, `dirty bitmap ${field}`, expected, actual);
  }
}

function uuidOf(id: Uint8Array): string {
  return toHex(id).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function hexOf(value: bigint): string {
  return `0x${value.toString(16)}`;
}

function md5(data: Uint8Array): Uint8Array {
  return createHash("md5").update(data).digest();
}
