/**
 * A disk: a folder with DiskDescriptor.xml and the images it names.
 *
 * Changes of files and descriptor follow one pattern: the new descriptor is written aside (`.tmp`), files are made, the
 * descriptor is renamed into place, and only then are files deleted. A crash in between leaves the old disk, or the new one
 * and a file that nobody names. A merge overwrites the parent's file: before it the parent is marked `Temporary`, and the
 * next operation does the merge again.
 */
import { isVdoError } from "@vdo/base";
import { type MessageHost, sendMessage } from "../device/messages.ts";
import type { StackFile } from "../device/open-stack.ts";
import { PloopDevice, type PloopOpenOptions } from "../device/ploop-device.ts";
import { corrupt, refused } from "../errors.ts";
import type { ImageDirectory, ImageFile } from "../file/image-file.ts";
import {
  DESCRIPTOR_NAME,
  type DescriptorImage,
  type DiskDescriptor,
  NO_GUID,
  parseDescriptor,
  sameGuid,
  TOP_GUID,
} from "../format/descriptor.ts";
import { geometryOf } from "../format/geometry.ts";
import { type FormatVersion, SECTOR } from "../format/header.ts";
import { type CheckOptions, type CheckReport, checkImage } from "../image/check.ts";
import { type CreateImageOptions, createImage } from "../image/create.ts";
import { Delta } from "../image/delta.ts";
import type { DirtyBitmap } from "../image/dirty-bitmap.ts";
import { loadExtension } from "../image/extension-store.ts";
import { copyToRaw, growImage, type OfflineProgress, preallocateImage } from "../image/offline.ts";
import { convertImages } from "./convert-version.ts";
import { changesDescriptor, sendToDisk } from "./disk-messages.ts";
import { type DiskOptions, DiskState, refuseBusy, TEMPORARY_SUFFIX, whileSuspended } from "./disk-state.ts";
import { finishMerges, type MergeContext } from "./merge-child.ts";
import { deleteSnapshot, type SnapshotOptions, switchToSnapshot, takeSnapshot } from "./snapshots.ts";

export interface DiskCheckOptions extends CheckOptions {
  /** Change nothing. */
  readOnly?: boolean;
  /** The stack of a snapshot instead of the top's. */
  guid?: string;
}

export class PloopDisk {
  readonly #state: DiskState;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(options: DiskOptions, descriptor: DiskDescriptor) {
    this.#state = new DiskState(options, descriptor);
  }

  get directory(): ImageDirectory {
    return this.#state.directory;
  }

  /** Of the descriptor. */
  get name(): string {
    return this.#state.name;
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
      await disk.#state.store(disk.descriptor);
      return disk;
    } catch (error) {
      await directory.unlink(file);
      throw error;
    } finally {
      await created.close();
    }
  }

  /** Operations that change the descriptor follow each other. */
  #exclusive<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(operation);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  get descriptor(): Readonly<DiskDescriptor> {
    return this.#state.descriptor;
  }

  /** Images from the base to `guid` (default: the top). */
  chain(guid?: string): DescriptorImage[] {
    return this.#state.chain(guid);
  }

  /** Opens the stack of `guid` (default: the top) as a device; a snapshot is opened read-only. */
  async open(options: Partial<PloopOpenOptions> & { guid?: string } = {}): Promise<PloopDevice> {
    const { guid = this.#state.descriptor.topGuid } = options;
    const readOnly = options.readOnly === true || !sameGuid(guid, this.#state.descriptor.topGuid);
    const chain = this.chain(guid);
    const opened: ImageFile[] = [];
    try {
      const deltas: StackFile[] = [];
      for (const [level, image] of chain.entries()) {
        const file = await this.directory.open(image.file, { readOnly: readOnly || level < chain.length - 1 });
        opened.push(file);
        const raw = this.#state.isRaw(image);
        await this.#checkKind(file, raw);
        deltas.push({ file, raw });
      }
      return await PloopDevice.open({ ...options, deltas, readOnly });
    } catch (error) {
      for (const file of opened) await file.close();
      throw error;
    }
  }

  /** The descriptor's type and cluster size of an image must be the image's: it would be read as something else. */
  async #checkKind(file: ImageFile, raw: boolean): Promise<void> {
    const { clusterSectors, sizeSectors } = this.#state.descriptor;
    if (!raw) {
      const { header } = await Delta.open(file);
      if (header.clusterSectors === clusterSectors) return;
      throw corrupt(this.name, "Blocksize", `${header.clusterSectors}, as of ${file.name}`, clusterSectors);
    }
    // A plain image may begin with anything that its user wrote; but then it has the length of the disk.
    if (file.length >= sizeSectors * SECTOR) return;
    const found = await Delta.open(file).catch((error: unknown) => {
      if (isVdoError(error, "VDO_CORRUPT")) return undefined;
      throw error;
    });
    if (found !== undefined) throw corrupt(this.name, "Type", `Compressed, as ${file.name} is`, "Plain");
  }

  /** Checks the image of the top, or all of its stack: the lower ones as they are, read-only. */
  async check(options: DiskCheckOptions = {}): Promise<{ file: string; report: CheckReport }[]> {
    const reports: { file: string; report: CheckReport }[] = [];
    const chain = this.chain(options.guid);
    if (options.guid === undefined) await this.#checkSize(options, reports);
    for (const [level, image] of chain.entries()) {
      if (this.#state.isRaw(image)) continue;
      const isTop = level === chain.length - 1;
      // An interrupted merge leaves the mark in a lower delta; else those are only looked at.
      const below = { force: true, dropInUse: options.dropInUse === true };
      await this.#state.withFile(
        image.file,
        options.readOnly === true || (!isTop && !below.dropInUse),
        async (file) => {
          reports.push({ file: image.file, report: await checkImage(file, isTop ? options : below) });
        },
      );
    }
    return reports;
  }

  /** The sizes in the descriptor are those of the top: a power cut while it grew leaves the old ones. */
  async #checkSize({ readOnly }: DiskCheckOptions, reports: { file: string; report: CheckReport }[]): Promise<void> {
    const top = this.chain().at(-1) as DescriptorImage;
    const raw = this.#state.isRaw(top);
    const size = await this.#state.withFile(top.file, true, async (file) =>
      raw ? file.length / SECTOR : await headerSize(file),
    );
    const { sizeSectors } = this.#state.descriptor;
    if (size === undefined || size === sizeSectors) return;
    const text = `it is ${sizeSectors} sectors, the top image has ${size}`;
    const outcome = readOnly === true ? "Skipped" : "Fixed";
    const findings = [{ place: "Disk_size", text, outcome }] as const;
    if (outcome === "Fixed") {
      await this.#state.store({ ...this.#state.descriptor, ...geometryOf(size), sizeSectors: size });
    }
    const result = outcome === "Fixed" ? "repaired" : "damaged";
    const report = { result, skipped: false, findings: [...findings], usedClusters: 0, unusedClusters: 0 } as const;
    reports.push({ file: this.name, report: { ...report, findings: [...findings] } });
  }

  /**
   * Freezes the disk as it is under a GUID; a new top takes the writes. With `device`, the running stack of this disk, it is
   * done under its feet: it is suspended until the descriptor is in place. Returns the GUID.
   */
  snapshot(options: SnapshotOptions = {}): Promise<string> {
    return this.#exclusive(() => takeSnapshot(this.#state, options));
  }

  /** Makes the disk what it was at a snapshot; what was written since is dropped, or kept as a snapshot of its own. */
  switchTo(guid: string, options: { keep?: boolean } = {}): Promise<void> {
    return this.#exclusive(() => switchToSnapshot(this.#state, guid, options));
  }

  /**
   * Deletes a snapshot: its child is merged with it. One with several children is marked temporary, and goes when one child
   * is left. Resolves with what was done.
   */
  deleteSnapshot(guid: string, context: MergeContext = {}): Promise<"deleted" | "merged" | "temporary"> {
    return this.#exclusive(() => deleteSnapshot(this.#state, guid, context));
  }

  /** Merges temporary snapshots that have one child left, and does interrupted merges again. */
  finishMerges(): Promise<void> {
    return this.#exclusive(() => finishMerges(this.#state));
  }

  /**
   * Sends a message to `device`, the running stack of this disk, and keeps the descriptor in step with it. Throws
   * `VDO_PLOOP_REFUSED`.
   */
  message(device: PloopDevice, words: readonly string[], host: MessageHost): Promise<string> {
    const send = (): Promise<string> => sendToDisk(this.#state, device, words, host);
    return changesDescriptor(words) ? this.#exclusive(send) : send();
  }

  /** The dirty bitmaps of a disk at rest. Throws `VDO_CORRUPT` for damaged ones, `VDO_PLOOP_DIRTY` while it is open. */
  async bitmaps(): Promise<DirtyBitmap[]> {
    const image = this.chain().at(-1) as DescriptorImage;
    if (this.#state.isRaw(image)) return [];
    return this.#state.withFile(image.file, true, async (file) => {
      const delta = await Delta.open(file);
      delta.refuseDirty();
      return (await loadExtension(delta)).bitmaps;
    });
  }

  /** Makes the top hold `sectors`. With `device` while it runs; the device shows its new length when it resolves. */
  grow(sectors: number, { device }: { device?: PloopDevice } = {}): Promise<void> {
    return this.#exclusive(() => this.#grow(sectors, device));
  }

  async #grow(sectors: number, device: PloopDevice | undefined): Promise<void> {
    const image = this.#state.image(this.#state.descriptor.topGuid);
    const raw = this.#state.isRaw(image);
    refuseBusy(device, "resize");
    if (device === undefined) {
      await this.#state.refuseInUse();
      const { clusterSectors } = this.#state.descriptor;
      if (raw && sectors % clusterSectors !== 0) {
        throw refused("resize", "EINVAL", `a size is a multiple of ${clusterSectors} sectors`);
      }
      await this.#state.withFile(image.file, false, (file) => growImage(file, sectors, { raw }));
    } else {
      await sendMessage(device, ["resize", String(sectors)], { openFile: () => Promise.reject(new Error("no file")) });
      await whileSuspended(device, async () => device.reloadLength());
    }
    await this.#state.store({ ...this.#state.descriptor, ...geometryOf(sectors), sizeSectors: sectors });
  }

  /**
   * Makes a plain disk smaller; what lies beyond is lost. Other disks keep their size: the format has no way to take entries
   * back. Throws `VDO_PLOOP_REFUSED` (EINVAL).
   */
  async shrink(sectors: number): Promise<void> {
    const { images, clusterSectors, sizeSectors, mode } = this.#state.descriptor;
    const bad = (why: string): Error => refused("resize", "EINVAL", why);
    if (mode !== "raw" || images.length > 1) throw bad("only a plain disk without snapshots gets smaller");
    if (sectors % clusterSectors !== 0 || sectors <= 0) throw bad(`a size is a multiple of ${clusterSectors} sectors`);
    if (sectors > sizeSectors) throw bad("it is larger than the disk");
    await this.#state.store({ ...this.#state.descriptor, ...geometryOf(sectors), sizeSectors: sectors });
    await this.#state.withFile((images[0] as DescriptorImage).file, false, async (file) => {
      await file.setLength(sectors * SECTOR);
      await file.flush();
    });
  }

  /**
   * Makes all images of the given version of the format. An interrupted conversion is undone, and refused (EBUSY) so that it
   * is started anew.
   */
  async convertVersion(version: FormatVersion): Promise<void> {
    const { mode, images, shots } = this.#state.descriptor;
    if (mode === "raw") throw refused("convert", "EINVAL", "a raw image has no version");
    const isBase = ({ guid }: DescriptorImage): boolean =>
      shots.some((shot) => sameGuid(shot.guid, guid) && sameGuid(shot.parent, NO_GUID));
    const ordered = [...images].sort((a, b) => Number(isBase(b)) - Number(isBase(a)));
    const names = ordered.map(({ file }) => file);
    await convertImages(this.directory, names, version);
  }

  /** Makes the disk preallocated, expanded, or raw. Only a disk of one image can become preallocated or raw. */
  async convert(mode: DiskDescriptor["mode"], progress?: OfflineProgress): Promise<void> {
    const { mode: now, images } = this.#state.descriptor;
    if (mode === now) return;
    await this.#state.refuseInUse();
    if (now === "raw") throw refused("convert", "ENOTSUPP", "converting a raw image is not supported; make a snapshot");
    if (images.length > 1 && mode !== "expanded")
      throw refused("convert", "EINVAL", "the disk has snapshots; merge them first");
    const { file } = images[0] as DescriptorImage;
    if (mode === "preallocated") await this.#state.withFile(file, false, (one) => preallocateImage(one, progress));
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
    await this.#state.store({ ...this.#state.descriptor, mode });
  }
}

/** Sectors that an image's header says; undefined when it is damaged, which its own check tells. */
async function headerSize(file: ImageFile): Promise<number | undefined> {
  try {
    return (await Delta.open(file, { repairable: true })).header.sizeSectors;
  } catch (error) {
    if (isVdoError(error, "VDO_CORRUPT")) return undefined;
    throw error;
  }
}
