/**
 * Writes to a thin device: in place where the block is its own, else to a new block that is mapped when its data is written.
 *
 *     look up ─┬─ mapped, not shared ──────────────▶ write in place
 *              ├─ shared ──▶ new block ◀─ old content, unless the write covers the block ─▶ write ─▶ insert the mapping
 *              └─ unmapped ─▶ new block ◀─ origin or zeros, unless the write covers the block ─▶ write ─▶ insert the mapping
 *
 * The gate is held from the look-up to the insertion. A new block whose write failed is given back: nothing leaks.
 */
import { isShared } from "../format/mapping.ts";
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

/** Provisions under the locks of the blocks; whoever waited for them looks again. Returns what found no space. */
async function provisionLocked(target: ThinTarget, request: WriteRequest, segments: Segment[]): Promise<Segment[]> {
  const first = (segments[0] as Segment).block;
  const last = (segments.at(-1) as Segment).block;
  const unlock = await target.locks.lock(first, last + 1);
  try {
    const needing = await writeInPlace(target, request, segments);
    return needing.length === 0 ? [] : await target.core.provisioner.provision(target, request, needing);
  } finally {
    unlock();
  }
}
