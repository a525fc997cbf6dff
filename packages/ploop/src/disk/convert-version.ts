/**
 * Rewriting the indexes of all images of a disk in the units of the other version of the format.
 *
 *     copies of header and BAT (NAME.idx), durable ─▶ mark all, base first ─▶ rewrite entries, then signatures
 *     ─▶ unmark all, base last ─▶ delete the copies
 *
 * So whenever the base is marked, all copies are whole, and the disk is what it was once they are put back.
 */
import { badArgument, refused } from "../errors.ts";
import type { ImageDirectory, ImageFile } from "../file/image-file.ts";
import {
  FLAG,
  type FormatVersion,
  type ImageHeader,
  IN_USE,
  PAGE_BYTES,
  SIGNATURES,
  versionOf,
} from "../format/header.ts";
import { Delta, HEADER_WORDS, PAGE_WORDS } from "../image/delta.ts";

const COPY_SUFFIX = ".idx";
const V1_SECTORS_MAX = 0xffff_ffff;

/** Converts the images `names`, base first; nobody may have them open. */
export async function convertImages(
  directory: ImageDirectory,
  names: readonly string[],
  version: FormatVersion,
): Promise<void> {
  if (await finishConversion(directory, names))
    throw refused("convert", "EBUSY", "a conversion was undone; start it again");
  const deltas: Delta[] = [];
  try {
    for (const name of names) deltas.push(await Delta.open(await directory.open(name, { readOnly: false })));
    for (const delta of deltas) await check(delta, version);
    if (deltas.every(({ header }) => versionOf(header) === version)) return;
    for (const [i, delta] of deltas.entries()) await keepCopy(directory, names[i] as string, delta);
    // Extensions lie where they lie in either version: they become valid again.
    const before = new Map(
      deltas.map(({ header: { inUse, extensionOffset }, name }) => [name, { inUse, extensionOffset }]),
    );
    for (const delta of deltas) {
      await mark(delta, { inUse: IN_USE.open, extensionOffset: 0, flags: delta.header.flags | FLAG.converting });
    }
    for (const delta of deltas) await rewrite(delta, version);
    for (const delta of [...deltas].reverse()) {
      await mark(delta, { ...before.get(delta.name), flags: delta.header.flags & ~FLAG.converting });
    }
  } finally {
    for (const delta of deltas) await delta.file.close();
  }
  for (const name of names) await directory.unlink(name + COPY_SUFFIX);
}

/** Undoes an interrupted conversion; false when there is none. Copies that are not needed are deleted. */
export async function finishConversion(directory: ImageDirectory, names: readonly string[]): Promise<boolean> {
  const base = await directory.open(names[0] as string, { readOnly: true });
  let isMarked = false;
  try {
    isMarked = ((await Delta.open(base)).header.flags & FLAG.converting) !== 0;
  } finally {
    await base.close();
  }
  if (isMarked) {
    for (const name of [...names].reverse()) {
      const [copy, file] = [
        await directory.open(name + COPY_SUFFIX, { readOnly: true }),
        await directory.open(name, { readOnly: false }),
      ];
      await copyHead(copy, file, copy.length);
      await copy.close();
      await file.close();
    }
  }
  for (const name of names) if (await directory.exists(name + COPY_SUFFIX)) await directory.unlink(name + COPY_SUFFIX);
  return isMarked;
}

async function check(delta: Delta, version: FormatVersion): Promise<void> {
  delta.refuseDirty();
  let highest = 0;
  await delta.scan((_cluster, place) => {
    highest = Math.max(highest, place);
  });
  const { sizeSectors, clusterSectors } = delta.header;
  if (version === 1 && Math.max(sizeSectors, highest * clusterSectors) > V1_SECTORS_MAX) {
    throw badArgument("version", version, `${delta.name} is too large for version 1, which ends at 2 TiB`);
  }
}

async function keepCopy(directory: ImageDirectory, name: string, delta: Delta): Promise<void> {
  const copy = await directory.create(name + COPY_SUFFIX);
  try {
    await copyHead(delta.file, copy, delta.batClusters * delta.clusterBytes);
  } finally {
    await copy.close();
  }
}

/** Copies `length` bytes from the start, the header last, and makes them durable. */
async function copyHead(from: ImageFile, to: ImageFile, length: number): Promise<void> {
  const page = new Uint8Array(PAGE_BYTES);
  for (let offset = length - PAGE_BYTES; offset >= 0; offset -= PAGE_BYTES) {
    await from.read(offset, page);
    if (offset === 0) await to.flush();
    await to.write(offset, page);
  }
  await to.flush();
}

async function mark(delta: Delta, change: Partial<ImageHeader>): Promise<void> {
  await delta.file.flush();
  await delta.writeHeader(change);
  await delta.file.flush();
}

/** Every entry in the units of `version`, then the signature. */
async function rewrite(delta: Delta, version: FormatVersion): Promise<void> {
  const { header } = delta;
  if (versionOf(header) === version) return;
  const page = new Uint8Array(PAGE_BYTES);
  const words = new Uint32Array(page.buffer);
  for (let number = 0; number < delta.pageCount; number++) {
    await delta.readPage(number, page);
    for (let i = number === 0 ? HEADER_WORDS : 0; i < PAGE_WORDS; i++) {
      const word = words[i] as number;
      if (word !== 0) words[i] = version === 1 ? word * header.clusterSectors : word / header.clusterSectors;
    }
    await delta.file.write(number * PAGE_BYTES, page);
  }
  await delta.file.flush();
  await delta.writeHeader({ signature: SIGNATURES[version] });
}
