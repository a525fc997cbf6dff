/** Reads the counts of a space map: its bitmaps, through the index tree (data) or the index block (metadata). */
import { errorMessage } from "@vdo/base";
import type { SpaceMapRoot } from "../format/superblock.ts";
import { bitmapCount, ENTRIES_PER_BITMAP } from "./bitmap.ts";
import type { MetadataReader } from "./metadata-reader.ts";
import { BITMAP_SALT, blockFault, childOf, damage, INDEX_SALT, keyOf, valueAt } from "./node.ts";
import { walkTree } from "./tree-walk.ts";

/** Bytes of an index entry: bitmap's address, free count, first position that may be free. */
export const INDEX_ENTRY_BYTES = 16;
/** Index entries in a metadata space map's index block. */
export const INDEX_ENTRIES_MAX = 255;
const INDEX_HEADER_BYTES = 16;

/** Addresses of the bitmaps of the data space map, by number. Throws `VDO_CORRUPT`. */
export async function dataBitmaps(reader: MetadataReader, root: SpaceMapRoot): Promise<number[]> {
  const bitmaps: number[] = [];
  const place = { root: root.bitmapRoot, valueSize: INDEX_ENTRY_BYTES, name: "data space map's index" };
  await walkTree(reader, place, {
    leaf(node) {
      for (let i = 0; i < node.count; i++) {
        if (keyOf(node, i) !== bitmaps.length) {
          throw damage(place.name, `entry ${keyOf(node, i)} stands where ${bitmaps.length} belongs`);
        }
        bitmaps.push(childOf(node, i));
      }
    },
  });
  return expectBitmaps(bitmaps, root, place.name);
}

/** Addresses of the bitmaps of the metadata space map. Throws `VDO_CORRUPT`. */
export async function metadataBitmaps(reader: MetadataReader, root: SpaceMapRoot): Promise<number[]> {
  const name = "metadata space map's index";
  const count = Math.ceil(root.blockCount / ENTRIES_PER_BITMAP);
  if (count > INDEX_ENTRIES_MAX) throw damage(name, `${root.blockCount} blocks are more than it can count`);
  if (root.bitmapRoot >= reader.blockCount) throw damage(name, `block out of bounds (${root.bitmapRoot})`);
  const block = await reader.read(root.bitmapRoot);
  const fault = blockFault(block, root.bitmapRoot, INDEX_SALT);
  if (fault !== undefined) throw damage(name, `${fault} in metadata index block`);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const bitmaps: number[] = [];
  for (let i = 0; i < count; i++) {
    const at = INDEX_HEADER_BYTES + i * INDEX_ENTRY_BYTES;
    bitmaps.push(view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000);
  }
  return bitmaps;
}

function expectBitmaps(bitmaps: number[], root: SpaceMapRoot, name: string): number[] {
  const wanted = Math.ceil(root.blockCount / ENTRIES_PER_BITMAP);
  if (bitmaps.length >= wanted) return bitmaps.slice(0, wanted);
  throw damage(name, `${bitmaps.length} bitmaps, ${wanted} are needed for ${root.blockCount} blocks`);
}

/** The overflow tree: block → count. Throws `VDO_CORRUPT`. */
export async function overflowCounts(reader: MetadataReader, root: number, name: string): Promise<Map<number, number>> {
  const counts = new Map<number, number>();
  await walkTree(
    reader,
    { root, valueSize: 4, name },
    {
      leaf(node) {
        for (let i = 0; i < node.count; i++) counts.set(keyOf(node, i), node.view.getUint32(valueAt(node, i), true));
      },
    },
  );
  return counts;
}

/** The bitmap block at `block`. Throws `VDO_CORRUPT`. */
export async function readBitmap(reader: MetadataReader, block: number, name: string): Promise<Uint8Array> {
  if (block >= reader.blockCount) throw damage(name, `bitmap out of bounds (${block} >= ${reader.blockCount})`);
  let bytes: Uint8Array;
  try {
    bytes = await reader.read(block);
  } catch (error) {
    throw damage(name, `bitmap cannot be read (block ${block}): ${errorMessage(error)}`);
  }
  const fault = blockFault(bytes, block, BITMAP_SALT);
  if (fault !== undefined) throw damage(name, `${fault} in space map bitmap`);
  return bytes;
}

/** Maximal runs of blocks with count 0, `[begin, length]`, in order. */
export async function freeRuns(
  reader: MetadataReader,
  bitmaps: readonly number[],
  blockCount: number,
): Promise<[number, number][]> {
  const runs: [number, number][] = [];
  for (const [number, block] of bitmaps.entries()) {
    const bitmap = await readBitmap(reader, block, `data space map, bitmap ${number}`);
    const first = number * ENTRIES_PER_BITMAP;
    const count = Math.min(ENTRIES_PER_BITMAP, blockCount - first);
    for (let entry = 0; entry < count; entry++) {
      if (bitmapCount(bitmap, entry) !== 0) continue;
      const last = runs.at(-1);
      if (last !== undefined && last[0] + last[1] === first + entry) last[1]++;
      else runs.push([first + entry, 1]);
    }
  }
  return runs;
}
