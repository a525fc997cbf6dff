/** Devices and data for tests of whole indexes. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { type IndexConfig, indexGeometry } from "../../src/index.ts";

/** 8 chapters of 256 records. */
export const TINY: IndexConfig = { chapters: { bytesPerPage: 4096, recordPagesPerChapter: 2, chaptersPerVolume: 8 } };
/** 16 chapters of 1024 records, 12 of them sparse; one name in 8 is a hook. */
export const SPARSE: IndexConfig = {
  chapters: { bytesPerPage: 4096, recordPagesPerChapter: 8, chaptersPerVolume: 16, sparseChapters: 12, sampleRate: 8 },
};

export function deviceFor(config: IndexConfig): MemoryDevice {
  return new MemoryDevice({ blockCount: indexGeometry(config).totalBlocks });
}

/** 16 random bytes per record. */
export function randomRecords(seed: number, count: number): Uint8Array {
  return new Random(seed).fill(new Uint8Array(count * 16));
}

/** The index region of the kernel's volume (golden extract): its first block has number 1. */
export async function kernelIndex(): Promise<MemoryDevice> {
  const path = new URL("../golden/kernel-index.bin.gz", import.meta.url);
  const extract = gunzipSync(readFileSync(path));
  const device = new MemoryDevice({ blockCount: 679127 });
  for (let at = 0; at < extract.length; at += 4 + 4096) {
    await device.write(extract.readUInt32LE(at) - 1, extract.subarray(at + 4, at + 4 + 4096));
  }
  return device;
}

/** Nonce of that volume. */
export const KERNEL_NONCE = 0x0660b4a186c8f4n;
