/** What a disk holds, as a device that is only read: for the audit, which needs no simulated time. */
import type { BlockDevice } from "@vdo/block-device";
import { audit } from "@vdo/kvdo/testing";

const BLOCK_BYTES = 4096;

export class Image implements BlockDevice {
  readonly blockSize = BLOCK_BYTES;
  readonly blockCount: number;
  readonly readOnly = true;
  readonly #blocks: ReadonlyMap<number, Uint8Array>;

  constructor(blocks: ReadonlyMap<number, Uint8Array>, blockCount: number) {
    this.#blocks = blocks;
    this.blockCount = blockCount;
  }

  read(start: number, target: Uint8Array): Promise<void> {
    for (let at = 0, block = start; at < target.length; at += BLOCK_BYTES, block++) {
      const content = this.#blocks.get(block);
      if (content === undefined) target.fill(0, at, at + BLOCK_BYTES);
      else target.set(content, at);
    }
    return Promise.resolve();
  }

  write(): Promise<void> {
    return Promise.reject(new Error("an image is only read"));
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** What the independent audit finds wrong with a volume that was stopped cleanly, and that told to use so many data blocks. */
export async function auditProblems(
  disk: { content: ReadonlyMap<number, Uint8Array>; blockCount: number },
  dataBlocksUsed: number,
): Promise<string[]> {
  const { problems, dataBlocks } = await audit(new Image(disk.content, disk.blockCount));
  if (dataBlocks === dataBlocksUsed) return problems;
  return [...problems, `data blocks: the volume said ${dataBlocksUsed}, counted ${dataBlocks}`];
}
