/** Work on images that nobody has open: growing, merging, converting. */

import { type OnMoved, resizeTop } from "../device/operations/resize.ts";
import { PloopDevice } from "../device/ploop-device.ts";
import { badArgument, corrupt, refused } from "../errors.ts";
import type { ImageFile } from "../file/image-file.ts";
import { geometryOf } from "../format/geometry.ts";
import { SECTOR, versionOf } from "../format/header.ts";
import { Delta } from "./delta.ts";
import { loadExtensionOrNone, noExtension } from "./extension-store.ts";

/** Clusters copied at a time. */
const COPIES_MAX = 16;

export type OfflineProgress = (done: number, total: number) => void;

/**
 * Grows an image. A raw one gets zeros at its end. The caller keeps the file. Throws `VDO_PLOOP_REFUSED` (EINVAL: smaller, not
 * whole clusters) and `VDO_PLOOP_DIRTY`.
 */
export async function growImage(
  file: ImageFile,
  sectors: number,
  { raw = false, onMoved }: { raw?: boolean; onMoved?: OnMoved } = {},
): Promise<void> {
  if (raw) {
    if (sectors * SECTOR < file.length) throw refused("grow", "EINVAL", "an image does not get smaller");
    await file.setLength(sectors * SECTOR);
    await file.flush();
    return;
  }
  await withImage(file, async (device) => {
    const { top } = device.engine;
    if (sectors === top.header.sizeSectors) return;
    await resizeTop(device, sectors, onMoved);
    await top.writeHeader(geometryOf(sectors));
  });
}

/** Opens one image as a device, without taking the file over. */
async function withImage(file: ImageFile, use: (device: PloopDevice) => Promise<void>): Promise<void> {
  const device = await PloopDevice.open({ deltas: [{ file: borrowed(file) }], refuseDirty: true, extendBytes: 1 });
  try {
    await use(device);
  } finally {
    await device.close();
  }
}

/** The file, but closing it does nothing. */
function borrowed(file: ImageFile): ImageFile {
  return {
    name: file.name,
    readOnly: file.readOnly,
    get length() {
      return file.length;
    },
    read: (offset, target) => file.read(offset, target),
    write: (offset, source) => file.write(offset, source),
    zero: (offset, length) => file.zero(offset, length),
    setLength: (length) => file.setLength(length),
    flush: () => file.flush(),
    refresh: () => file.refresh(),
    close: async () => undefined,
  };
}

export interface MergeImagesOptions {
  /** Newest first. They are only read. */
  sources: readonly ImageFile[];
  /** The delta below all of them; it survives. */
  target: ImageFile;
  /** The target is a plain image. */
  raw?: boolean;
  /** What the target has is newer: take only clusters that it does not have. */
  onlyMissing?: boolean;
  progress?: OfflineProgress;
  /** The target is read by a running stack: told of clusters that move while it grows. */
  onMoved?: OnMoved;
}

/**
 * Copies the clusters of deltas into the one below them, which grows if it is smaller. Interrupted, it can be done again from
 * the start: what is overwritten, the sources hold. Throws `VDO_PLOOP_DIRTY` for images in use, `VDO_CORRUPT` for images that
 * do not fit together.
 */
export async function mergeImages(options: MergeImagesOptions): Promise<void> {
  const { sources, target, raw = false, onlyMissing = false, progress } = options;
  const deltas = await Promise.all(sources.map((file) => Delta.open(file)));
  const newest = deltas[0];
  if (newest === undefined) throw badArgument("sources", 0, "there is nothing to merge");
  for (const delta of deltas) {
    delta.refuseDirty();
    if (delta.clusterBytes !== newest.clusterBytes) {
      throw corrupt(delta.name, "cluster size", newest.header.clusterSectors, delta.header.clusterSectors);
    }
  }
  const moves = await movesOf(deltas);
  if (raw) {
    if (target.length < newest.sizeSectors * SECTOR) await growImage(target, newest.sizeSectors, { raw });
    await copyAll(moves, newest.clusterBytes, progress, (cluster, data) => target.write(cluster * data.length, data));
    await target.flush();
    return;
  }
  const below = await Delta.open(target);
  below.refuseDirty();
  if (below.clusterBytes !== newest.clusterBytes || versionOf(below.header) !== versionOf(newest.header)) {
    throw corrupt(below.name, "cluster size and version", `those of ${newest.name}`, "others");
  }
  if (below.sizeSectors < newest.sizeSectors) {
    await growImage(target, newest.sizeSectors, options.onMoved === undefined ? {} : { onMoved: options.onMoved });
  }
  if (onlyMissing) await below.scan((cluster) => moves.delete(cluster));
  const extension = await loadExtensionOrNone(newest);
  await withImage(target, async (device) => {
    const { engine } = device;
    // What the parent may have is of the time when the child was made.
    if (!onlyMissing) {
      device.bitmaps.replace(engine.top.header.sizeSectors === newest.sizeSectors ? extension : noExtension());
    }
    await copyAll(moves, newest.clusterBytes, progress, (cluster, source) =>
      engine.change({ kind: "write", cluster, offset: 0, source, keepZeros: true }),
    );
  });
}

interface Move {
  cluster: number;
  from: Delta;
  place: number;
}

/** For each cluster the newest of the deltas that has it. */
async function movesOf(deltas: readonly Delta[]): Promise<Map<number, Move>> {
  const moves = new Map<number, Move>();
  for (const from of deltas) {
    await from.scan((cluster, place) => {
      if (!moves.has(cluster)) moves.set(cluster, { cluster, from, place });
    });
  }
  return moves;
}

/** In the order of the clusters. */
async function copyAll(
  from: ReadonlyMap<number, Move>,
  clusterBytes: number,
  progress: OfflineProgress | undefined,
  put: (cluster: number, data: Uint8Array) => Promise<void>,
): Promise<void> {
  const moves = [...from.values()].sort((a, b) => a.cluster - b.cluster);
  for (let done = 0; done < moves.length; done += COPIES_MAX) {
    const part = moves.slice(done, done + COPIES_MAX);
    const results = await Promise.allSettled(
      part.map(async ({ cluster, from, place }) => {
        const data = new Uint8Array(clusterBytes);
        await from.file.read(place * clusterBytes, data);
        await put(cluster, data);
      }),
    );
    for (const result of results) if (result.status === "rejected") throw result.reason;
    progress?.(Math.min(done + COPIES_MAX, moves.length), moves.length);
  }
}

/** Gives every cluster of a single image its place. */
export async function preallocateImage(file: ImageFile, progress?: OfflineProgress): Promise<void> {
  await withImage(file, async (device) => {
    const { engine } = device;
    const zeros = new Uint8Array(device.blockSize);
    const total = engine.top.clusterCount;
    for (let cluster = 0; cluster < total; cluster++) {
      if ((await engine.lookUp(cluster)) === undefined) {
        await engine.change({ kind: "write", cluster, offset: 0, source: zeros, keepZeros: true });
      }
      progress?.(cluster + 1, total);
    }
  });
}

/** Writes what a stack reads as into the empty `target`; holes stay holes. The target is durable when it resolves. */
export async function copyToRaw(device: PloopDevice, target: ImageFile, progress?: OfflineProgress): Promise<void> {
  const { clusterBytes, blockSize } = device;
  const blocks = clusterBytes / blockSize;
  await target.setLength(device.blockCount * blockSize);
  const data = new Uint8Array(clusterBytes);
  const total = device.blockCount / blocks;
  for (let cluster = 0; cluster < total; cluster++) {
    if ((await device.engine.lookUp(cluster)) !== undefined) {
      await device.read(cluster * blocks, data);
      await target.write(cluster * clusterBytes, data);
    }
    progress?.(cluster + 1, total);
  }
  await target.flush();
}
