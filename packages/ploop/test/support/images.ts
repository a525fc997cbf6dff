/** Images in memory, for tests. */
import { MemoryDevice } from "@vdo/block-device";
import { DeviceFile } from "../../src/file/device-file.ts";
import type { ImageFile } from "../../src/file/image-file.ts";
import { type CreateImageOptions, createImage } from "../../src/image/create.ts";
import { Delta } from "../../src/image/delta.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
/** The smallest cluster: 32 KiB. */
export const SMALL = 64;

export function memoryFile(name: string, capacity = 4 * MIB): Promise<DeviceFile> {
  const device = new MemoryDevice({ blockCount: capacity / 512 + 1, blockSize: 512 });
  // Like a file, the content outlives what has it open.
  device.close = async () => undefined;
  return DeviceFile.open(name, device);
}

/** A new image of small clusters in memory; 1 MiB, version 2. */
export async function memoryImage(name: string, options: Partial<CreateImageOptions> = {}): Promise<DeviceFile> {
  const file = await memoryFile(name, 16 * MIB);
  await createImage(file, { version: 2, sizeSectors: MIB / 512, clusterSectors: SMALL, ...options });
  return file;
}

/** All bytes of a file. */
export async function contentOf(file: ImageFile): Promise<Uint8Array> {
  const bytes = new Uint8Array(file.length);
  await file.read(0, bytes);
  return bytes;
}

/** Changes 32-bit words of a file: offset → value. */
export async function poke(file: ImageFile, words: Record<number, number>): Promise<void> {
  for (const [offset, value] of Object.entries(words)) {
    const at = Number(offset);
    const sector = new Uint8Array(512);
    await file.read(at - (at % 512), sector);
    new DataView(sector.buffer).setUint32(at % 512, value, true);
    await file.write(at - (at % 512), sector);
  }
}

/** The entries of a version 2 image that are not zero. */
export async function entriesOf(file: ImageFile): Promise<Record<number, number>> {
  const entries: Record<number, number> = {};
  await (await Delta.open(file)).scan((cluster, place) => {
    entries[cluster] = place;
  });
  return entries;
}
