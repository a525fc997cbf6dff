/**
 * Snapshots of a disk: taken, switched to, deleted.
 *
 * The new descriptor is written aside, files are made, the descriptor is renamed into place, and only then are files deleted.
 * A crash in between leaves the old disk, or the new one and a file that nobody names.
 */
import { snapshotTop, undoSnapshot } from "../device/operations/stack.ts";
import type { PloopDevice } from "../device/ploop-device.ts";
import { badArgument, refused } from "../errors.ts";
import type { ImageFile } from "../file/image-file.ts";
import {
  type DescriptorImage,
  type DiskDescriptor,
  isGuid,
  NO_GUID,
  type Shot,
  sameGuid,
  TOP_GUID,
} from "../format/descriptor.ts";
import { geometryOf } from "../format/geometry.ts";
import { createImage } from "../image/create.ts";
import { Delta } from "../image/delta.ts";
import { DirtyBitmap } from "../image/dirty-bitmap.ts";
import { loadExtensionOrNone, noExtension, saveExtension } from "../image/extension-store.ts";
import { type DiskState, refuseBusy, whileSuspended } from "./disk-state.ts";
import { deleteLeaf, finishMerges, type MergeContext, mergeChild } from "./merge-child.ts";

/** Snapshots of one disk. */
const SNAPSHOTS_MAX = 126;

export interface SnapshotOptions {
  /** Default: a new one. */
  guid?: string;
  /** The running stack of the disk. */
  device?: PloopDevice;
  /** UUID of a dirty bitmap that begins with the snapshot, without braces. */
  bitmap?: string;
}

/**
 * Freezes the disk as it is under a GUID (default: a new one); a new top takes the writes. With `device`, the running stack
 * of this disk, it is done under its feet: it is suspended until the descriptor is in place. Returns the GUID.
 */
export async function takeSnapshot(
  disk: DiskState,
  { guid = disk.newGuid(), device, bitmap }: SnapshotOptions,
): Promise<string> {
  if (!isGuid(guid)) throw badArgument("guid", guid, "a GUID is {xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}");
  if (device === undefined) {
    await disk.refuseInUse();
    await finishMerges(disk);
  }
  refuseBusy(device, "snapshot");
  if (disk.shot(guid) !== undefined) throw refused("snapshot", "EEXIST", `there is a snapshot ${guid}`);
  if (disk.descriptor.shots.length > SNAPSHOTS_MAX) {
    throw refused("snapshot", "EMFILE", `a disk has at most ${SNAPSHOTS_MAX} snapshots`);
  }
  const { topGuid, images, shots } = disk.descriptor;
  const renamed = (one: string): string => (sameGuid(one, topGuid) ? guid : one);
  const file = disk.newFileName();
  const descriptor: DiskDescriptor = {
    ...disk.descriptor,
    topGuid: TOP_GUID,
    images: [...images.map((image) => ({ ...image, guid: renamed(image.guid) })), { guid: TOP_GUID, file }],
    shots: [
      ...shots.map((shot) => ({ ...shot, guid: renamed(shot.guid), parent: renamed(shot.parent) })),
      { guid: TOP_GUID, parent: guid },
    ],
  };
  const shape = await disk.shape();
  await disk.storeAside(descriptor);
  const created = await disk.directory.create(file);
  try {
    await createImage(created, shape);
    if (device !== undefined) await snapshotRunning(disk, device, { file: created, descriptor, bitmap });
    else {
      await moveBitmaps(disk, topGuid, created, bitmap);
      await disk.commit(descriptor);
    }
  } catch (error) {
    await created.close();
    if (disk.descriptor !== descriptor) await disk.directory.unlink(file);
    throw error;
  }
  if (device === undefined) await created.close();
  return guid;
}

/** The descriptor is in place before the first write goes to the new top. */
async function snapshotRunning(
  disk: DiskState,
  device: PloopDevice,
  { file, descriptor, bitmap }: { file: ImageFile; descriptor: DiskDescriptor; bitmap: string | undefined },
): Promise<void> {
  await whileSuspended(device, async () => {
    await device.serialize(() => snapshotTop(device, file));
    try {
      await disk.commit(descriptor);
    } catch (error) {
      await device.serialize(() => undoSnapshot(device));
      throw error;
    }
    if (bitmap !== undefined) startBitmap(device, bitmap);
  });
}

/** The bitmaps of the image that was the top go on in the new one, with one that begins now. */
async function moveBitmaps(
  disk: DiskState,
  oldGuid: string,
  file: ImageFile,
  added: string | undefined,
): Promise<void> {
  const old = disk.image(oldGuid);
  const fresh = await Delta.open(file);
  const extension = disk.isRaw(old)
    ? noExtension()
    : await disk.withFile(old.file, true, async (one) => loadExtensionOrNone(await Delta.open(one)));
  const { sizeSectors } = fresh.header;
  const kept = extension.bitmaps.filter((one) => one.sizeSectors === sizeSectors && one.uuid !== added);
  if (added !== undefined) kept.push(new DirtyBitmap({ uuid: added, sizeSectors }));
  await saveExtension(fresh, { ...extension, bitmaps: kept });
}

/** Begins a bitmap on a running stack; one of the same UUID begins anew. */
function startBitmap(device: PloopDevice, uuid: string): void {
  const { bitmaps, engine } = device;
  if (bitmaps.list.some((one) => one.uuid === uuid)) bitmaps.drop(uuid);
  bitmaps.start({ uuid, sizeSectors: engine.top.header.sizeSectors });
}

/** Makes the disk what it was at a snapshot; what was written since is dropped, or kept as a snapshot of its own. */
export async function switchToSnapshot(disk: DiskState, guid: string, { keep = false } = {}): Promise<void> {
  const { topGuid, images, shots } = disk.descriptor;
  if (sameGuid(guid, topGuid)) throw refused("snapshot-switch", "EINVAL", "nothing to do: it is the top");
  if (disk.shot(guid) === undefined) throw refused("snapshot-switch", "ENOENT", `there is no snapshot ${guid}`);
  if (disk.shot(guid)?.state !== undefined) throw refused("snapshot-switch", "EINVAL", `snapshot ${guid} is temporary`);
  await disk.refuseInUse();
  const old = disk.image(topGuid);
  const keptGuid = disk.newGuid();
  const kept = <T extends { guid: string }>(list: readonly T[]): T[] =>
    keep
      ? list.map((one) => (sameGuid(one.guid, topGuid) ? { ...one, guid: keptGuid } : one))
      : list.filter((one) => !sameGuid(one.guid, topGuid));
  const file = `${(images[0] as DescriptorImage).file}.${disk.newGuid()}`;
  const descriptor: DiskDescriptor = {
    ...disk.descriptor,
    topGuid: TOP_GUID,
    images: [...kept(images), { guid: TOP_GUID, file }],
    shots: [...kept(shots), { guid: TOP_GUID, parent: disk.image(guid).guid }],
  };
  const shape = await disk.shape();
  const target = disk.image(guid);
  if (!disk.isRaw(target)) {
    // A snapshot from before the disk grew is smaller.
    await disk.withFile(target.file, true, async (one) => {
      shape.sizeSectors = (await Delta.open(one)).header.sizeSectors;
    });
  }
  await disk.storeAside({ ...descriptor, ...geometryOf(shape.sizeSectors), sizeSectors: shape.sizeSectors });
  const created = await disk.directory.create(file);
  try {
    await createImage(created, shape);
  } finally {
    await created.close();
  }
  await disk.commit({ ...descriptor, ...geometryOf(shape.sizeSectors), sizeSectors: shape.sizeSectors });
  if (!keep) await disk.directory.unlink(old.file);
}

/**
 * Deletes a snapshot: its child is merged with it. One with several children is marked temporary, and goes when one child
 * is left. Resolves with what was done.
 */
export async function deleteSnapshot(
  disk: DiskState,
  guid: string,
  context: MergeContext,
): Promise<"deleted" | "merged" | "temporary"> {
  const { device } = context;
  refuseBusy(device, "snapshot-delete");
  const shot = disk.shot(guid);
  if (shot === undefined) throw refused("snapshot-delete", "ENOENT", `there is no snapshot ${guid}`);
  if (device === undefined) await disk.refuseInUse();
  const children = disk.children(guid);
  if (children.length > 1) {
    await disk.store(disk.withState(guid, "Temporary"));
    return "temporary";
  }
  if (children.length === 1) {
    await mergeChild(disk, shot, children[0] as Shot, context);
    return "merged";
  }
  if (sameGuid(shot.parent, NO_GUID)) throw refused("snapshot-delete", "EINVAL", "unable to delete the base image");
  await deleteLeaf(disk, shot, device);
  if (device === undefined) await finishMerges(disk);
  return "deleted";
}
