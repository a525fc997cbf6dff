/**
 * Golden pools, made by the kernel (Linux 6.12.95) with golden/thin.sh and golden/life.sh; the .xml are their dumps by
 * thin_dump 0.9.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { MemoryDevice } from "@vdo/block-device";

const folder = new URL("../golden/", import.meta.url);

/** Metadata of a pool with three devices, a snapshot of a snapshot, and a metadata snapshot; 1024 blocks. */
export function goldenMetadata(): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL("thin-metadata.img.gz", folder))));
}

export function goldenDevice(): MemoryDevice {
  return MemoryDevice.from(goldenMetadata());
}

export const goldenXml = readFileSync(new URL("thin.xml", folder), "utf8");

/** All pieces of a text. */
export async function textOf(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

/**
 * Metadata of a pool after the life of golden/life.sh: eight devices, counts of 3 and more in the data map, a device of 1100
 * mappings with an internal node, shared with a snapshot and then partly discarded, a metadata snapshot; 2048 blocks.
 */
export function lifeMetadata(): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL("life.img.gz", folder))));
}

export const lifeXml = readFileSync(new URL("life.xml", folder), "utf8");
