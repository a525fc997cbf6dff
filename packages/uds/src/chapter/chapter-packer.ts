/**
 * Builds the index pages of a chapter that is being closed.
 *
 * The lists are not grown entry by entry: all entries are sorted by list, address and arrival, and each list is written
 * once, straight into its page. The result is what insertions in order of arrival would give: the first name at an
 * address has the plain entry, later ones have collision entries behind it, the newest first.
 */
import { viewOf } from "@vdo/base";
import { CHAPTER_MEAN_DELTA, COLLISION_BITS, LIST_BITS_MAX, RECORD_BYTES } from "../constants.ts";
import { getBits, setBits } from "../delta/bits.ts";
import { codeBits, type DeltaCode, deltaCode } from "../delta/delta-code.ts";
import { DeltaSegment } from "../delta/delta-segment.ts";
import { writeCollision, writeEntry } from "../delta/list-writer.ts";
import type { IndexGeometry } from "../geometry.ts";
import { chapterAddress, chapterList } from "../record-place.ts";
import { INDEX_PAGE_GUARD_BYTES, INDEX_PAGE_HEADER_BITS, LIST_START_BITS, writeIndexPageHeader } from "./index-page.ts";
import type { OpenChapter } from "./open-chapter.ts";

/** Factor that separates address and position in a sort key; no chapter has more records. */
const POSITIONS = 2 ** 18;

export class ChapterPacker {
  readonly #geometry: IndexGeometry;
  readonly #code: DeltaCode;
  readonly #keys: Float64Array;
  /** For each list the end of its keys; `#firsts[list]` is where they start. */
  readonly #firsts: Uint32Array;
  readonly #sizes: Uint32Array;
  /** Lists that would exceed 65535 bits, built entry by entry instead. */
  readonly #oversized = new Map<number, DeltaSegment>();
  #chapter: OpenChapter | undefined;
  /** Entries left out because their list was full, or its page. */
  droppedCount = 0;

  constructor(geometry: IndexGeometry) {
    this.#geometry = geometry;
    this.#code = deltaCode(CHAPTER_MEAN_DELTA);
    this.#keys = new Float64Array(geometry.recordsPerChapter);
    this.#firsts = new Uint32Array(geometry.listsPerChapter + 1);
    this.#sizes = new Uint32Array(geometry.listsPerChapter);
  }

  /** Bytes taken by this object. */
  static memory(geometry: IndexGeometry): number {
    return 8 * geometry.recordsPerChapter + 8 * geometry.listsPerChapter;
  }

  /** Distributes the records of `chapter` to lists. */
  distribute(chapter: OpenChapter): void {
    const { chapterAddressBits, chapterListBits, listsPerChapter } = this.#geometry;
    const firsts = this.#firsts;
    this.#chapter = chapter;
    this.#oversized.clear();
    this.droppedCount = 0;
    firsts.fill(0);
    const { records, size } = chapter;
    for (let i = 0, at = 0; i < size; i++, at += RECORD_BYTES) {
      if (chapter.isRemoved(i)) continue;
      const list = chapterList(records, chapterAddressBits, chapterListBits, at);
      firsts[list + 1] = (firsts[list + 1] as number) + 1;
    }
    for (let list = 0; list < listsPerChapter; list++) {
      firsts[list + 1] = (firsts[list + 1] as number) + (firsts[list] as number);
    }
    const next = this.#sizes;
    next.set(firsts.subarray(0, listsPerChapter));
    for (let i = 0, at = 0; i < size; i++, at += RECORD_BYTES) {
      if (chapter.isRemoved(i)) continue;
      const list = chapterList(records, chapterAddressBits, chapterListBits, at);
      const place = next[list] as number;
      next[list] = place + 1;
      this.#keys[place] = chapterAddress(records, chapterAddressBits, at) * POSITIONS + i;
    }
  }

  /** Sorts the entries of lists `first` to `end` - 1, after {@link distribute}. */
  sort(first: number, end: number): void {
    for (let list = first; list < end; list++) {
      const keys = this.#keysOf(list);
      keys.sort();
      const size = this.#measure(keys);
      this.#sizes[list] = size <= LIST_BITS_MAX ? size : this.#growOversized(list, keys);
    }
  }

  #keysOf(list: number): Float64Array {
    return this.#keys.subarray(this.#firsts[list] as number, this.#firsts[list + 1] as number);
  }

  #measure(keys: Float64Array): number {
    const code = this.#code;
    const { chapterPayloadBits } = this.#geometry;
    let bits = 0;
    let previous = -1;
    for (let i = 0; i < keys.length; i++) {
      const address = Math.floor((keys[i] as number) / POSITIONS);
      if (address === previous) bits += chapterPayloadBits + code.minBits + COLLISION_BITS;
      else bits += chapterPayloadBits + codeBits(code, previous < 0 ? address : address - previous);
      previous = address;
    }
    return bits;
  }

  /** Builds a list by insertions in order of arrival, leaving out what does not fit. */
  #growOversized(list: number, keys: Float64Array): number {
    const segment = new DeltaSegment({
      listCount: 1,
      memoryBytes: 8192 + 64,
      code: this.#code,
      valueBits: this.#geometry.chapterPayloadBits,
    });
    for (const key of Float64Array.from(keys, (key) => key % POSITIONS).sort()) {
      const name = this.#nameOf(key);
      const address = chapterAddress(name, this.#geometry.chapterAddressBits);
      segment.find(0, address, name);
      if (!segment.insert(address, this.#pageOf(key), name)) this.droppedCount++;
    }
    this.#oversized.set(list, segment);
    return segment.sizeOf(0);
  }

  #nameOf(position: number): Uint8Array {
    return (this.#chapter as OpenChapter).nameOf(position);
  }

  #pageOf(position: number): number {
    return Math.floor(position / this.#geometry.recordsPerPage);
  }

  /**
   * Packs as many lists from `firstList` as fit into `page`, and returns their number. On the last page everything left
   * is made to fit, by emptying lists.
   */
  pack(
    page: Uint8Array,
    {
      firstList,
      isLast,
      nonce,
      virtualChapter,
    }: { firstList: number; isLast: boolean; nonce: bigint; virtualChapter: number },
  ): number {
    const { listsPerChapter, bytesPerPage } = this.#geometry;
    const count = this.#fit(firstList, isLast);
    const view = viewOf(page);
    page.fill(0);
    writeIndexPageHeader(view, 0, {
      nonce,
      virtualChapter,
      firstList: count > 0 ? firstList : listsPerChapter,
      listCount: count,
    });
    let at = INDEX_PAGE_HEADER_BITS + LIST_START_BITS * (count + 1);
    for (let i = 0; i < count; i++) {
      setBits(view, 0, INDEX_PAGE_HEADER_BITS + LIST_START_BITS * i, LIST_START_BITS, at);
      at = this.#writeList(view, at, firstList + i);
    }
    setBits(view, 0, INDEX_PAGE_HEADER_BITS + LIST_START_BITS * count, LIST_START_BITS, at);
    page.fill(0xff, bytesPerPage - INDEX_PAGE_GUARD_BYTES);
    return count;
  }

  /** How many lists from `first` fit on a page; empties lists where the format demands it. */
  #fit(first: number, isLast: boolean): number {
    const { listsPerChapter, bytesPerPage } = this.#geometry;
    const room = (bytesPerPage - INDEX_PAGE_GUARD_BYTES) * 8 - INDEX_PAGE_HEADER_BITS - LIST_START_BITS;
    for (;;) {
      let free = room;
      let count = 0;
      while (first + count < listsPerChapter) {
        free -= LIST_START_BITS + (this.#sizes[first + count] as number);
        if (free < 0) break;
        count++;
      }
      const fits = isLast ? first + count === listsPerChapter : count > 0 || first === listsPerChapter;
      if (fits) return count;
      let victim = first + count;
      while (victim > first && this.#sizes[victim] === 0) victim--;
      this.droppedCount += (this.#firsts[victim + 1] as number) - (this.#firsts[victim] as number);
      this.#sizes[victim] = 0;
    }
  }

  #writeList(view: DataView, bit: number, list: number): number {
    const size = this.#sizes[list] as number;
    if (size === 0) return bit;
    const oversized = this.#oversized.get(list);
    if (oversized !== undefined) {
      const source = new Uint8Array(8192 + 8);
      source.set(oversized.bytesOf(0));
      const from = viewOf(source);
      for (let done = 0; done < size; done += 24) {
        setBits(view, 0, bit + done, Math.min(24, size - done), getBits(from, 0, done, 24));
      }
      return bit + size;
    }
    const code = this.#code;
    const { chapterPayloadBits } = this.#geometry;
    const end = this.#firsts[list + 1] as number;
    let at = bit;
    let previous = 0;
    for (let i = this.#firsts[list] as number; i < end; ) {
      const key = this.#keys[i] as number;
      const address = Math.floor(key / POSITIONS);
      const position = key - address * POSITIONS;
      at = writeEntry(view, 0, at, code, chapterPayloadBits, this.#pageOf(position), address - previous);
      previous = address;
      const groupStart = i++;
      while (i < end && Math.floor((this.#keys[i] as number) / POSITIONS) === address) i++;
      for (let c = i - 1; c > groupStart; c--) {
        const colliding = (this.#keys[c] as number) - address * POSITIONS;
        at = writeCollision(view, 0, at, code, chapterPayloadBits, this.#pageOf(colliding), this.#nameOf(colliding));
      }
    }
    return at;
  }
}
