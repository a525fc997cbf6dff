/**
 * Gives new blocks to writes that need them, those that come together in one batch: data blocks that follow each other, so one
 * write of the data device, and one change of the metadata for each thin device.
 *
 *     allocate ▸ read what is around (old content, origin) ▸ write ▸ insert the mappings
 *
 * A new block whose write failed is given back: nothing leaks. A batch that failed is tried again job by job, so that only those
 * fail whose own write does.
 */
import { writeVector } from "@vdo/block-device";
import type { Mapping } from "../format/mapping.ts";
import { MetadataFailure, metadataOperation } from "./metadata-failure.ts";
import type { PoolCore } from "./pool-core.ts";
import type { RangeLocks } from "./range-locks.ts";
import { type Segment, TransferList } from "./segments.ts";

/** Bytes of a batch, unless one job alone has more. */
const BATCH_BYTES_MAX = 1 << 20;
/** Some are read for while others are written. */
const BATCHES_MAX = 3;

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
  snapshottedTime(): Promise<number> | number;
  /** Something else than zeros may be where nothing is mapped. */
  readonly hasOrigin: boolean;
  /** Fills `target` from the external origin, zeros where there is none; false when nothing but zeros is there. */
  readOrigin(offset: number, target: Uint8Array): Promise<boolean>;
}

export interface WriteRequest {
  offset: number;
  source: Uint8Array;
  fua: boolean;
}

/** The bytes of a segment. */
export function part(source: Uint8Array, { at, length }: Segment): Uint8Array {
  return source.subarray(at, at + length);
}

/** Writes all of the list; throws the first failure when all have ended. */
export async function writeTransfers({ data }: PoolCore, list: TransferList, fua: boolean): Promise<void> {
  const options = fua ? { fua: true } : undefined;
  const [first] = list.transfers;
  if (first === undefined) return;
  if (list.transfers.length === 1) {
    await writeVector(data, first.offset / data.blockSize, first.buffers, options);
    return;
  }
  const writes = list.transfers.map(({ offset, buffers }) =>
    writeVector(data, offset / data.blockSize, buffers, options),
  );
  const outcomes = await Promise.allSettled(writes);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

interface Job {
  target: ThinTarget;
  request: WriteRequest;
  segments: Segment[];
  resolve(rest: Segment[]): void;
  reject(error: unknown): void;
}

export class Provisioner {
  readonly #core: PoolCore;
  #waiting: Job[] = [];
  #running = 0;
  #isScheduled = false;

  constructor(core: PoolCore) {
    this.#core = core;
  }

  /** Writes the segments to new blocks, whose virtual blocks are locked by the caller. Resolves with those that found no space. */
  provision(target: ThinTarget, request: WriteRequest, segments: Segment[]): Promise<Segment[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ target, request, segments, resolve, reject });
      this.#schedule();
    });
  }

  /** Those that are on their way in this turn come along. */
  #schedule(): void {
    if (this.#isScheduled || this.#running >= BATCHES_MAX) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      while (this.#waiting.length > 0 && this.#running < BATCHES_MAX) {
        this.#running++;
        void this.#run(this.#take()).then(() => {
          this.#running--;
          if (this.#waiting.length > 0) this.#schedule();
        });
      }
    });
  }

  #take(): Job[] {
    const blocksMax = Math.max(1, Math.floor(BATCH_BYTES_MAX / this.#core.blockBytes));
    let [count, blocks] = [0, 0];
    while (count < this.#waiting.length) {
      blocks += (this.#waiting[count] as Job).segments.length;
      if (count > 0 && blocks > blocksMax) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #run(jobs: readonly Job[]): Promise<void> {
    try {
      const rests = await this.#batch(jobs);
      for (const [i, job] of jobs.entries()) job.resolve(rests[i] as Segment[]);
    } catch (error) {
      if (jobs.length > 1 && !(error instanceof MetadataFailure)) for (const job of jobs) await this.#run([job]);
      else for (const job of jobs) job.reject(error);
    }
  }

  /** Resolves with what found no space, for each job. */
  async #batch(jobs: readonly Job[]): Promise<Segment[][]> {
    const core = this.#core;
    const wanted = jobs.reduce((sum, { segments }) => sum + segments.length, 0);
    const blocks = await metadataOperation("allocate", () => core.allocate(wanted));
    const borrowed: Uint8Array[] = [];
    const pairs = new Map<number, [number, number][]>();
    const rests: Segment[][] = [];
    try {
      await writeTransfers(core, await this.#contents(jobs, { blocks, borrowed, pairs, rests }), false);
    } catch (error) {
      await metadataOperation("release", () => core.release(blocks));
      throw error;
    } finally {
      for (const buffer of borrowed) core.buffers.give(buffer);
    }
    for (const [id, list] of pairs) await metadataOperation("insert", () => core.metadata.insert(id, list));
    return rests;
  }

  /** What goes where; notes the mappings to insert and what is left over. */
  async #contents(jobs: readonly Job[], batch: Batch): Promise<TransferList> {
    const core = this.#core;
    const { blocks, borrowed, pairs, rests } = batch;
    const contents: Promise<NewContent>[] = [];
    for (const { target, request, segments } of jobs) {
      const own = blocks.slice(contents.length, contents.length + segments.length);
      rests.push(segments.slice(own.length));
      const list = pairs.get(target.id) ?? [];
      for (const [i, block] of own.entries()) {
        const segment = segments[i] as Segment;
        list.push([segment.block, block]);
        contents.push(newContent(target, request, segment, borrowed));
      }
      if (own.length > 0) pairs.set(target.id, list);
    }
    const outcomes = await Promise.allSettled(contents);
    const transfers = new TransferList();
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.status === "rejected") throw outcome.reason;
      let at = (blocks[i] as number) * core.blockBytes + outcome.value.within;
      for (const piece of outcome.value.pieces) {
        transfers.add(at, piece);
        at += piece.length;
      }
    }
    return transfers;
  }
}

interface Batch {
  blocks: readonly number[];
  borrowed: Uint8Array[];
  /** Virtual and data blocks, by device. */
  pairs: Map<number, [number, number][]>;
  rests: Segment[][];
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
