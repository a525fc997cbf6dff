/** The dirty bitmaps of a running stack, and what else its top's format extension held. */
import { badArgument, refused } from "../errors.ts";
import { SECTOR } from "../format/header.ts";
import type { Delta } from "../image/delta.ts";
import { DirtyBitmap, type DirtyRange } from "../image/dirty-bitmap.ts";
import { type ImageExtension, saveExtension } from "../image/extension-store.ts";

/** Each costs memory, and a look at every write. */
const BITMAPS_MAX = 32;

export class BitmapSet {
  #extension: ImageExtension;
  readonly #readOnly: boolean;

  constructor(extension: ImageExtension, readOnly: boolean) {
    this.#extension = extension;
    this.#readOnly = readOnly;
  }

  get list(): readonly DirtyBitmap[] {
    return this.#extension.bitmaps;
  }

  /** Notes what changes from now on. Throws `VDO_PLOOP_REFUSED` (EEXIST, EROFS), `VDO_BAD_ARGUMENT`. */
  start(options: { uuid: string; sizeSectors: number; granularity?: number }): DirtyBitmap {
    if (this.#readOnly) throw refused("bitmap", "EROFS", "the device is read-only");
    const { uuid } = options;
    if (this.list.some((one) => one.uuid === uuid)) throw refused("bitmap", "EEXIST", `there is a bitmap ${uuid}`);
    if (this.list.length >= BITMAPS_MAX) throw badArgument("uuid", uuid, `a disk has at most ${BITMAPS_MAX} bitmaps`);
    const bitmap = new DirtyBitmap(options);
    this.#extension.bitmaps.push(bitmap);
    return bitmap;
  }

  /** Throws `VDO_PLOOP_REFUSED` (ENOENT). */
  get(uuid: string): DirtyBitmap {
    const bitmap = this.list.find((one) => one.uuid === uuid);
    if (bitmap === undefined) throw refused("bitmap", "ENOENT", `there is no bitmap ${uuid}`);
    return bitmap;
  }

  /** What changed; from now on the bitmap is clean. An incremental backup begins with it, on a suspended device. */
  take(uuid: string): DirtyRange[] {
    const bitmap = this.get(uuid);
    const ranges = bitmap.ranges();
    bitmap.clear();
    return ranges;
  }

  /** Gives a bitmap up. Throws `VDO_PLOOP_REFUSED` (ENOENT). */
  drop(uuid: string): void {
    const { bitmaps } = this.#extension;
    bitmaps.splice(bitmaps.indexOf(this.get(uuid)), 1);
  }

  /** For merges at rest: the child's bitmaps are the image's now. */
  replace(extension: ImageExtension): void {
    this.#extension = extension;
  }

  /** `count` blocks of `blockSize` bytes changed. */
  mark(start: number, count: number, blockSize: number): void {
    const sectors = blockSize / SECTOR;
    for (const bitmap of this.#extension.bitmaps) bitmap.mark(start * sectors, count * sectors);
  }

  resize(sectors: number): void {
    for (const bitmap of this.#extension.bitmaps) bitmap.resize(sectors);
  }

  /** Into a top that was closed. */
  save(top: Delta): Promise<void> {
    return saveExtension(top, this.#extension);
  }
}
