/** Merging in a running stack: the newest lower delta into the top, and taking note of merges that others did. */
import { refused } from "../../errors.ts";
import type { Delta } from "../../image/delta.ts";
import { HEADER_WORDS, PAGE_WORDS } from "../../image/delta.ts";
import { indexOf, NO_PLACE, pageOf } from "../cluster-map.ts";
import type { PloopDevice } from "../ploop-device.ts";
import type { StackEngine } from "../stack-engine.ts";

/** Copies under way at a time; users' writes come between them. */
const COPIES_MAX = 64;

/** Clusters looked at, and clusters there are. */
export type Progress = (done: number, total: number) => void;

export interface MergeOptions {
  progress?: Progress | undefined;
  /**
   * Called when the top has everything, is durable, and writes are held: whoever keeps a list of the stack's files changes it
   * now. When it rejects, the delta stays in the stack.
   */
  commit?: (() => Promise<void>) | undefined;
}

/**
 * Copies what the delta below the top provides into the top, while the device is used, and then removes that delta from the
 * stack and closes its file, which may be deleted. On an error what was copied stays, harmlessly, and so does the delta.
 * Throws `VDO_PLOOP_REFUSED` (ENOENT: there is nothing below the top).
 */
export async function mergeIntoTop(device: PloopDevice, { progress, commit }: MergeOptions = {}): Promise<void> {
  const { engine } = device;
  const level = engine.topLevel - 1;
  const delta = engine.deltas[level];
  if (delta === undefined) throw refused("merge", "ENOENT", "there is no delta below the top");
  await delta.refuseChanged();
  const total = delta.clusterCount;
  let failure: unknown;
  const copies = new Set<Promise<void>>();
  for (let cluster = 0; cluster < total && failure === undefined; cluster++) {
    const number = pageOf(cluster);
    const page = engine.map.cached(number) ?? (await engine.map.load(number));
    const index = indexOf(cluster);
    if (page.places[index] !== NO_PLACE && page.levels[index] === level) {
      const copy: Promise<void> = engine
        .change({ kind: "copy", cluster, offset: 0, level })
        .catch((error: unknown) => {
          failure ??= error;
        })
        .finally(() => copies.delete(copy));
      copies.add(copy);
      if (copies.size >= COPIES_MAX) await Promise.race(copies);
    }
    if ((cluster + HEADER_WORDS + 1) % PAGE_WORDS === 0) progress?.(cluster + 1, total);
  }
  await Promise.all(copies);
  if (failure !== undefined) throw failure;
  await engine.frozenWhile(async () => {
    await engine.top.file.flush();
    await commit?.();
    await removeDelta(engine, level);
  });
  progress?.(total, total);
}

/** Takes a delta out of the list; nobody uses it when its file is closed. For jobs that have frozen writes. */
async function removeDelta(engine: StackEngine, level: number): Promise<void> {
  const [removed] = engine.deltas.splice(level, 1);
  await engine.stackChanged({ newTop: false });
  await engine.epochs.drain();
  await removed?.file.close();
}

export type MergeDirection = "forward" | "backward";

/**
 * Somebody has copied the clusters of delta `level` into its neighbour below (`backward`) or above (`forward`): looks at the
 * neighbour's file anew and removes delta `level` from the stack. Throws `VDO_PLOOP_REFUSED` for levels where that cannot be,
 * `VDO_CORRUPT` and `VDO_PLOOP_DIRTY` for the survivor.
 */
export function notifyMerged(device: PloopDevice, direction: MergeDirection, level: number): Promise<void> {
  const { engine } = device;
  const operation = `notify_merged_${direction}`;
  return engine.frozenWhile(async () => {
    const { topLevel, deltas } = engine;
    if (!Number.isInteger(level) || level < 0) throw refused(operation, "EINVAL", "a level is a number from 0");
    if (level >= topLevel) throw refused(operation, "ENOENT", `level ${level} is not below the top, ${topLevel}`);
    if (deltas.length < 3) throw refused(operation, "EINVAL", "there are fewer than three deltas; use merge");
    if (direction === "backward" && level === 0) throw refused(operation, "EINVAL", "nothing is below level 0");
    if (direction === "forward" && level === topLevel - 1) {
      throw refused(operation, "EINVAL", "the delta above is the top; use merge");
    }
    if (direction === "forward" && deltas[level]?.raw === true) {
      throw refused(operation, "ENOTSUPP", "a raw base is not merged forward");
    }
    const at = direction === "backward" ? level - 1 : level + 1;
    const survivor = deltas[at] as Delta;
    await survivor.reload();
    survivor.refuseDirty();
    await survivor.scan(() => undefined);
    const above = deltas[Math.max(at, level) + 1] as Delta;
    if (survivor.clusterCount > above.clusterCount) {
      throw refused(operation, "EFBIG", `${survivor.name} has more clusters than the delta above it`);
    }
    await removeDelta(engine, level);
  });
}

const INDEX_MAP = /^(?:\d+:\d+;)+$/;

/**
 * Somebody has moved clusters inside the read-only delta `level`, and written its BAT: takes the new places over. `text` is
 * `cluster:place;` repeated. All pairs are checked before any is applied. When it resolves, nobody reads the old places.
 */
export function updateDeltaIndex(device: PloopDevice, level: number, text: string): Promise<void> {
  const { engine } = device;
  const operation = "update_delta_index";
  return engine.exclusive(async () => {
    const delta = engine.deltas[level];
    if (delta === undefined || level >= engine.topLevel) {
      throw refused(operation, "ENOENT", `level ${level} is not below the top, ${engine.topLevel}`);
    }
    if (!INDEX_MAP.test(text) || delta.raw) throw refused(operation, "EINVAL", "the map is CLUSTER:PLACE; repeated");
    await delta.file.refresh();
    const pairs = text
      .slice(0, -1)
      .split(";")
      .map((pair) => pair.split(":").map(Number) as [number, number]);
    for (const [cluster, place] of pairs) {
      const isInside = cluster < delta.clusterCount && place >= delta.batClusters && place < delta.fileClusters;
      if (!isInside) throw refused(operation, "EINVAL", `${cluster}:${place} lies outside the delta`);
      if ((await engine.lookUp(cluster)) === undefined) {
        throw refused(operation, "EINVAL", `cluster ${cluster} is not mapped`);
      }
    }
    for (const [cluster, place] of pairs) {
      const page = await engine.map.pin(pageOf(cluster));
      if (page.levels[indexOf(cluster)] === level) page.places[indexOf(cluster)] = place;
      engine.map.unpin(page);
    }
    await engine.epochs.drain();
  });
}
