/** A disk's descriptor in memory, its files, and the ways to change both. For the operations of {@link PloopDisk}. */

import type { PloopDevice } from "../device/ploop-device.ts";
import { refused } from "../errors.ts";
import type { ImageDirectory, ImageFile } from "../file/image-file.ts";
import {
  chainOf,
  checkDescriptor,
  DESCRIPTOR_NAME,
  type DescriptorImage,
  type DiskDescriptor,
  formatDescriptor,
  NO_GUID,
  type Shot,
  sameGuid,
} from "../format/descriptor.ts";
import { type FormatVersion, SECTOR, versionOf } from "../format/header.ts";
import type { CreateImageOptions } from "../image/create.ts";
import { Delta } from "../image/delta.ts";

export const TEMPORARY_SUFFIX = ".tmp";

export interface DiskOptions {
  directory: ImageDirectory;
  /** Default `DiskDescriptor.xml`. */
  name?: string;
  /** A new random GUID, in braces. */
  newGuid: () => string;
}

export class DiskState {
  readonly directory: ImageDirectory;
  readonly name: string;
  readonly newGuid: () => string;
  #descriptor: DiskDescriptor;

  constructor({ directory, name = DESCRIPTOR_NAME, newGuid }: DiskOptions, descriptor: DiskDescriptor) {
    this.directory = directory;
    this.name = name;
    this.newGuid = newGuid;
    this.#descriptor = descriptor;
  }

  get descriptor(): Readonly<DiskDescriptor> {
    return this.#descriptor;
  }

  /** Images from the base to `guid` (default: the top). */
  chain(guid = this.#descriptor.topGuid): DescriptorImage[] {
    return chainOf(this.#descriptor, guid, this.name);
  }

  /** A plain image: the base of a raw disk. */
  isRaw(image: DescriptorImage): boolean {
    const shot = this.shot(image.guid);
    return this.#descriptor.mode === "raw" && shot !== undefined && sameGuid(shot.parent, NO_GUID);
  }

  shot(guid: string): Shot | undefined {
    return this.#descriptor.shots.find((shot) => sameGuid(shot.guid, guid));
  }

  /** Throws `VDO_PLOOP_REFUSED` (ENOENT). */
  image(guid: string): DescriptorImage {
    const image = this.#descriptor.images.find((one) => sameGuid(one.guid, guid));
    if (image === undefined) throw refused("snapshot", "ENOENT", `there is no snapshot ${guid}`);
    return image;
  }

  children(guid: string): Shot[] {
    return this.#descriptor.shots.filter(({ parent }) => sameGuid(parent, guid));
  }

  async withFile<T>(name: string, readOnly: boolean, use: (file: ImageFile) => Promise<T>): Promise<T> {
    const file = await this.directory.open(name, { readOnly });
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  }

  /** Writes the descriptor aside, and renames it into place. */
  async store(descriptor: DiskDescriptor): Promise<void> {
    await this.storeAside(descriptor);
    await this.commit(descriptor);
  }

  async storeAside(descriptor: DiskDescriptor): Promise<void> {
    checkDescriptor(descriptor, this.name);
    await this.directory.writeText(this.name + TEMPORARY_SUFFIX, formatDescriptor(descriptor));
  }

  async commit(descriptor: DiskDescriptor): Promise<void> {
    await this.directory.rename(this.name + TEMPORARY_SUFFIX, this.name);
    this.#descriptor = descriptor;
  }

  /** The descriptor with another state of one shot. */
  withState(guid: string, state: NonNullable<Shot["state"]>): DiskDescriptor {
    const shots = this.#descriptor.shots.map((shot) => (sameGuid(shot.guid, guid) ? { ...shot, state } : shot));
    return { ...this.#descriptor, shots };
  }

  /** Refuses to work on a stack that somebody runs, or that was not closed. */
  async refuseInUse(): Promise<void> {
    for (const image of this.chain()) {
      if (this.isRaw(image)) continue;
      await this.withFile(image.file, true, async (file) => (await Delta.open(file)).refuseDirty());
    }
  }

  /** What a new delta of this disk has to be like. */
  async shape(): Promise<CreateImageOptions> {
    const image = this.image(this.#descriptor.topGuid);
    return this.withFile(image.file, true, async (file) => {
      const { clusterSectors } = this.#descriptor;
      if (this.isRaw(image)) return { version: 2 as FormatVersion, sizeSectors: file.length / SECTOR, clusterSectors };
      const { header } = await Delta.open(file);
      return { version: versionOf(header), sizeSectors: header.sizeSectors, clusterSectors: header.clusterSectors };
    });
  }

  newFileName(): string {
    const base = (this.#descriptor.images[0] as DescriptorImage).file.replace(/\.\{[^}/]*\}$/, "");
    return `${base}.${this.newGuid()}`;
  }
}

/** The stack of `device` has to stay as it is: it is read-only, maybe of a snapshot, or being copied. */
export function refuseBusy(device: PloopDevice | undefined, operation: string): void {
  if (device?.readOnly === true) throw refused(operation, "EROFS", "the disk runs read-only; stop it first");
  device?.refuseMaintenance(operation);
}

/** Does `work` while requests are held; a device that was suspended before, or may not be resumed, stays so. */
export async function whileSuspended<T>(device: PloopDevice, work: () => Promise<T>): Promise<T> {
  const before = device.isSuspended;
  await device.suspend();
  try {
    return await work();
  } finally {
    if (!before && !device.noResume) device.resume();
  }
}
