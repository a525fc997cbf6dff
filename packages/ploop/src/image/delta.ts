/**
 * One delta of a stack: an expanded image, or the raw base. Knows the file, the header and how entries of the index (BAT)
 * are read and written; knows nothing of other deltas.
 */
import { viewOf } from "@vdo/base";
import { corrupt, dirty } from "../errors.ts";
import type { ImageFile } from "../file/image-file.ts";
import {
  batClusters,
  FLAG,
  HEADER_BYTES,
  type ImageHeader,
  IN_USE,
  imageHeader,
  PAGE_BYTES,
  readHeader,
  SECTOR,
  versionOf,
} from "../format/header.ts";

export const PAGE_WORDS = PAGE_BYTES / 4;
/** The header counts as this many words: the entry of cluster c is word c + 16. */
export const HEADER_WORDS = HEADER_BYTES / 4;
/** Bytes of a BAT read at once when all of it is looked at. */
const SCAN_BYTES = 1 << 20;

/** Called for each entry that is not zero: guest cluster, file cluster. */
export type EntryVisitor = (cluster: number, place: number) => void;

export class Delta {
  readonly file: ImageFile;
  readonly raw: boolean;
  /** Bytes. */
  readonly clusterBytes: number;
  #header: ImageHeader | undefined;

  private constructor(file: ImageFile, clusterBytes: number, header: ImageHeader | undefined) {
    this.file = file;
    this.clusterBytes = clusterBytes;
    this.#header = header;
    this.raw = header === undefined;
  }

  /** Reads and checks the header and the file's length. Throws `VDO_CORRUPT`. */
  static async open(file: ImageFile, { repairable = false } = {}): Promise<Delta> {
    const delta = new Delta(file, 0, await loadHeader(file, repairable));
    const checked = new Delta(file, delta.header.clusterSectors * SECTOR, delta.header);
    checked.checkLength();
    return checked;
  }

  /** A plain image. Throws `VDO_CORRUPT` when it is not whole clusters. */
  static openRaw(file: ImageFile, clusterBytes: number): Delta {
    const delta = new Delta(file, clusterBytes, undefined);
    if (file.length % clusterBytes !== 0 || file.length === 0) {
      throw corrupt(file.name, "file length", `whole clusters of ${clusterBytes} bytes`, file.length);
    }
    return delta;
  }

  get name(): string {
    return this.file.name;
  }

  /** Of an expanded image. */
  get header(): ImageHeader {
    return this.#header as ImageHeader;
  }

  /** Guest clusters this delta can hold. */
  get clusterCount(): number {
    return this.#header?.clusterCount ?? Math.floor(this.file.length / this.clusterBytes);
  }

  get sizeSectors(): number {
    return this.#header?.sizeSectors ?? this.file.length / SECTOR;
  }

  /** File clusters of header and BAT. */
  get batClusters(): number {
    return this.raw ? 0 : batClusters(this.header.clusterCount, this.header.clusterSectors);
  }

  get fileClusters(): number {
    return Math.floor(this.file.length / this.clusterBytes);
  }

  get pageCount(): number {
    return Math.floor((this.clusterCount + HEADER_WORDS + PAGE_WORDS - 1) / PAGE_WORDS);
  }

  get isInUse(): boolean {
    return !this.raw && this.header.inUse === IN_USE.open;
  }

  /** Version 1 counts sectors in its entries, version 2 clusters: this many to the cluster. */
  get #unit(): number {
    return versionOf(this.header) === 1 ? this.header.clusterSectors : 1;
  }

  checkLength(): void {
    const { length } = this.file;
    if (length % this.clusterBytes !== 0) {
      throw corrupt(this.name, "file length", `whole clusters of ${this.clusterBytes} bytes`, length);
    }
    if (length < this.batClusters * this.clusterBytes) {
      throw corrupt(this.name, "file length", `at least ${this.batClusters} clusters for header and BAT`, length);
    }
  }

  refuseDirty(): void {
    if (this.isInUse) throw dirty(this.name);
    if (!this.raw && (this.header.flags & FLAG.converting) !== 0) {
      throw corrupt(this.name, "flags", "no version conversion under way", this.header.flags);
    }
  }

  /** The largest file cluster that an entry can name. */
  get placeMax(): number {
    return Math.floor(0xffff_ffff / this.#unit) - 1;
  }

  /** The file cluster of an entry's word; 0 for none. Throws `VDO_CORRUPT` for a word that cannot be. */
  placeOf(cluster: number, word: number): number {
    if (word === 0) return 0;
    const place = word / this.#unit;
    const what = `BAT entry ${cluster}`;
    if (!Number.isInteger(place)) throw corrupt(this.name, what, `a multiple of ${this.#unit}`, word);
    if (place < this.batClusters) throw corrupt(this.name, what, `at least ${this.batClusters}, after the BAT`, place);
    if (place >= this.fileClusters)
      throw corrupt(this.name, what, `below ${this.fileClusters}, inside the file`, place);
    return place;
  }

  wordOf(place: number): number {
    return place * this.#unit;
  }

  /** Reads BAT page `page` as it is on disk; what lies beyond the BAT is left as zeros. */
  async readPage(page: number, target: Uint8Array): Promise<void> {
    await this.file.read(page * PAGE_BYTES, target);
  }

  /**
   * Calls `visit` for every entry, in order, and checks them: in range, and (unless `overlaps` allows) no file cluster
   * named twice. Words after the last entry must be zero. Throws `VDO_CORRUPT`.
   */
  async scan(visit: EntryVisitor, { overlaps = false } = {}): Promise<void> {
    if (this.raw) {
      for (let cluster = 0; cluster < this.clusterCount; cluster++) visit(cluster, cluster);
      return;
    }
    const seen = new Uint8Array(Math.floor(this.fileClusters / 8) + 1);
    const end = this.batClusters * this.clusterBytes;
    const chunk = new Uint8Array(Math.min(SCAN_BYTES, end));
    const last = this.clusterCount + HEADER_WORDS;
    for (let offset = 0; offset < end; offset += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, end - offset));
      await this.file.read(offset, part);
      const words = new Uint32Array(part.buffer, part.byteOffset, part.length / 4);
      const first = offset / 4;
      for (let i = first === 0 ? HEADER_WORDS : 0; i < words.length; i++) {
        const word = words[i] as number;
        if (word === 0) continue;
        const cluster = first + i - HEADER_WORDS;
        if (first + i >= last) throw corrupt(this.name, `BAT entry ${cluster}`, "0, after the last entry", word);
        const place = this.placeOf(cluster, word);
        const bit = 1 << (place & 7);
        if (!overlaps && ((seen[place >>> 3] as number) & bit) !== 0) {
          throw corrupt(
            this.name,
            `BAT entry ${cluster}`,
            "a cluster of its own",
            `${place}, which another entry names`,
          );
        }
        seen[place >>> 3] = (seen[place >>> 3] as number) | bit;
        visit(cluster, place);
      }
    }
  }

  /** Zeroes the entries that `drop` names, durably; returns how many there were. */
  async clearEntries(drop: (cluster: number) => boolean): Promise<number> {
    let cleared = 0;
    for (let number = 0; number < this.pageCount; number++) {
      const page = new Uint8Array(PAGE_BYTES);
      await this.readPage(number, page);
      const words = new Uint32Array(page.buffer);
      const before = cleared;
      for (let i = number === 0 ? HEADER_WORDS : 0; i < PAGE_WORDS; i++) {
        const cluster = number * PAGE_WORDS + i - HEADER_WORDS;
        if (words[i] === 0 || cluster >= this.clusterCount || !drop(cluster)) continue;
        words[i] = 0;
        cleared++;
      }
      if (cleared > before) await this.file.write(number * PAGE_BYTES, page);
    }
    await this.file.flush();
    return cleared;
  }

  /** The first page with `header` in it, the rest as on disk. */
  async headerPage(header: ImageHeader): Promise<Uint8Array> {
    const page = new Uint8Array(PAGE_BYTES);
    await this.file.read(0, page);
    imageHeader.set(viewOf(page), 0, header);
    return page;
  }

  /** Changes fields of the header on disk and here; not durable before a flush. */
  async writeHeader(change: Partial<ImageHeader>): Promise<void> {
    const header = { ...this.header, ...change };
    await this.file.write(0, await this.headerPage(header));
    this.#header = header;
  }

  /** Takes over a header that was written by other means. */
  setHeader(header: ImageHeader): void {
    this.#header = header;
  }

  /** Marks the image as open; a format extension becomes invalid with that. */
  async markOpen(): Promise<void> {
    if (this.raw) return;
    await this.writeHeader({ inUse: IN_USE.open, extensionOffset: 0 });
    await this.file.flush();
  }

  /** After all else is durable: says that the image was closed. `isEmpty`: it holds no data, where that is known. */
  async markClosed(isEmpty?: boolean): Promise<void> {
    if (this.raw) return;
    await this.file.flush();
    const { flags } = this.header;
    const rest = flags - (flags & FLAG.empty);
    const changed = isEmpty === undefined ? {} : { flags: isEmpty ? rest + FLAG.empty : rest };
    await this.writeHeader({ inUse: IN_USE.closed, ...changed });
    await this.file.flush();
  }

  /**
   * Throws `VDO_CORRUPT` when the image on disk is no longer what it was when it was opened: another has it open for writing, or
   * changed its shape.
   */
  async refuseChanged(): Promise<void> {
    await this.file.refresh();
    this.checkLength();
    if (this.raw) return;
    const now = await loadHeader(this.file);
    for (const field of ["signature", "inUse", "clusterSectors", "clusterCount", "firstBlock"] as const) {
      if (now[field] === this.header[field]) continue;
      throw corrupt(this.name, `header ${field}`, `${this.header[field]}, as when it was opened`, now[field]);
    }
  }

  /** Looks at the file anew: somebody else changed it. */
  async reload(): Promise<void> {
    await this.file.refresh();
    if (!this.raw) this.#header = await loadHeader(this.file);
    this.checkLength();
  }
}

async function loadHeader(file: ImageFile, repairable = false): Promise<ImageHeader> {
  if (file.length < PAGE_BYTES)
    throw corrupt(file.name, "file length", "at least 4096 bytes for the header", file.length);
  const page = new Uint8Array(PAGE_BYTES);
  await file.read(0, page);
  return readHeader(page, file.name, { repairable });
}
