/** Making images. */
import type { ImageFile } from "../file/image-file.ts";
import { type ImageHeader, type ImageShape, imageHeader, newHeader, SECTOR } from "../format/header.ts";

export type ImageMode = "expanded" | "preallocated" | "raw";

export interface CreateImageOptions extends ImageShape {
  mode?: ImageMode;
}

/** Words of a BAT written at once. */
const CHUNK_WORDS = 1 << 18;

/**
 * Fills the empty `file` with a new image and makes it durable. A raw one is zeros. Returns the header (of a raw one: as an
 * expanded image of its size would have). Throws `VDO_BAD_ARGUMENT`.
 */
export async function createImage(file: ImageFile, options: CreateImageOptions): Promise<ImageHeader> {
  const header = newHeader(options);
  if (options.mode === "raw") await file.setLength(header.sizeSectors * SECTOR);
  else if (options.mode === "preallocated") await preallocate(file, header, options.version);
  else await writeEmpty(file, header);
  await file.flush();
  return header;
}

async function writeEmpty(file: ImageFile, header: ImageHeader): Promise<void> {
  await file.setLength(header.firstBlock * SECTOR);
  await file.write(0, imageHeader.encode(header, 4096));
}

/** Every cluster has its place from the start: the index is full, the data are zeros. */
async function preallocate(file: ImageFile, header: ImageHeader, version: number): Promise<void> {
  await file.setLength((header.firstBlock + header.sizeSectors) * SECTOR);
  const unit = version === 1 ? header.clusterSectors : 1;
  const first = header.firstBlock / header.clusterSectors;
  const total = (header.firstBlock * SECTOR) / 4;
  for (let start = 0; start < total; start += CHUNK_WORDS) {
    const words = new Uint32Array(Math.min(CHUNK_WORDS, total - start));
    for (let i = 0; i < words.length; i++) {
      const cluster = start + i - 16;
      if (cluster >= 0 && cluster < header.clusterCount) words[i] = (first + cluster) * unit;
    }
    const bytes = new Uint8Array(words.buffer);
    if (start === 0) bytes.set(imageHeader.encode(header));
    await file.write(start * 4, bytes);
  }
}
