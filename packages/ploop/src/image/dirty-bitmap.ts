/**
 * Which parts of a disk changed since the bitmap was started or cleared: what an incremental backup has to copy. It lives in
 * memory while the disk runs, and in the top image's format extension while it rests.
 *
 * A part is marked before its write is acknowledged. What is not known counts as changed.
 */
import { badArgument } from "../errors.ts";
import { bitmapBytes, isGranularity } from "../format/extension.ts";
import { ceilDiv } from "../format/header.ts";

export interface DirtyBitmapOptions {
  /** 36 characters, without braces. */
  uuid: string;
  sizeSectors: number;
  /** Sectors of one bit, a power of two. Default 128, 64 KiB. */
  granularity?: number;
}

/** A run of sectors that changed. */
export interface DirtyRange {
  startSector: number;
  sectors: number;
}

export const BITMAP_GRANULARITY = 128;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export class DirtyBitmap {
  readonly uuid: string;
  readonly granularity: number;
  #sizeSectors: number;
  #bytes: Uint8Array;

  /** All clean. Throws `VDO_BAD_ARGUMENT`. */
  constructor({ uuid, sizeSectors, granularity = BITMAP_GRANULARITY }: DirtyBitmapOptions) {
    if (!UUID.test(uuid)) throw badArgument("uuid", uuid, "a UUID is xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    if (!isGranularity(granularity)) {
      throw badArgument("granularity", granularity, "a granularity is a power of two of sectors");
    }
    this.uuid = uuid;
    this.granularity = granularity;
    this.#sizeSectors = sizeSectors;
    this.#bytes = new Uint8Array(bitmapBytes(sizeSectors, granularity));
  }

  /** One with the bits as stored: bit b is bit b mod 8 of byte b div 8. */
  static from(options: DirtyBitmapOptions, bytes: Uint8Array): DirtyBitmap {
    const bitmap = new DirtyBitmap(options);
    bitmap.#bytes.set(bytes.subarray(0, bitmap.#bytes.length));
    bitmap.#clearTail();
    return bitmap;
  }

  get sizeSectors(): number {
    return this.#sizeSectors;
  }

  /** The bits as they are stored. Not to be changed. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get #bitCount(): number {
    return ceilDiv(this.#sizeSectors, this.granularity);
  }

  mark(startSector: number, sectors: number): void {
    if (sectors <= 0) return;
    const bytes = this.#bytes;
    const last = Math.floor((startSector + sectors - 1) / this.granularity);
    for (let bit = Math.floor(startSector / this.granularity); bit <= last; bit++) {
      bytes[bit >>> 3] = (bytes[bit >>> 3] as number) | (1 << (bit & 7));
    }
  }

  isMarked(bit: number): boolean {
    return (((this.#bytes[bit >>> 3] as number) >>> (bit & 7)) & 1) === 1;
  }

  clear(): void {
    this.#bytes.fill(0);
  }

  markAll(): void {
    this.#bytes.fill(0xff);
    this.#clearTail();
  }

  /** The disk has another size: what is new counts as changed. */
  resize(sizeSectors: number): void {
    const old = this.#sizeSectors;
    const bytes = new Uint8Array(bitmapBytes(sizeSectors, this.granularity));
    bytes.set(this.#bytes.subarray(0, bytes.length));
    this.#bytes = bytes;
    this.#sizeSectors = sizeSectors;
    this.#clearTail();
    this.mark(old, sizeSectors - old);
  }

  /** The runs of what changed, in order. */
  ranges(): DirtyRange[] {
    const ranges: DirtyRange[] = [];
    const count = this.#bitCount;
    for (let bit = 0; bit < count; bit++) {
      if (this.#bytes[bit >>> 3] === 0) {
        bit |= 7;
        continue;
      }
      if (!this.isMarked(bit)) continue;
      const first = bit;
      while (bit < count && this.isMarked(bit)) bit++;
      const startSector = first * this.granularity;
      const end = Math.min(bit * this.granularity, this.#sizeSectors);
      ranges.push({ startSector, sectors: end - startSector });
    }
    return ranges;
  }

  /** One bit for each cluster, lowest first: the mask of a backup of what changed. */
  clusterMask(clusterSectors: number): Uint8Array {
    const mask = new Uint8Array(ceilDiv(ceilDiv(this.#sizeSectors, clusterSectors), 8));
    for (const { startSector, sectors } of this.ranges()) {
      const last = Math.floor((startSector + sectors - 1) / clusterSectors);
      for (let cluster = Math.floor(startSector / clusterSectors); cluster <= last; cluster++) {
        mask[cluster >>> 3] = (mask[cluster >>> 3] as number) | (1 << (cluster & 7));
      }
    }
    return mask;
  }

  #clearTail(): void {
    const rest = this.#bitCount & 7;
    const last = this.#bytes.length - 1;
    if (rest > 0) this.#bytes[last] = (this.#bytes[last] as number) & ((1 << rest) - 1);
  }
}
