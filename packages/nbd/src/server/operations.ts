/**
 * The operations that are more than one call of the device: unaligned writes, zeroing and trimming in slices, block
 * status. They lock what they touch, slice by slice, so that other requests go on in between.
 */
import { type BlockDevice, type Extent, zeroBlocks } from "@vdo/block-device";
import { ALLOCATION, COMMAND_FLAG } from "../protocol/constants.ts";
import type { BufferPool } from "./buffer-pool.ts";
import type { Request } from "./request.ts";
import type { ServedExport } from "./served-export.ts";

/** Bytes zeroed or trimmed under one lock. */
const SLICE_BYTES = 32 << 20;
/** Most extents in one answer: 1 MiB of payload. */
const EXTENTS_MAX = 131_072;
/** Most questions to the device for one BLOCK_STATUS. */
const EXTENT_QUERIES_MAX = 64;
/** Blocks of the first question; each further one asks for twice as many. */
const EXTENT_WINDOW_BLOCKS = 4096;

const FUA = { fua: true } as const;

/** Options of a device write for the flags of a request. */
export function writeOptions(request: Request): { fua: true } | undefined {
  return (request.flags & COMMAND_FLAG.fua) === 0 ? undefined : FUA;
}

/** True when the range begins and ends on block boundaries. */
export function isAligned(request: Request, blockSize: number): boolean {
  return request.head === 0 && request.length === request.blockCount * blockSize;
}

/** Completes the first and last block of an unaligned write from the device, then writes. The lock is held. */
export async function readModifyWrite(served: ServedExport, request: Request, pool: BufferPool): Promise<void> {
  const { device, blockSize } = served;
  const { blocks, head } = request;
  const end = head + request.length;
  const scratch = pool.take(blockSize);
  try {
    const edge = scratch.subarray(0, blockSize);
    if (head > 0) {
      await device.read(request.firstBlock, edge);
      edge.copy(blocks, 0, 0, head);
    }
    if (end < blocks.length) {
      const lastBlock = request.firstBlock + request.blockCount - 1;
      if (head === 0 || request.blockCount > 1) await device.read(lastBlock, edge);
      const within = end - (request.blockCount - 1) * blockSize;
      edge.copy(blocks, end, within, blockSize);
    }
  } finally {
    pool.give(scratch);
  }
  await device.write(request.firstBlock, blocks, writeOptions(request));
}

/** Zeroes the range, whatever its alignment. */
export async function zeroRange(served: ServedExport, request: Request, pool: BufferPool): Promise<void> {
  const { blockSize, locks } = served;
  const end = request.offset + request.length;
  const options = { ...oneSliceFua(request), mayUnmap: (request.flags & COMMAND_FLAG.noHole) === 0 };
  for (let at = request.offset; at < end; ) {
    const to = Math.min(end, at - (at % blockSize) + SLICE_BYTES);
    const first = Math.floor(at / blockSize);
    await request.lock(locks, first, Math.ceil(to / blockSize), false);
    try {
      await zeroSlice(served, { at, to, options }, pool);
    } finally {
      locks.release(request);
    }
    at = to;
  }
  await flushAfterSlices(served, request);
}

async function zeroSlice(
  { device, blockSize }: ServedExport,
  slice: { at: number; to: number; options: { fua?: boolean; mayUnmap: boolean } },
  pool: BufferPool,
): Promise<void> {
  let { at } = slice;
  const { to, options } = slice;
  if (at % blockSize !== 0) {
    const stop = Math.min(to, at - (at % blockSize) + blockSize);
    await zeroPartOfBlock(device, { from: at, to: stop, options }, pool);
    at = stop;
  }
  const whole = Math.floor((to - at) / blockSize);
  if (whole > 0) await zeroBlocks(device, at / blockSize, whole, options);
  at += whole * blockSize;
  if (at < to) await zeroPartOfBlock(device, { from: at, to, options }, pool);
}

async function zeroPartOfBlock(
  device: BlockDevice,
  { from, to, options }: { from: number; to: number; options: { fua?: boolean } },
  pool: BufferPool,
): Promise<void> {
  const pooled = pool.take(device.blockSize);
  try {
    const block = pooled.subarray(0, device.blockSize);
    const number = Math.floor(from / device.blockSize);
    const start = number * device.blockSize;
    await device.read(number, block);
    block.fill(0, from - start, to - start);
    await device.write(number, block, options);
  } finally {
    pool.give(pooled);
  }
}

/** Discards the whole blocks inside the range; a device that cannot discard ignores the hint. */
export async function trimRange(served: ServedExport, request: Request): Promise<void> {
  const { device, blockSize, locks } = served;
  const end = Math.floor((request.offset + request.length) / blockSize);
  const slice = SLICE_BYTES / blockSize;
  const options = oneSliceFua(request);
  if (device.discard !== undefined) {
    for (let at = Math.ceil(request.offset / blockSize); at < end; at += slice) {
      const count = Math.min(slice, end - at);
      await request.lock(locks, at, at + count, false);
      try {
        await device.discard(at, count, options);
      } finally {
        locks.release(request);
      }
    }
  }
  await flushAfterSlices(served, request);
}

/** A request of one slice carries its own FUA; for several one flush at the end is cheaper. */
function oneSliceFua(request: Request): { fua: true } | Record<never, never> {
  return request.length <= SLICE_BYTES ? (writeOptions(request) ?? {}) : {};
}

function flushAfterSlices(served: ServedExport, request: Request): Promise<void> {
  if (request.length <= SLICE_BYTES || (request.flags & COMMAND_FLAG.fua) === 0) return Promise.resolve();
  return new Promise((onDone, onFail) => served.flush({ onDone, onFail }));
}

/**
 * `base:allocation` of the range, as the payload of a BLOCK_STATUS chunk (context id, then lengths and states). May stop
 * short of the range's end, after at least one extent.
 */
export async function blockStatus(served: ServedExport, request: Request, contextId: number): Promise<Buffer> {
  const { device, blockSize } = served;
  const single = (request.flags & COMMAND_FLAG.requestOne) !== 0;
  const end = request.offset + request.length;
  const runs = new StatusRuns();
  let block = Math.floor(request.offset / blockSize);
  const lastBlock = Math.ceil(end / blockSize);
  let position = request.offset;
  let window = EXTENT_WINDOW_BLOCKS;
  for (let query = 0; query < EXTENT_QUERIES_MAX && block < lastBlock && !runs.full(single); query++) {
    const count = Math.min(window, lastBlock - block);
    const extents: Extent[] = device.extents === undefined ? [ALLOCATED(count)] : await device.extents(block, count);
    for (const extent of extents) {
      block += extent.count;
      const to = Math.min(end, block * blockSize);
      runs.add(to - position, extent);
      position = to;
      if (runs.full(single)) break;
    }
    window = Math.min(window * 2, 1 << 22);
  }
  return runs.payload(contextId, single);
}

const ALLOCATED = (count: number): Extent => ({ count, hole: false, zero: false });

/** Runs of equal state, merged as they come. */
class StatusRuns {
  #words = new Uint32Array(64);
  #count = 0;

  full(single: boolean): boolean {
    return single ? this.#count > 1 : this.#count >= EXTENTS_MAX;
  }

  add(length: number, { hole, zero }: Extent): void {
    if (length <= 0) return;
    const state = (hole ? ALLOCATION.hole : 0) | (zero ? ALLOCATION.zero : 0);
    const words = this.#words;
    const at = this.#count * 2;
    if (this.#count > 0 && words[at - 1] === state) {
      words[at - 2] = (words[at - 2] as number) + length;
      return;
    }
    if (at === words.length) {
      this.#words = new Uint32Array(words.length * 2);
      this.#words.set(words);
    }
    this.#words[at] = length;
    this.#words[at + 1] = state;
    this.#count++;
  }

  payload(contextId: number, single: boolean): Buffer {
    const count = single ? Math.min(1, this.#count) : this.#count;
    const payload = Buffer.allocUnsafe(4 + count * 8);
    payload.writeUInt32BE(contextId, 0);
    for (let i = 0; i < count * 2; i++) payload.writeUInt32BE(this.#words[i] as number, 4 + i * 4);
    return payload;
  }
}
