/**
 * Writes to a thin device: in place where the block is its own, else to a new block that is mapped when its data is written.
 *
 *     look up ─┬─ mapped, not shared ──────────────▶ write in place
 *              ├─ shared ──▶ new block ◀─ old content, unless the write covers the block ─▶ write ─▶ insert the mapping
 *              └─ unmapped ─▶ new block ◀─ origin or zeros, unless the write covers the block ─▶ write ─▶ insert the mapping
 *
 * The gate is held from the look-up to the insertion. A new block whose write failed is given back: nothing leaks.
 */
import { isShared, type Mapping } from "../format/mapping.ts";
import { MetadataFailure } from "./metadata-failure.ts";
import { part, type ThinTarget, type WriteRequest, writeTransfers } from "./provisioner.ts";
import { cutIntoSegments, type Segment, TransferList } from "./segments.ts";

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
    const found = sortOut(target, request, segments);
    const { own, others } = found instanceof Promise ? await found : found;
    if (own.transfers.length > 0) await writeTransfers(core, own, request.fua);
    rest = others;
    if (rest.length > 0 && core.mode === "write") {
      const isFresh = !(found instanceof Promise) && own.transfers.length === 0;
      rest = await provisionLocked(target, request, { segments: rest, isFresh });
    }
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

/** What can be written in place, and the segments that need new blocks. */
interface Sorted {
  own: TransferList;
  others: Segment[];
}

/** At once where everything that is asked for is in memory. */
function sortOut(
  target: ThinTarget,
  request: WriteRequest,
  segments: readonly Segment[],
  time = target.snapshottedTime(),
): Sorted | Promise<Sorted> {
  if (time instanceof Promise) return time.then((known) => sortOut(target, request, segments, known));
  const found: (Mapping | undefined)[] = [];
  for (const { block } of segments) {
    const mapping = target.lookUp(block);
    if (mapping instanceof Promise) return lookUpRest(target, request, { segments, found, time }, mapping);
    found.push(mapping);
  }
  return sorted(target, request, { segments, found, time });
}

/** Goes on at the look-up that has to be waited for, one after the other: a long write has many. */
async function lookUpRest(
  target: ThinTarget,
  request: WriteRequest,
  { segments, found, time }: Found,
  next: Promise<Mapping | undefined>,
): Promise<Sorted> {
  const all = [...found, await next];
  for (const { block } of segments.slice(all.length)) all.push(await target.lookUp(block));
  return sorted(target, request, { segments, found: all, time });
}

/** Segments and their mappings, as far as they were looked up. */
interface Found {
  segments: readonly Segment[];
  found: readonly (Mapping | undefined)[];
  time: number;
}

function sorted({ core }: ThinTarget, { source }: WriteRequest, { segments, found, time }: Found): Sorted {
  const own = new TransferList();
  const others: Segment[] = [];
  for (const [i, segment] of segments.entries()) {
    const mapping = found[i];
    if (mapping === undefined || isShared(mapping.time, time)) others.push(segment);
    else own.add(mapping.block * core.blockBytes + segment.within, part(source, segment));
  }
  return { own, others };
}

/** Segments to be provisioned; `isFresh` when nothing was waited for since they were looked up. */
interface Needing {
  segments: Segment[];
  isFresh: boolean;
}

/** Provisions under the locks of the blocks; whoever waited for them looks again. Returns what found no space. */
async function provisionLocked(target: ThinTarget, request: WriteRequest, needing: Needing): Promise<Segment[]> {
  const { segments, isFresh } = needing;
  const first = (segments[0] as Segment).block;
  const end = (segments.at(-1) as Segment).block + 1;
  const atOnce = target.locks.tryLock(first, end);
  const unlock = atOnce ?? (await target.locks.lock(first, end));
  try {
    let missing = segments;
    if (!isFresh || atOnce === undefined) {
      const { own, others } = await sortOut(target, request, segments);
      await writeTransfers(target.core, own, request.fua);
      missing = others;
    }
    return missing.length === 0 ? [] : await target.core.provisioner.provision(target, request, missing);
  } finally {
    unlock();
  }
}
