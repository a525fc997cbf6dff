/** Copies what a device holds, in large pieces, several at a time, passing over holes and zeros. */
import { isZero } from "@vdo/base";

/** Bytes of one piece, and pieces under way. */
const PIECE_BYTES = 1024 * 1024;
const PIECES = 4;
const BLOCK = 4096;

/** What is copied from: any range of bytes; what lies beyond the end reads as zeros. */
export interface CopySource {
  readonly bytes: number;
  /** Fills `target` with what is at byte `offset`. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Length of the run of zeros that is known, without reading, to be at `offset`; 0 when there may be data. */
  zeroRun?(offset: number, length: number): Promise<number>;
}

export interface CopyWork {
  source: CopySource;
  /** Called with runs of whole blocks of 4096 bytes that are not zeros; may be called for several at a time. */
  take(offset: number, data: Uint8Array): Promise<void>;
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** Resolves with the number of bytes that were taken. Throws the first failure. */
export async function copyBlocks({ source, take, onProgress }: CopyWork): Promise<number> {
  let next = 0;
  let done = 0;
  let taken = 0;
  const worker = async (): Promise<void> => {
    const buffer = new Uint8Array(PIECE_BYTES);
    for (;;) {
      const offset = next;
      if (offset >= source.bytes) return;
      const zeros = (await source.zeroRun?.(offset, source.bytes - offset)) ?? 0;
      if (next !== offset) continue;
      const skip = zeros - (zeros % BLOCK);
      const length = skip > 0 ? skip : Math.min(PIECE_BYTES, source.bytes - offset);
      next = offset + length;
      if (skip === 0) {
        const piece = buffer.subarray(0, Math.ceil(length / BLOCK) * BLOCK);
        await source.read(offset, piece);
        const count = await takeRuns(piece, offset, take);
        taken += count;
      }
      done += length;
      onProgress?.(done, source.bytes);
    }
  };
  await Promise.all(Array.from({ length: PIECES }, worker));
  return taken;
}

async function takeRuns(piece: Uint8Array, offset: number, take: CopyWork["take"]): Promise<number> {
  let taken = 0;
  let from = 0;
  const give = async (to: number): Promise<void> => {
    if (to > from) await take(offset + from, piece.subarray(from, to));
    taken += to - from;
  };
  for (let at = 0; at < piece.length; at += BLOCK) {
    if (!isZero(piece.subarray(at, at + BLOCK))) continue;
    await give(at);
    from = at + BLOCK;
  }
  await give(piece.length);
  return taken;
}
