/**
 * The metadata blocks in use, as text, with what is not deterministic masked: slots of nodes beyond their entries hold what was
 * there before, and sums cover them.
 */
import { toHex } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { PoolReader } from "../../src/index.ts";
import { bitmapCount } from "../../src/tools/bitmap.ts";
import { blockFault, keyOf, NODE_SALT, parseNode, valueAt } from "../../src/tools/node.ts";
import { metadataBitmaps, readBitmap } from "../../src/tools/space-map-reader.ts";

/** Block number → content, ascending. */
export async function usedBlocks(device: BlockDevice): Promise<Map<number, string>> {
  const { blocks, superblock } = await PoolReader.open(device);
  const bitmap = (await metadataBitmaps(blocks, superblock.metadataSpaceMap))[0] as number;
  const counts = await readBitmap(blocks, bitmap, "metadata space map");
  const used = new Map<number, string>();
  for (let block = 0; block < Math.min(16_320, superblock.metadataSpaceMap.blockCount); block++) {
    if (bitmapCount(counts, block) > 0) used.set(block, contentOf(await blocks.read(block), block));
  }
  return used;
}

function contentOf(bytes: Uint8Array, block: number): string {
  if (blockFault(bytes, block, NODE_SALT) !== undefined) return toHex(bytes).replace(/(00)+$/, "");
  const valueSize = new DataView(bytes.buffer, bytes.byteOffset).getUint32(24, true);
  const node = parseNode(bytes, block, valueSize);
  if (typeof node === "string") return node;
  const entries = Array.from({ length: node.count }, (_, i) => {
    const at = valueAt(node, i);
    return `${keyOf(node, i)}=${toHex(bytes.subarray(at, at + valueSize))}`;
  });
  return `${node.isLeaf ? "leaf" : "internal"} ${node.capacity} ${valueSize}: ${entries.join(" ")}`;
}
