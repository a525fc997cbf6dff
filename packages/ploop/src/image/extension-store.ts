/** The format extension of an image at rest: reading it when the image is opened, writing it when the image is closed. */
import { isVdoError, isZero } from "@vdo/base";
import { corrupt } from "../errors.ts";
import {
  BITMAP_MAGIC,
  decodeBitmapTable,
  decodeExtension,
  ELEMENT_FLAG,
  type ExtensionElement,
  encodeBitmapTable,
  encodeExtension,
  PART,
} from "../format/extension.ts";
import { IN_USE, SECTOR } from "../format/header.ts";
import type { Delta } from "./delta.ts";
import { DirtyBitmap } from "./dirty-bitmap.ts";

/** Field of the error for an element that must not be passed over. */
export const NECESSARY_ELEMENT = "extension element";

export interface ImageExtension {
  bitmaps: DirtyBitmap[];
  /** Elements of other kinds that are to be kept. */
  kept: ExtensionElement[];
}

export function noExtension(): ImageExtension {
  return { bitmaps: [], kept: [] };
}

/** The image was closed with an extension. */
export function hasExtension({ raw, header }: Delta): boolean {
  return !raw && header.inUse === IN_USE.extended && header.extensionOffset !== 0;
}

/**
 * Reads the extension; an empty one when the image has none. Throws `VDO_CORRUPT` (structure: the image) for a damaged one, and
 * for an element that must not be passed over.
 */
export async function loadExtension(delta: Delta): Promise<ImageExtension> {
  const extension = noExtension();
  if (!hasExtension(delta)) return extension;
  const { file, header, clusterBytes, name } = delta;
  const { extensionOffset, clusterSectors, sizeSectors } = header;
  const offset = extensionOffset * SECTOR;
  const isInside = offset >= delta.batClusters * clusterBytes && offset + clusterBytes <= file.length;
  if (extensionOffset % clusterSectors !== 0 || !isInside) {
    throw corrupt(name, "extension offset", "the first sector of a cluster inside the file", extensionOffset);
  }
  const cluster = new Uint8Array(clusterBytes);
  await file.read(offset, cluster);
  for (const element of decodeExtension(cluster, name)) {
    if (element.magic !== BITMAP_MAGIC) {
      if ((element.flags & ELEMENT_FLAG.necessary) !== 0n) {
        const magic = `0x${element.magic.toString(16)}`;
        throw corrupt(name, NECESSARY_ELEMENT, "a known one, for it is marked as necessary", magic);
      }
      if ((element.flags & ELEMENT_FLAG.transit) !== 0n) extension.kept.push(element);
      continue;
    }
    const image = { name, sizeSectors, clusterSectors, fileLength: file.length };
    const { uuid, granularity, table } = decodeBitmapTable(element.data, image);
    const bytes = new Uint8Array(table.length * clusterBytes);
    for (const [index, sector] of table.entries()) {
      const part = bytes.subarray(index * clusterBytes, (index + 1) * clusterBytes);
      if (sector === PART.ones) part.fill(0xff);
      else if (sector !== PART.zeros) await file.read(sector * SECTOR, part);
    }
    extension.bitmaps.push(DirtyBitmap.from({ uuid, sizeSectors, granularity }, bytes));
  }
  return extension;
}

/**
 * As {@link loadExtension}, but a damaged one is given up, as the original does. Throws for an element that must not be passed
 * over.
 */
export async function loadExtensionOrNone(delta: Delta, warn?: (text: string) => void): Promise<ImageExtension> {
  try {
    return await loadExtension(delta);
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT") || error.data.field === NECESSARY_ELEMENT) throw error;
    warn?.(`${error.message}; its dirty bitmaps are given up: the next backup has to be a full one`);
    return noExtension();
  }
}

/**
 * Appends an extension to a closed image whose data are durable, and marks it as closed with one; in the safe order: parts of
 * bitmaps and extension, then, durable, the header. An empty extension changes nothing. Elements that do not fit into a cluster
 * are left out, the last first.
 */
export async function saveExtension(delta: Delta, { bitmaps, kept }: ImageExtension): Promise<void> {
  if (delta.raw || (bitmaps.length === 0 && kept.length === 0)) return;
  const { file, clusterBytes, header } = delta;
  let end = Math.ceil(file.length / clusterBytes) * clusterBytes;
  const append = async (data: Uint8Array): Promise<number> => {
    const sector = end / SECTOR;
    await file.write(end, data);
    end += clusterBytes;
    return sector;
  };
  const elements: ExtensionElement[] = [];
  for (const bitmap of bitmaps) {
    const table: number[] = [];
    for (let at = 0; at < bitmap.bytes.length; at += clusterBytes) {
      const part = new Uint8Array(clusterBytes);
      part.set(bitmap.bytes.subarray(at, at + clusterBytes));
      table.push(isZero(part) ? PART.zeros : part.every((byte) => byte === 0xff) ? PART.ones : await append(part));
    }
    const { uuid, granularity } = bitmap;
    const data = encodeBitmapTable({ sizeSectors: header.sizeSectors, uuid, granularity, table });
    elements.push({ magic: BITMAP_MAGIC, flags: 0n, data });
  }
  elements.push(...kept);
  let cluster = encodeExtension(elements, clusterBytes);
  while (cluster === undefined) {
    elements.pop();
    cluster = encodeExtension(elements, clusterBytes);
  }
  const extensionOffset = await append(cluster);
  await file.flush();
  await delta.writeHeader({ inUse: IN_USE.extended, extensionOffset });
  await file.flush();
}

/** Copies the bitmaps of one image at rest to another of the same size, which may have none. */
export async function copyExtension(from: Delta, to: Delta): Promise<void> {
  if (from.header.sizeSectors === to.header.sizeSectors) await saveExtension(to, await loadExtensionOrNone(from));
}

/** Takes the extension of an image at rest away; the clusters it took are free. */
export async function dropExtension(delta: Delta): Promise<void> {
  if (!hasExtension(delta)) return;
  await delta.writeHeader({ inUse: IN_USE.closed, extensionOffset: 0 });
  await delta.file.flush();
}
