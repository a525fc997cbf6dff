/** Changing the stack under a running device: a new top, deltas added below, the two upper ones exchanged. */
import { refused } from "../../errors.ts";
import type { ImageFile } from "../../file/image-file.ts";
import { Delta } from "../../image/delta.ts";
import { checkFits } from "../open-stack.ts";
import type { PloopDevice } from "../ploop-device.ts";

/** Levels are one byte on the way to the kernel, and 255 is taken. */
const DELTAS_MAX = 254;

/**
 * Freezes the top and puts the empty image `file` over it. It must be of the same size, cluster and version. The file is
 * closed with the device; on an error it is the caller's.
 */
export async function snapshotTop(device: PloopDevice, file: ImageFile): Promise<void> {
  const { engine } = device;
  const fresh = await Delta.open(file);
  let isEmpty = true;
  await fresh.scan(() => {
    isEmpty = false;
  });
  if (!isEmpty) throw refused("snapshot", "EINVAL", `${file.name} is not empty`);
  await engine.frozenWhile(async () => {
    const old = engine.top;
    await engine.refuseChangedBelow();
    checkFits(fresh, old);
    if (engine.deltas.length >= DELTAS_MAX) throw refused("snapshot", "EMFILE", "the stack is full; merge first");
    if (fresh.header.sizeSectors !== old.header.sizeSectors) {
      throw refused("snapshot", "EINVAL", `${file.name} is not of the size of ${old.name}`);
    }
    await fresh.markOpen();
    await engine.closeTop();
    engine.deltas.push(fresh);
    await engine.stackChanged({ newTop: true });
  });
}

/**
 * Takes the top that {@link snapshotTop} put there away again, on a device that was suspended since: it holds nothing yet. Its
 * file is closed.
 */
export async function undoSnapshot(device: PloopDevice): Promise<void> {
  const { engine } = device;
  await engine.frozenWhile(async () => {
    if (!device.isSuspended || !engine.isTopEmpty) throw refused("snapshot", "EBUSY", "the new top is in use");
    const fresh = engine.deltas.pop();
    await engine.top.markOpen();
    await engine.stackChanged({ newTop: true });
    await fresh?.file.close();
  });
}

/** Puts a read-only delta directly below the top, above those added before. For a device that was not used yet. */
export async function addDelta(device: PloopDevice, file: ImageFile, raw: boolean): Promise<void> {
  const { engine } = device;
  await engine.frozenWhile(async () => {
    if (engine.deltas.length >= DELTAS_MAX) throw refused("add_delta", "EMFILE", "the stack is full");
    if (raw && engine.deltas.length > 1) throw refused("add_delta", "EMFILE", "only level 0 can be raw");
    const delta = raw ? Delta.openRaw(file, engine.clusterBytes) : await Delta.open(file);
    if (!delta.raw) checkFits(delta, engine.top);
    delta.refuseDirty();
    const below = engine.deltas.at(-2);
    if (delta.clusterCount > engine.top.clusterCount || (below?.clusterCount ?? 0) > delta.clusterCount) {
      throw refused(
        "add_delta",
        "EBADSLT",
        `${file.name} is larger than the delta above it, or smaller than the one below`,
      );
    }
    if (!delta.raw) await delta.scan(() => undefined);
    engine.deltas.splice(engine.topLevel, 0, delta);
    await engine.stackChanged({ newTop: false });
  });
}

/** Exchanges the file of a lower delta for another handle on the same image, for example one that can be written. */
export async function reopenDelta(device: PloopDevice, level: number, file: ImageFile): Promise<void> {
  const { engine } = device;
  await engine.frozenWhile(async () => {
    const old = engine.deltas[level];
    if (old === undefined || level >= engine.topLevel) throw refused("reopen", "ENOENT", `no lower delta ${level}`);
    const delta = old.raw ? Delta.openRaw(file, engine.clusterBytes) : await Delta.open(file);
    engine.deltas[level] = delta;
    await engine.stackChanged({ newTop: false });
    await engine.epochs.drain();
    await old.file.close();
  });
}

/**
 * Exchanges the top and the delta below it, so that {@link mergeIntoTop} then copies the smaller into the larger one. The
 * device is suspended and resuming is prohibited; no cluster may be in both deltas. Throws `VDO_PLOOP_REFUSED`.
 */
export async function flipUpperDeltas(device: PloopDevice): Promise<void> {
  const { engine } = device;
  const stop = (errno: "EBUSY" | "ENOENT" | "EBADSLT" | "EACCES" | "EEXIST", why: string): Error =>
    refused("flip_upper_deltas", errno, why);
  if (!device.isSuspended) throw stop("EBUSY", "the device is not suspended");
  if (!device.noResume) throw stop("EBUSY", "resuming is not prohibited; set_noresume 1");
  await engine.frozenWhile(async () => {
    const { top, topLevel } = engine;
    const lower = engine.deltas[topLevel - 1];
    if (lower === undefined) throw stop("ENOENT", "there is no delta below the top");
    if (lower.raw) throw stop("EBADSLT", "the lower delta is raw");
    if (lower.file.readOnly) throw stop("EACCES", `${lower.name} was opened read-only`);
    if (lower.header.sizeSectors !== top.header.sizeSectors)
      throw stop("EBADSLT", "the deltas differ in size; grow first");
    await lower.reload();
    const held = new Uint8Array(top.clusterCount);
    await top.scan((cluster) => {
      held[cluster] = 1;
    });
    let shared = -1;
    await lower.scan((cluster) => {
      if (held[cluster] === 1) shared = cluster;
    });
    if (shared >= 0) throw stop("EEXIST", `cluster ${shared} is in both deltas`);
    await lower.markOpen();
    await engine.closeTop();
    engine.deltas[topLevel] = lower;
    engine.deltas[topLevel - 1] = top;
    await engine.stackChanged({ newTop: true });
  });
}

/** Before {@link flipUpperDeltas}: takes every entry out of the delta below the top that the top has, too. */
export async function clearShared(device: PloopDevice): Promise<number> {
  const { engine } = device;
  return engine.frozenWhile(async () => {
    const { top, topLevel } = engine;
    const lower = engine.deltas[topLevel - 1];
    if (lower === undefined || lower.raw)
      throw refused("flip_upper_deltas", "ENOENT", "there is no image below the top");
    const held = new Uint8Array(top.clusterCount);
    await top.scan((cluster) => {
      held[cluster] = 1;
    });
    await top.file.flush();
    const cleared = await lower.clearEntries((cluster) => held[cluster] === 1);
    engine.map.clear();
    return cleared;
  });
}
