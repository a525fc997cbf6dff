/**
 * A disk: a folder with DiskDescriptor.xml and the images it names.
 *
 * Changes of files and descriptor follow one pattern: the new descriptor is written aside (`.tmp`), files are made, the
 * descriptor is renamed into place, and only then are files deleted. A crash in between leaves the old disk, or the new one
 * and a file that nobody names. A merge overwrites the parent's file: before it the parent is marked `Temporary`, and the
 * next operation does the merge again.
 */
import { sendMessage } from "../device/messages.ts";
import { mergeIntoTop, notifyMerged } from "../device/operations/merge.ts";
import { snapshotTop, undoSnapshot } from "../device/operations/stack.ts";
import { PloopDevice, type PloopOpenOptions, type StackFile } from "../device/ploop-device.ts";
import { badArgument, refused } from "../errors.ts";
import type { ImageDirectory, ImageFile } from "../file/image-file.ts";
import {
  chainOf,
  checkDescriptor,
  DESCRIPTOR_NAME,
  type DescriptorImage,
  type DiskDescriptor,
  formatDescriptor,
  isGuid,
  NO_GUID,
  parseDescriptor,
  type Shot,
  sameGuid,
  TOP_GUID,
} from "../format/descriptor.ts";
import { geometryOf } from "../format/geometry.ts";
import { type FormatVersion, SECTOR, versionOf } from "../format/header.ts";
import { type CheckOptions, type CheckReport, checkImage } from "../image/check.ts";
import { type CreateImageOptions, createImage } from "../image/create.ts";
import { Delta } from "../image/delta.ts";
import { copyToRaw, growImage, mergeImages, type OfflineProgress, preallocateImage } from "../image/offline.ts";
import { convertImages } from "./convert-version.ts";

/** Snapshots of one disk. */
const SNAPSHOTS_MAX = 126;
const TEMPORARY_SUFFIX = ".tmp";

export interface DiskOptions {
  directory: ImageDirectory;
  /** Default `DiskDescriptor.xml`. */
  name?: string;
  /** A new random GUID, in braces. */
  newGuid: () => string;
}

export class PloopDisk {
  readonly directory: ImageDirectory;
  readonly name: string;
  readonly #newGuid: () => string;
  #descriptor: DiskDescriptor;

  private constructor({ directory, name = DESCRIPTOR_NAME, newGuid }: DiskOptions, descriptor: DiskDescriptor) {
    this.directory = directory;
    this.name = name;
    this.#newGuid = newGuid;
    this.#descriptor = descriptor;
  }

  /** Reads the descriptor. Throws `VDO_CORRUPT` for its text, `VDO_IO` (operation `open`) when it is not there. */
  static async load(options: DiskOptions): Promise<PloopDisk> {
    const { directory, name = DESCRIPTOR_NAME } = options;
    return new PloopDisk(options, parseDescriptor(await directory.readText(name), name));
  }

  /** Makes an image and a descriptor for it. Refused (EEXIST) where there is a descriptor. */
  static async create(options: DiskOptions & { file: string; image: CreateImageOptions }): Promise<PloopDisk> {
    const { directory, name = DESCRIPTOR_NAME, file, image } = options;
    if (await directory.exists(name)) throw refused("init", "EEXIST", `there is a ${name} already`);
    const created = await directory.create(file);
    try {
      const header = await createImage(created, image);
      const disk = new PloopDisk(options, {
        sizeSectors: header.sizeSectors,
        cylinders: header.cylinders,
        heads: header.heads,
        clusterSectors: header.clusterSectors,
        mode: image.mode ?? "expanded",
        images: [{ guid: TOP_GUID, file }],
        shots: [{ guid: TOP_GUID, parent: NO_GUID }],
        topGuid: TOP_GUID,
      });
      await disk.#store(disk.#descriptor);
      return disk;
    } catch (error) {
      await directory.unlink(file);
      throw error;
    } finally {
      await created.close();
    }
  }

  get descriptor(): Readonly<DiskDescriptor> {
    return this.#descriptor;
  }

  /** Images from the base to `guid` (default: the top). */
  chain(guid = this.#descriptor.topGuid): DescriptorImage[] {
    return chainOf(this.#descriptor, guid, this.name);
  }

  #isRaw(image: DescriptorImage): boolean {
    const shot = this.#shot(image.guid);
    return this.#descriptor.mode === "raw" && shot !== undefined && sameGuid(shot.parent, NO_GUID);
  }

  #shot(guid: string): Shot | undefined {
    return this.#descriptor.shots.find((shot) => sameGuid(shot.guid, guid));
  }

  #image(guid: string): DescriptorImage {
    const image = this.#descriptor.images.find((one) => sameGuid(one.guid, guid));
    if (image === undefined) throw refused("snapshot", "ENOENT", `there is no snapshot ${guid}`);
    return image;
  }

  #children(guid: string): Shot[] {
    return this.#descriptor.shots.filter(({ parent }) => sameGuid(parent, guid));
  }

  /** Opens the stack of `guid` (default: the top) as a device; a snapshot is opened read-only. */
  async open(options: Partial<PloopOpenOptions> & { guid?: string } = {}): Promise<PloopDevice> {
    const { guid = this.#descriptor.topGuid } = options;
    const readOnly = options.readOnly === true || !sameGuid(guid, this.#descriptor.topGuid);
    const chain = this.chain(guid);
    const opened: ImageFile[] = [];
    try {
      const deltas: StackFile[] = [];
      for (const [level, image] of chain.entries()) {
        const file = await this.directory.open(image.file, { readOnly: readOnly || level < chain.length - 1 });
        opened.push(file);
        deltas.push({ file, raw: this.#isRaw(image) });
      }
      return await PloopDevice.open({ ...options, deltas, readOnly });
    } catch (error) {
      for (const file of opened) await file.close();
      throw error;
    }
  }

  /** Checks the image of the top, or all of its stack: the lower ones as they are, read-only. */
  async check(options: CheckOptions = {}): Promise<{ file: string; report: CheckReport }[]> {
    const reports: { file: string; report: CheckReport }[] = [];
    const chain = this.chain();
    for (const [level, image] of chain.entries()) {
      if (this.#isRaw(image)) continue;
      const isTop = level === chain.length - 1;
      // An interrupted merge leaves the mark in a lower delta; else those are only looked at.
      const below = { force: true, dropInUse: options.dropInUse === true };
      await this.#withFile(image.file, !isTop && !below.dropInUse, async (file) => {
        reports.push({ file: image.file, report: await checkImage(file, isTop ? options : below) });
      });
    }
    return reports;
  }

  async #withFile<T>(name: string, readOnly: boolean, use: (file: ImageFile) => Promise<T>): Promise<T> {
    const file = await this.directory.open(name, { readOnly });
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  }

  async #store(descriptor: DiskDescriptor): Promise<void> {
    await this.#storeAside(descriptor);
    await this.#commit(descriptor);
  }

  async #storeAside(descriptor: DiskDescriptor): Promise<void> {
    checkDescriptor(descriptor, this.name);
    await this.directory.writeText(this.name + TEMPORARY_SUFFIX, formatDescriptor(descriptor));
  }

  async #commit(descriptor: DiskDescriptor): Promise<void> {
    await this.directory.rename(this.name + TEMPORARY_SUFFIX, this.name);
    this.#descriptor = descriptor;
  }

  /** Refuses to work on a stack that somebody runs, or that was not closed. */
  async #refuseInUse(): Promise<void> {
    for (const image of this.chain()) {
      if (this.#isRaw(image)) continue;
      await this.#withFile(image.file, true, async (file) => (await Delta.open(file)).refuseDirty());
    }
  }

  /** What a new delta of this disk has to be like. */
  async #shape(): Promise<CreateImageOptions> {
    const image = this.#image(this.#descriptor.topGuid);
    return this.#withFile(image.file, true, async (file) => {
      const { clusterSectors } = this.#descriptor;
      if (this.#isRaw(image)) return { version: 2 as FormatVersion, sizeSectors: file.length / SECTOR, clusterSectors };
      const { header } = await Delta.open(file);
      return { version: versionOf(header), sizeSectors: header.sizeSectors, clusterSectors: header.clusterSectors };
    });
  }

  #newFileName(): string {
    const base = (this.#descriptor.images[0] as DescriptorImage).file.replace(/\.\{[^}/]*\}$/, "");
    return `${base}.${this.#newGuid()}`;
  }

  /**
   * Freezes the disk as it is under a GUID (default: a new one); a new top takes the writes. With `device`, the running stack
   * of this disk, it is done under its feet: it is suspended until the descriptor is in place. Returns the GUID.
   */
  async snapshot({ guid = this.#newGuid(), device }: { guid?: string; device?: PloopDevice } = {}): Promise<string> {
    if (!isGuid(guid)) throw badArgument("guid", guid, "a GUID is {xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}");
    if (device === undefined) {
      await this.#refuseInUse();
      await this.finishMerges();
    }
    refuseBusy(device, "snapshot");
    if (this.#shot(guid) !== undefined) throw refused("snapshot", "EEXIST", `there is a snapshot ${guid}`);
    if (this.#descriptor.shots.length > SNAPSHOTS_MAX) {
      throw refused("snapshot", "EMFILE", `a disk has at most ${SNAPSHOTS_MAX} snapshots`);
    }
    const { topGuid, images, shots } = this.#descriptor;
    const renamed = (one: string): string => (sameGuid(one, topGuid) ? guid : one);
    const file = this.#newFileName();
    const descriptor: DiskDescriptor = {
      ...this.#descriptor,
      topGuid: TOP_GUID,
      images: [...images.map((image) => ({ ...image, guid: renamed(image.guid) })), { guid: TOP_GUID, file }],
      shots: [
        ...shots.map((shot) => ({ ...shot, guid: renamed(shot.guid), parent: renamed(shot.parent) })),
        { guid: TOP_GUID, parent: guid },
      ],
    };
    const shape = await this.#shape();
    await this.#storeAside(descriptor);
    const created = await this.directory.create(file);
    try {
      await createImage(created, shape);
      if (device !== undefined) await this.#snapshotRunning(device, created, descriptor);
      else await this.#commit(descriptor);
    } catch (error) {
      await created.close();
      if (this.#descriptor !== descriptor) await this.directory.unlink(file);
      throw error;
    }
    if (device === undefined) await created.close();
    return guid;
  }

  /** The descriptor is in place before the first write goes to the new top. */
  async #snapshotRunning(device: PloopDevice, file: ImageFile, descriptor: DiskDescriptor): Promise<void> {
    await device.suspend();
    try {
      await device.serialize(() => snapshotTop(device, file));
      try {
        await this.#commit(descriptor);
      } catch (error) {
        await device.serialize(() => undoSnapshot(device));
        throw error;
      }
    } finally {
      device.resume();
    }
  }

  /** Makes the disk what it was at a snapshot; what was written since is dropped, or kept as a snapshot of its own. */
  async switchTo(guid: string, { keep = false } = {}): Promise<void> {
    const { topGuid, images, shots } = this.#descriptor;
    if (sameGuid(guid, topGuid)) throw refused("snapshot-switch", "EINVAL", "nothing to do: it is the top");
    if (this.#shot(guid) === undefined) throw refused("snapshot-switch", "ENOENT", `there is no snapshot ${guid}`);
    if (this.#shot(guid)?.state !== undefined)
      throw refused("snapshot-switch", "EINVAL", `snapshot ${guid} is temporary`);
    await this.#refuseInUse();
    const old = this.#image(topGuid);
    const keptGuid = this.#newGuid();
    const kept = <T extends { guid: string }>(list: readonly T[]): T[] =>
      keep
        ? list.map((one) => (sameGuid(one.guid, topGuid) ? { ...one, guid: keptGuid } : one))
        : list.filter((one) => !sameGuid(one.guid, topGuid));
    const file = `${(images[0] as DescriptorImage).file}.${this.#newGuid()}`;
    const descriptor: DiskDescriptor = {
      ...this.#descriptor,
      topGuid: TOP_GUID,
      images: [...kept(images), { guid: TOP_GUID, file }],
      shots: [...kept(shots), { guid: TOP_GUID, parent: this.#image(guid).guid }],
    };
    const shape = await this.#shape();
    const target = this.#image(guid);
    if (!this.#isRaw(target)) {
      // A snapshot from before the disk grew is smaller.
      await this.#withFile(target.file, true, async (one) => {
        shape.sizeSectors = (await Delta.open(one)).header.sizeSectors;
      });
    }
    await this.#storeAside({ ...descriptor, ...geometryOf(shape.sizeSectors), sizeSectors: shape.sizeSectors });
    const created = await this.directory.create(file);
    try {
      await createImage(created, shape);
    } finally {
      await created.close();
    }
    await this.#commit({ ...descriptor, ...geometryOf(shape.sizeSectors), sizeSectors: shape.sizeSectors });
    if (!keep) await this.directory.unlink(old.file);
  }

  /**
   * Deletes a snapshot: its child is merged with it. One with several children is marked temporary, and goes when one child
   * is left. Resolves with what was done.
   */
  async deleteSnapshot(
    guid: string,
    { device, progress }: { device?: PloopDevice; progress?: OfflineProgress } = {},
  ): Promise<"deleted" | "merged" | "temporary"> {
    refuseBusy(device, "snapshot-delete");
    const shot = this.#shot(guid);
    if (shot === undefined) throw refused("snapshot-delete", "ENOENT", `there is no snapshot ${guid}`);
    if (device === undefined) await this.#refuseInUse();
    const children = this.#children(guid);
    if (children.length > 1) {
      await this.#store(this.#withState(guid, "Temporary"));
      return "temporary";
    }
    if (children.length === 1) {
      await this.#mergeChild(shot, children[0] as Shot, device, progress);
      return "merged";
    }
    if (sameGuid(shot.parent, NO_GUID)) throw refused("snapshot-delete", "EINVAL", "unable to delete the base image");
    await this.#deleteLeaf(shot, device);
    if (device === undefined) await this.finishMerges();
    return "deleted";
  }

  async #deleteLeaf(shot: Shot, device: PloopDevice | undefined): Promise<void> {
    const { topGuid, images, shots } = this.#descriptor;
    const isTop = sameGuid(shot.guid, topGuid);
    if (isTop && device !== undefined) throw refused("snapshot-delete", "EBUSY", "the top of a running disk stays");
    if (isTop && this.#shot(shot.parent)?.state !== undefined) {
      throw refused("snapshot-delete", "EINVAL", `the parent of the top, ${shot.parent}, is temporary`);
    }
    if (isTop && this.#children(shot.parent).length > 1) {
      throw refused("snapshot-delete", "EINVAL", "other snapshots are made of the parent; switch to it instead");
    }
    const { file } = this.#image(shot.guid);
    // The parent of a deleted top becomes the top.
    const renamed = (guid: string): string => (isTop && sameGuid(guid, shot.parent) ? TOP_GUID : guid);
    await this.#store({
      ...this.#descriptor,
      topGuid: isTop ? TOP_GUID : topGuid,
      images: images
        .filter(({ guid }) => !sameGuid(guid, shot.guid))
        .map((image) => ({ ...image, guid: renamed(image.guid) })),
      shots: shots
        .filter(({ guid }) => !sameGuid(guid, shot.guid))
        .map((one) => ({ ...one, guid: renamed(one.guid), parent: renamed(one.parent) })),
    });
    await this.directory.unlink(file);
  }

  #withState(guid: string, state: Shot["state"]): DiskDescriptor {
    return {
      ...this.#descriptor,
      shots: this.#descriptor.shots.map((shot) =>
        sameGuid(shot.guid, guid) && state !== undefined ? { ...shot, state } : shot,
      ),
    };
  }

  /** The child's GUID survives; offline the parent's file, into the running top the child's. */
  async #mergeChild(
    shot: Shot,
    child: Shot,
    device: PloopDevice | undefined,
    progress: OfflineProgress | undefined,
  ): Promise<void> {
    const parentImage = this.#image(shot.guid);
    const childImage = this.#image(child.guid);
    const raw = this.#isRaw(parentImage);
    const chain = this.chain();
    const level = chain.findIndex(({ guid }) => sameGuid(guid, child.guid));
    const runs = device !== undefined && level >= 0;
    const forward = runs && sameGuid(child.guid, this.#descriptor.topGuid);
    if (!forward && shot.state === undefined) await this.#store(this.#withState(shot.guid, "Temporary"));
    if (forward) await device.serialize(() => mergeIntoTop(device, progress));
    else {
      await this.#withFile(childImage.file, true, (source) =>
        this.#withFile(parentImage.file, false, (target) =>
          mergeImages({ sources: [source], target, raw, ...(progress === undefined ? {} : { progress }) }),
        ),
      );
      if (runs) await device.serialize(() => notifyMerged(device, "backward", level));
    }
    const file = forward ? childImage.file : parentImage.file;
    await this.#store({
      ...this.#descriptor,
      mode: forward && raw ? "expanded" : this.#descriptor.mode,
      images: this.#descriptor.images
        .filter(({ guid }) => !sameGuid(guid, shot.guid))
        .map((image) => (sameGuid(image.guid, child.guid) ? { ...image, file } : image)),
      shots: this.#descriptor.shots
        .filter(({ guid }) => !sameGuid(guid, shot.guid))
        .map((one) => (sameGuid(one.guid, child.guid) ? { ...one, parent: shot.parent } : one)),
    });
    await this.directory.unlink(forward ? parentImage.file : childImage.file);
  }

  /** Merges temporary snapshots that have one child left, and does interrupted merges again. */
  async finishMerges(): Promise<void> {
    for (;;) {
      const shot = this.#descriptor.shots.find(
        ({ guid, state }) => state === "Temporary" && this.#children(guid).length <= 1,
      );
      if (shot === undefined) return;
      const child = this.#children(shot.guid)[0];
      if (child !== undefined) await this.#mergeChild(shot, child, undefined, undefined);
      else await this.#deleteLeaf(shot, undefined);
    }
  }

  /** Makes the top hold `sectors`. With `device` while it runs; the device shows its new length when it resolves. */
  async grow(sectors: number, { device }: { device?: PloopDevice } = {}): Promise<void> {
    const image = this.#image(this.#descriptor.topGuid);
    const raw = this.#isRaw(image);
    refuseBusy(device, "resize");
    if (device === undefined) {
      await this.#refuseInUse();
      await this.#withFile(image.file, false, (file) => growImage(file, sectors, { raw }));
    } else {
      await sendMessage(device, ["resize", String(sectors)], { openFile: () => Promise.reject(new Error("no file")) });
      await device.suspend();
      device.reloadLength();
      device.resume();
    }
    await this.#store({ ...this.#descriptor, ...geometryOf(sectors), sizeSectors: sectors });
  }

  /**
   * Makes all images of the given version of the format. An interrupted conversion is undone, and refused (EBUSY) so that it
   * is started anew.
   */
  async convertVersion(version: FormatVersion): Promise<void> {
    const { mode, images, shots } = this.#descriptor;
    if (mode === "raw") throw refused("convert", "EINVAL", "a raw image has no version");
    const isBase = ({ guid }: DescriptorImage): boolean =>
      shots.some((shot) => sameGuid(shot.guid, guid) && sameGuid(shot.parent, NO_GUID));
    const ordered = [...images].sort((a, b) => Number(isBase(b)) - Number(isBase(a)));
    const names = ordered.map(({ file }) => file);
    await convertImages(this.directory, names, version);
  }

  /** Makes the disk preallocated, expanded, or raw. Only a disk of one image can become preallocated or raw. */
  async convert(mode: DiskDescriptor["mode"], progress?: OfflineProgress): Promise<void> {
    const { mode: now, images } = this.#descriptor;
    if (mode === now) return;
    await this.#refuseInUse();
    if (now === "raw") throw refused("convert", "ENOTSUPP", "converting a raw image is not supported; make a snapshot");
    if (images.length > 1 && mode !== "expanded")
      throw refused("convert", "EINVAL", "the disk has snapshots; merge them first");
    const { file } = images[0] as DescriptorImage;
    if (mode === "preallocated") await this.#withFile(file, false, (one) => preallocateImage(one, progress));
    if (mode === "raw") {
      const device = await this.open({ readOnly: true });
      const target = await this.directory.create(file + TEMPORARY_SUFFIX);
      try {
        await copyToRaw(device, target, progress);
      } finally {
        await target.close();
        await device.close();
      }
      await this.directory.rename(file + TEMPORARY_SUFFIX, file);
    }
    await this.#store({ ...this.#descriptor, mode });
  }
}

/** The stack of `device` has to stay as it is: it is read-only, maybe of a snapshot, or being copied. */
function refuseBusy(device: PloopDevice | undefined, operation: string): void {
  if (device?.readOnly === true) throw refused(operation, "EROFS", "the disk runs read-only; stop it first");
  device?.refuseMaintenance(operation);
}
