/**
 * Merging a snapshot with its only child. The child's GUID survives; its file is the parent's where the child is copied down
 * (backward), and the child's where the parent is copied up (forward).
 *
 *     at rest: backward. A merge overwrites the parent, so that is marked `Temporary` first; interrupted, it is done again.
 *     running, the child is the top: forward; or, when only base and top are there and the base holds more, the two change
 *         places first (`TemporaryZero`, `TemporaryZeroSwap`), and the smaller one is copied: the reverse merge.
 *     running, below the top: backward between two files that are only read, then the stack is told.
 */
import { mergeIntoTop, notifyMerged, updateDeltaIndex } from "../device/operations/merge.ts";
import { clearShared, flipUpperDeltas, reopenDelta } from "../device/operations/stack.ts";
import type { PloopDevice } from "../device/ploop-device.ts";
import { refused } from "../errors.ts";
import {
  type DescriptorImage,
  type DiskDescriptor,
  NO_GUID,
  type Shot,
  sameGuid,
  TOP_GUID,
} from "../format/descriptor.ts";
import { versionOf } from "../format/header.ts";
import { checkImage } from "../image/check.ts";
import { createImage } from "../image/create.ts";
import { Delta } from "../image/delta.ts";
import { dropExtension } from "../image/extension-store.ts";
import { growImage, mergeImages, type OfflineProgress } from "../image/offline.ts";
import { type DiskState, whileSuspended } from "./disk-state.ts";

export interface MergeContext {
  /** The running stack of the disk. */
  device?: PloopDevice;
  progress?: OfflineProgress | undefined;
  /** At rest: a new file that takes the clusters of both, in order; parent and child stay as they are until it is done. */
  newFile?: string | undefined;
}

/** A snapshot and its only child, with their images. */
export interface Pair {
  shot: Shot;
  child: Shot;
  parentImage: DescriptorImage;
  childImage: DescriptorImage;
}

export async function mergeChild(disk: DiskState, shot: Shot, child: Shot, context: MergeContext = {}): Promise<void> {
  const pair = { shot, child, parentImage: disk.image(shot.guid), childImage: disk.image(child.guid) };
  const { device } = context;
  const level = disk.chain().findIndex(({ guid }) => sameGuid(guid, child.guid));
  if (device === undefined || level < 0) {
    if (shot.state !== undefined) await closeBoth(disk, pair);
    if (context.newFile !== undefined) return mergeIntoNew(disk, pair, context.newFile, context);
    if (shot.state === "TemporaryZeroSwap") await mergeForward(disk, pair, context);
    else await mergeBackward(disk, pair, context);
  } else if (!sameGuid(child.guid, disk.descriptor.topGuid))
    await mergeBelow(disk, pair, level, { ...context, device });
  else if (await isBaseLarger(disk, pair, device)) await mergeReverse(disk, pair, { ...context, device });
  else {
    await mergeUp(disk, pair, { ...context, device });
  }
}

/** The descriptor changes while writes are held: no discard may drop what the old stack would show again. */
async function mergeUp(disk: DiskState, pair: Pair, { device, progress }: Running): Promise<void> {
  const commit = (): Promise<void> => disk.store(withoutParent(disk, pair, "child"));
  await device.serialize(() => mergeIntoTop(device, { progress, commit }));
  await disk.directory.unlink(pair.parentImage.file);
}

/** The descriptor without the parent. */
export function withoutParent(disk: DiskState, pair: Pair, survivor: "parent" | "child"): DiskDescriptor {
  const { shot, child, parentImage, childImage } = pair;
  const { file } = survivor === "parent" ? parentImage : childImage;
  const isPlain = disk.isRaw(parentImage) && survivor === "child";
  return {
    ...disk.descriptor,
    mode: isPlain ? "expanded" : disk.descriptor.mode,
    images: disk.descriptor.images
      .filter(({ guid }) => !sameGuid(guid, shot.guid))
      .map((image) => (sameGuid(image.guid, child.guid) ? { ...image, file } : image)),
    shots: disk.descriptor.shots
      .filter(({ guid }) => !sameGuid(guid, shot.guid))
      .map((one) => (sameGuid(one.guid, child.guid) ? { ...one, parent: shot.parent } : one)),
  };
}

/** Stores the descriptor without the parent, then deletes the file of the one that did not survive. */
async function removeParent(disk: DiskState, pair: Pair, survivor: "parent" | "child"): Promise<void> {
  await disk.store(withoutParent(disk, pair, survivor));
  await disk.directory.unlink((survivor === "parent" ? pair.childImage : pair.parentImage).file);
}

async function markTemporary(disk: DiskState, { shot }: Pair): Promise<void> {
  if (shot.state === undefined) await disk.store(disk.withState(shot.guid, "Temporary"));
}

/** Before a merge is done again: the power may have gone while an image was marked as in use. */
async function closeBoth(disk: DiskState, { parentImage, childImage }: Pair): Promise<void> {
  for (const image of [parentImage, childImage]) {
    if (disk.isRaw(image)) continue;
    const isDirty = await disk.withFile(image.file, true, async (file) => (await Delta.open(file)).isInUse);
    if (!isDirty) continue;
    await disk.withFile(image.file, false, async (file) => {
      const { result } = await checkImage(file, { dropInUse: true });
      if (result === "damaged") throw refused("snapshot-merge", "EIO", `${image.file} is damaged; check it`);
    });
  }
}

async function mergeBackward(disk: DiskState, pair: Pair, { progress }: MergeContext): Promise<void> {
  await markTemporary(disk, pair);
  await copyDown(disk, pair, progress === undefined ? {} : { progress });
  await removeParent(disk, pair, "parent");
}

function copyDown(
  disk: DiskState,
  { parentImage, childImage }: Pair,
  options: { progress?: OfflineProgress; onMoved?: (moves: ReadonlyMap<number, number>) => Promise<void> },
): Promise<void> {
  const raw = disk.isRaw(parentImage);
  return disk.withFile(childImage.file, true, (source) =>
    disk.withFile(parentImage.file, false, (target) => mergeImages({ sources: [source], target, raw, ...options })),
  );
}

async function mergeIntoNew(disk: DiskState, pair: Pair, newFile: string, { progress }: MergeContext): Promise<void> {
  const { shot, child, parentImage, childImage } = pair;
  if (disk.isRaw(parentImage))
    throw refused("snapshot-merge", "ENOTSUPP", "a plain base is not merged into a new file");
  const target = await disk.directory.create(newFile);
  try {
    await disk.withFile(childImage.file, true, async (newest) => {
      const { header } = await Delta.open(newest);
      const { sizeSectors, clusterSectors } = header;
      await createImage(target, { version: versionOf(header), sizeSectors, clusterSectors });
      await disk.withFile(parentImage.file, true, (oldest) =>
        mergeImages({ sources: [newest, oldest], target, ...(progress === undefined ? {} : { progress }) }),
      );
    });
  } catch (error) {
    await disk.directory.unlink(newFile);
    throw error;
  } finally {
    await target.close();
  }
  const merged = { shot, child, parentImage, childImage: { ...childImage, file: newFile } };
  await disk.store(withoutParent(disk, merged, "child"));
  for (const { file } of [parentImage, childImage]) await disk.directory.unlink(file);
}

/** The child has newer data than the parent, wherever it has any. */
async function mergeForward(disk: DiskState, pair: Pair, { progress }: MergeContext): Promise<void> {
  await disk.withFile(pair.parentImage.file, true, (source) =>
    disk.withFile(pair.childImage.file, false, (target) =>
      mergeImages({ sources: [source], target, onlyMissing: true, ...(progress === undefined ? {} : { progress }) }),
    ),
  );
  await removeParent(disk, pair, "child");
}

type Running = MergeContext & { device: PloopDevice };

/** Child and parent are read by the running stack meanwhile. */
async function mergeBelow(disk: DiskState, pair: Pair, level: number, { device, progress }: Running): Promise<void> {
  await device.engine.refuseChangedBelow();
  await markTemporary(disk, pair);
  try {
    await copyDown(disk, pair, {
      ...(progress === undefined ? {} : { progress }),
      onMoved: (moves) => device.serialize(() => updateDeltaIndex(device, level - 1, indexText(moves))),
    });
  } catch (error) {
    // What was written so far was written by us, and does no harm.
    await device.serialize(async () => device.engine.deltas[level - 1]?.reload());
    throw error;
  }
  await device.serialize(() => notifyMerged(device, "backward", level));
  await removeParent(disk, pair, "parent");
}

function indexText(moves: ReadonlyMap<number, number>): string {
  return [...moves].map(([cluster, place]) => `${cluster}:${place};`).join("");
}

/** Copying the base up would move more than copying the top down. */
async function isBaseLarger(disk: DiskState, { shot, parentImage }: Pair, { engine }: PloopDevice): Promise<boolean> {
  if (!sameGuid(shot.parent, NO_GUID) || disk.isRaw(parentImage) || engine.deltas.length !== 2) return false;
  const counts: number[] = [];
  for (const delta of engine.deltas) {
    let count = 0;
    await delta.scan(() => {
      count++;
    });
    counts.push(count);
  }
  const [base, top] = counts as [number, number];
  return base > top;
}

/**
 * Base and top change places, and the old top's clusters are copied. Whatever is cut off: as long as the descriptor names the
 * base below, the top has all of what was cleared in the base; once it names it above, no cluster is in both but newer ones.
 */
async function mergeReverse(disk: DiskState, pair: Pair, { device, progress }: Running): Promise<void> {
  const { shot, parentImage, childImage } = pair;
  const { sizeSectors } = device.engine.top.header;
  await disk.store(disk.withState(shot.guid, "TemporaryZero"));
  if (device.engine.deltas[0]?.sizeSectors !== sizeSectors) {
    const onMoved = (moves: ReadonlyMap<number, number>): Promise<void> =>
      device.serialize(() => updateDeltaIndex(device, 0, indexText(moves)));
    await disk.withFile(parentImage.file, false, (file) => growImage(file, sizeSectors, { onMoved }));
  }
  const writable = await disk.directory.open(parentImage.file, { readOnly: false });
  try {
    await device.serialize(() => reopenDelta(device, 0, writable));
  } catch (error) {
    await writable.close();
    throw error;
  }
  await whileSuspended(device, () => exchange(disk, pair, device));
  const [oldTop, oldBase] = [childImage.file, parentImage.file];
  const swapped = {
    ...pair,
    parentImage: { ...parentImage, file: oldTop },
    childImage: { ...childImage, file: oldBase },
  };
  await mergeUp(disk, swapped, { device, progress });
}

/** Changes names and places of base and top; when that fails, all is as it was, or nobody can write any more. */
async function exchange(disk: DiskState, { shot, parentImage, childImage }: Pair, device: PloopDevice): Promise<void> {
  const before = disk.descriptor;
  const files = new Map([
    [parentImage.guid, childImage.file],
    [childImage.guid, parentImage.file],
  ]);
  const swapped: DiskDescriptor = {
    ...disk.withState(shot.guid, "TemporaryZeroSwap"),
    images: before.images.map((image) => ({ ...image, file: files.get(image.guid) ?? image.file })),
  };
  const prohibited = device.noResume;
  device.noResume = true;
  await device
    .serialize(() => clearShared(device))
    .catch((error: unknown) => {
      device.noResume = prohibited;
      throw error;
    });
  try {
    await disk.store(swapped);
    await device.serialize(() => flipUpperDeltas(device));
  } catch (error) {
    // The stack is in the old order, so the descriptor must be: until then resuming stays prohibited.
    await disk.store(before);
    device.noResume = prohibited;
    throw error;
  }
  device.noResume = prohibited;
}

/** Merges temporary snapshots that have one child left, and does interrupted merges again. For a disk at rest. */
export async function finishMerges(disk: DiskState): Promise<void> {
  for (;;) {
    const shot = disk.descriptor.shots.find(
      ({ guid, state }) => state !== undefined && disk.children(guid).length <= 1,
    );
    if (shot === undefined) return;
    const child = disk.children(shot.guid)[0];
    if (child !== undefined) await mergeChild(disk, shot, child);
    else await deleteLeaf(disk, shot);
  }
}

/** Deletes a snapshot without children. */
export async function deleteLeaf(disk: DiskState, shot: Shot, device?: PloopDevice): Promise<void> {
  const { topGuid, images, shots } = disk.descriptor;
  const isTop = sameGuid(shot.guid, topGuid);
  if (isTop && device !== undefined) throw refused("snapshot-delete", "EBUSY", "the top of a running disk stays");
  if (isTop && disk.shot(shot.parent)?.state !== undefined) {
    throw refused("snapshot-delete", "EINVAL", `the parent of the top, ${shot.parent}, is temporary`);
  }
  if (isTop && disk.children(shot.parent).length > 1) {
    throw refused("snapshot-delete", "EINVAL", "other snapshots are made of the parent; switch to it instead");
  }
  const { file } = disk.image(shot.guid);
  if (isTop) await forgetBitmaps(disk, shot.parent);
  // The parent of a deleted top becomes the top.
  const renamed = (guid: string): string => (isTop && sameGuid(guid, shot.parent) ? TOP_GUID : guid);
  await disk.store({
    ...disk.descriptor,
    topGuid: isTop ? TOP_GUID : topGuid,
    images: images
      .filter(({ guid }) => !sameGuid(guid, shot.guid))
      .map((image) => ({ ...image, guid: renamed(image.guid) })),
    shots: shots
      .filter(({ guid }) => !sameGuid(guid, shot.guid))
      .map((one) => ({ ...one, guid: renamed(one.guid), parent: renamed(one.parent) })),
  });
  await disk.directory.unlink(file);
}

/** What an image remembers of changes is of the time when it was the top; who goes back to it has to begin anew. */
async function forgetBitmaps(disk: DiskState, guid: string): Promise<void> {
  const image = disk.image(guid);
  if (disk.isRaw(image)) return;
  await disk.withFile(image.file, false, async (file) => dropExtension(await Delta.open(file)));
}
