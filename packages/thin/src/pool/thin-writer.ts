/**
 * Writes to a thin device: in place where the block is its own, else to a new block that is mapped when its data is written.
 *
 *     look up ─┬─ mapped, not shared ──────────────▶ write in place
 *              ├─ shared ──▶ new block ◀─ old content, unless the write covers the block ─▶ write ─▶ insert the mapping
 *              └─ unmapped ─▶ new block ◀─ origin or zeros, unless the write covers the block ─▶ write ─▶ insert the mapping
 *
 * The gate is held from the look-up to the insertion. A new block whose write failed is given back: nothing leaks.
 */
import { writeVector } from "@vdo/block-device";
import { isShared, type Mapping } from "../format/mapping.ts";
import { endsTransaction, type PoolCore } from "./pool-core.ts";
import type { RangeLocks } from "./range-locks.ts";
import { cutIntoSegments, type Segment, TransferList } from "./segments.ts";

/** Written around what is less than a block. */
const ZEROES = new Uint8Array(1 << 20);

/** What the writer needs of a thin device. */
export interface ThinTarget {
  readonly id: number;
  readonly core: PoolCore;
  readonly locks: RangeLocks;
  /** The mapping of a virtual block. */
  lookUp(block: number): Promise<Mapping | undefined> | Mapping | undefined;
  /** The pool's time of the last snapshot of the device. */
  snapshottedTime(): Promise<number>;
  /** Something else than zeros may be where nothing is mapped. */
  readonly hasOrigin: boolean;
  /** Fills `target` from the external origin, zeros where there is none; false when nothing but zeros is there. */
  readOrigin(offset: number, target: Uint8Array): Promise<boolean>;
}

interface WriteRequest {
  offset: number;
  source: Uint8Array;
  fua: boolean;
}

/** Writes; resolves when the data is in place and its mapping is part of the transaction. */
export async function writeThin(target: ThinTarget, request: WriteRequest): Promise<void> {
  const segments = cutIntoSegments(request.offset, request.source.length, target.core.blockBytes);
  let rest: Segment[] | undefined = segments;
  while (rest !== undefined) rest = await attempt(target, request, rest);
}

/** Writes what it can; returns the segments that must be tried again, or undefined. */
async function attempt(target: ThinTarget, request: WriteRequest, segments: Segment[]): Promise<Segment[] | undefined> {
  const { core } = target;
  if (!core.gate.tryEnter()) await core.gate.enter();
  let rest: Segment[];
  try {
    core.checkUsable();
    rest = await writeInPlace(target, request, segments);
    if (rest.length > 0 && core.mode === "write") rest = await provisionLocked(target, request, rest);
  } catch (error) {
    core.gate.leave();
    if (!(error instanceof MetadataFailure)) throw error;
    await core.fail(error.operation, error.cause);
    throw error.cause;
  }
  core.gate.leave();
  if (rest.length === 0) {
    if (core.metadata.metadataFree === 0 && core.mode === "write") await core.commit();
    return undefined;
  }
  // What this transaction freed can be had after a commit.
  if (core.mode === "write") {
    await core.commit();
    if (core.mode === "write" && core.metadata.dataFree === 0) core.setMode("out_of_data_space");
  }
  await core.admitAllocation();
  return rest;
}

/** A metadata operation that failed inside the gate: the transaction is dropped by whoever has left it. */
class MetadataFailure extends Error {
  readonly operation: string;

  constructor(operation: string, cause: unknown) {
    super(operation, { cause });
    this.operation = operation;
  }
}

async function metadataOperation<T>(operation: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw endsTransaction(error) ? new MetadataFailure(operation, error) : error;
  }
}

/** Writes the segments whose blocks are the device's own; returns the others. */
async function writeInPlace(target: ThinTarget, request: WriteRequest, segments: Segment[]): Promise<Segment[]> {
  const { core } = target;
  const snapshotted = await target.snapshottedTime();
  const list = new TransferList();
  const others: Segment[] = [];
  for (const segment of segments) {
    const found = target.lookUp(segment.block);
    const mapping = found instanceof Promise ? await found : found;
    if (mapping === undefined || isShared(mapping.time, snapshotted)) others.push(segment);
    else list.add(mapping.block * core.blockBytes + segment.within, part(request.source, segment));
  }
  await writeTransfers(core, list, request.fua);
  return others;
}

function part(source: Uint8Array, { at, length }: Segment): Uint8Array {
  return source.subarray(at, at + length);
}

async function writeTransfers({ data }: PoolCore, list: TransferList, fua: boolean): Promise<void> {
  const options = fua ? { fua: true } : undefined;
  const writes = list.transfers.map(({ offset, buffers }) =>
    writeVector(data, offset / data.blockSize, buffers, options),
  );
  const outcomes = await Promise.allSettled(writes);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** Provisions under the locks of the blocks; whoever waited for them looks again. Returns what found no space. */
async function provisionLocked(target: ThinTarget, request: WriteRequest, segments: Segment[]): Promise<Segment[]> {
  const first = (segments[0] as Segment).block;
  const last = (segments.at(-1) as Segment).block;
  const unlock = await target.locks.lock(first, last + 1);
  try {
    const needing = await writeInPlace(target, request, segments);
    return needing.length === 0 ? [] : await provision(target, request, needing);
  } finally {
    unlock();
  }
}

async function provision(target: ThinTarget, request: WriteRequest, segments: Segment[]): Promise<Segment[]> {
  const { core, id } = target;
  const blocks = await metadataOperation("allocate", () => core.allocate(segments.length));
  if (blocks.length === 0) return segments;
  const pairs: [number, number][] = [];
  const borrowed: Uint8Array[] = [];
  try {
    const list = new TransferList();
    for (const [i, block] of blocks.entries()) {
      const segment = segments[i] as Segment;
      const content = await newContent(target, request, segment, borrowed);
      let at = block * core.blockBytes + content.within;
      for (const piece of content.pieces) {
        list.add(at, piece);
        at += piece.length;
      }
      pairs.push([segment.block, block]);
    }
    await writeTransfers(core, list, false);
  } catch (error) {
    await metadataOperation("release", () => core.release(blocks));
    throw error;
  } finally {
    for (const buffer of borrowed) core.buffers.give(buffer);
  }
  await metadataOperation("insert", () => core.metadata.insert(id, pairs));
  return segments.slice(blocks.length);
}

/** What goes to a new block, from `within` on. */
interface NewContent {
  within: number;
  pieces: Uint8Array[];
}

/** The request's part, alone where nothing else of the block matters; else with what is around it. */
async function newContent(
  target: ThinTarget,
  request: WriteRequest,
  segment: Segment,
  borrowed: Uint8Array[],
): Promise<NewContent> {
  const { core } = target;
  const mine = part(request.source, segment);
  if (segment.length === core.blockBytes) return { within: 0, pieces: [mine] };
  const found = target.lookUp(segment.block);
  const mapping = found instanceof Promise ? await found : found;
  if (mapping === undefined && !target.hasOrigin) {
    if (core.features.skipBlockZeroing) return { within: segment.within, pieces: [mine] };
    const after = core.blockBytes - segment.within - segment.length;
    return { within: 0, pieces: [...zeroes(segment.within), mine, ...zeroes(after)] };
  }
  const whole = core.buffers.take();
  borrowed.push(whole);
  if (mapping !== undefined) await core.data.read(mapping.block * core.ratio, whole);
  else {
    const hasOrigin = await target.readOrigin(segment.block * core.blockBytes, whole);
    if (!hasOrigin && core.features.skipBlockZeroing) return { within: segment.within, pieces: [mine] };
  }
  whole.set(mine, segment.within);
  return { within: 0, pieces: [whole] };
}

/** So many zeros, of one piece of memory that nobody writes. */
function zeroes(length: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < length; at += ZEROES.length)
    pieces.push(ZEROES.subarray(0, Math.min(ZEROES.length, length - at)));
  return pieces;
}
