/**
 * A mutable run of delta lists in one fixed block of memory.
 *
 *     | list 0 | gap | list 1 | gap | … | list n-1 | gap | 8 guard bytes |
 *
 * Lists start on byte boundaries and grow at their ends into the gap. Where a gap is too small, a window of neighbouring
 * lists is spread again: the smallest aligned window (16, 32, 64, … lists) whose free bytes leave each of its lists a
 * share, larger windows asking for larger shares, so that the work of an insertion stays small on average however full
 * the memory is. Nothing is allocated after construction.
 *
 * For three addresses in each list (a quarter, a half, three quarters of the address space) the position of the first
 * entry that is not below is kept, so that a search decodes a quarter of the list.
 *
 * The format limits what must hold: no list above 65535 bits, and all lists together within the memory.
 */
import { COLLISION_BITS, LIST_BITS_MAX } from "../constants.ts";
import { getBits, moveBitsDown, moveBitsUp, setBits } from "./bits.ts";
import { codeBits, type DeltaCode } from "./delta-code.ts";
import { ListCursor } from "./list-cursor.ts";
import { writeCollision, writeEntry } from "./list-writer.ts";

const GUARD_BYTES = 8;
/** Positions kept per list, and the address bits below a quarter of the address space of the volume index. */
const MARKS = 3;
const QUARTER_BITS = 18;
const WINDOW_LISTS_MIN = 16;
/** Bytes of gap that a window must be able to give each list, per doubling of the window. */
const SHARE_BYTES = 2;

export interface DeltaSegmentOptions {
  readonly listCount: number;
  /** Bytes for the lists, guard included. */
  readonly memoryBytes: number;
  readonly code: DeltaCode;
  /** Payload width, 1 to 24. */
  readonly valueBits: number;
}

/** Smallest unit in which systems give memory. */
const MEMORY_PAGE_BYTES = 4096;

export class DeltaSegment {
  readonly listCount: number;
  readonly cursor: ListCursor;
  /** Entries, collision entries included. */
  recordCount = 0;
  collisionCount = 0;
  /** Entries removed. */
  discardCount = 0;
  /** Insertions refused because a list would exceed 65535 bits. */
  overflowCount = 0;
  /** Bits of all lists. */
  usedBits = 0;

  readonly #code: DeltaCode;
  readonly #valueBits: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Byte at which each list starts; one more for the end of the memory. */
  readonly #starts: Uint32Array;
  readonly #sizes: Uint16Array;
  /** For each list and mark: bit of the first entry with an address of at least (mark + 1) · 2^18, or the list's end. */
  readonly #markOffsets: Uint16Array;
  /** Address of the entry before that. */
  readonly #markKeys: Uint32Array;
  #list = 0;

  constructor({ listCount, memoryBytes, code, valueBits }: DeltaSegmentOptions) {
    this.listCount = listCount;
    this.#code = code;
    this.#valueBits = valueBits;
    this.#bytes = new Uint8Array(memoryBytes);
    this.#view = new DataView(this.#bytes.buffer);
    this.#starts = new Uint32Array(listCount + 1);
    this.#sizes = new Uint16Array(listCount);
    this.#markOffsets = new Uint16Array(listCount * MARKS);
    this.#markKeys = new Uint32Array(listCount * MARKS);
    this.cursor = new ListCursor(code, valueBits);
    this.clear();
  }

  /** Bytes of the lists' memory. */
  get memoryBytes(): number {
    return this.#bytes.length;
  }

  /** Has the system give memory for bytes `from` to `to` now, not at the first record there. Contents stay. */
  touch(from: number, to: number): void {
    const bytes = this.#bytes;
    for (let at = from; at < Math.min(to, bytes.length); at += MEMORY_PAGE_BYTES) bytes[at] = bytes[at] as number;
  }

  /** Makes every list empty. */
  clear(): void {
    this.#sizes.fill(0);
    this.#markOffsets.fill(0);
    this.#markKeys.fill(0);
    this.recordCount = 0;
    this.collisionCount = 0;
    this.usedBits = 0;
    this.#placeEvenly();
  }

  #placeEvenly(): void {
    const { listCount } = this;
    const end = this.#bytes.length - GUARD_BYTES;
    let used = 0;
    for (let i = 0; i < listCount; i++) used += ((this.#sizes[i] as number) + 7) >>> 3;
    const gap = Math.floor((end - used) / listCount);
    let at = 0;
    for (let i = 0; i < listCount; i++) {
      this.#starts[i] = at;
      at += (((this.#sizes[i] as number) + 7) >>> 3) + gap;
    }
    this.#starts[listCount] = end;
  }

  /** Bits of a list. */
  sizeOf(list: number): number {
    return this.#sizes[list] as number;
  }

  /** The bytes of a list; bits behind its end are unspecified. */
  bytesOf(list: number): Uint8Array {
    const start = this.#starts[list] as number;
    return this.#bytes.subarray(start, start + ((this.sizeOf(list) + 7) >>> 3));
  }

  /** Searches `list`; the answer is in {@link cursor}. */
  find(list: number, address: number, name: Uint8Array): void {
    this.#list = list;
    const start = this.#starts[list] as number;
    const size = this.#sizes[list] as number;
    const mark = Math.min(address >>> QUARTER_BITS, MARKS);
    if (mark === 0) this.cursor.find(this.#view, start, 0, size, address, name, 0, 0);
    else {
      const at = list * MARKS + mark - 1;
      const from = this.#markOffsets[at] as number;
      this.cursor.find(this.#view, start, 0, size, address, name, from, this.#markKeys[at] as number);
    }
  }

  /** Puts the cursor before the first entry of `list`. */
  open(list: number): void {
    this.#list = list;
    this.cursor.open(this.#view, this.#starts[list] as number, 0, this.#sizes[list] as number);
  }

  /** Changes the payload of the entry found. */
  setValue(value: number): void {
    setBits(this.#view, this.cursor.base, this.cursor.offset, this.#valueBits, value);
  }

  /**
   * Inserts an entry where the last search ended: a plain one if it found nothing, else a collision entry directly behind
   * the plain entry found. False when a list or the memory would overflow; then nothing has changed.
   */
  insert(address: number, value: number, name: Uint8Array): boolean {
    return this.cursor.found ? this.#insertCollision(value, name) : this.#insertPlain(address, value);
  }

  #insertCollision(value: number, name: Uint8Array): boolean {
    const { cursor } = this;
    const growth = this.#valueBits + this.#code.minBits + COLLISION_BITS;
    if (!this.#grow(cursor.next, growth)) return false;
    this.#moveMarks(cursor.key, growth);
    writeCollision(this.#view, cursor.base, cursor.next, this.#code, this.#valueBits, value, name);
    this.recordCount++;
    this.collisionCount++;
    return true;
  }

  #insertPlain(address: number, value: number): boolean {
    const { cursor } = this;
    const code = this.#code;
    const valueBits = this.#valueBits;
    const delta = address - cursor.previousKey;
    const bits = valueBits + codeBits(code, delta);
    if (cursor.offset === cursor.end) {
      if (!this.#grow(cursor.end, bits)) return false;
      this.#insertBeforeMarks(address, cursor.offset, bits, bits);
      writeEntry(this.#view, cursor.base, cursor.offset, code, valueBits, value, delta);
    } else {
      const following = getBits(this.#view, cursor.base, cursor.offset, valueBits);
      const growth = bits + valueBits + codeBits(code, cursor.key - address) - (cursor.next - cursor.offset);
      if (!this.#grow(cursor.next, growth)) return false;
      this.#insertBeforeMarks(address, cursor.offset, bits, growth);
      const at = writeEntry(this.#view, cursor.base, cursor.offset, code, valueBits, value, delta);
      writeEntry(this.#view, cursor.base, at, code, valueBits, following, cursor.key - address);
    }
    this.recordCount++;
    return true;
  }

  /** Entries behind `address` moved by `growth` bits. */
  #moveMarks(address: number, growth: number): void {
    const first = this.#list * MARKS;
    for (let mark = Math.min(address >>> QUARTER_BITS, MARKS); mark < MARKS; mark++) {
      this.#markOffsets[first + mark] = (this.#markOffsets[first + mark] as number) + growth;
    }
  }

  /** An entry of `address` came in at `offset`: the one there moved by `bits`, those behind that by `growth`. */
  #insertBeforeMarks(address: number, offset: number, bits: number, growth: number): void {
    const first = this.#list * MARKS;
    for (let mark = Math.min(address >>> QUARTER_BITS, MARKS); mark < MARKS; mark++) {
      const old = this.#markOffsets[first + mark] as number;
      if (old === offset) this.#markKeys[first + mark] = address;
      this.#markOffsets[first + mark] = old + (old === offset ? bits : growth);
    }
  }

  /** The plain entry of `address` at `offset` went; the one behind it, which was at `next`, takes its place. */
  #removeBeforeMarks(address: number, offset: number, next: number, shrinkage: number): void {
    const first = this.#list * MARKS;
    for (let mark = Math.min(address >>> QUARTER_BITS, MARKS); mark < MARKS; mark++) {
      const old = this.#markOffsets[first + mark] as number;
      if (old === next) this.#markKeys[first + mark] = this.cursor.previousKey;
      this.#markOffsets[first + mark] = old === next ? offset : old - shrinkage;
    }
  }

  /** Makes `growth` bits of room in the cursor's list at bit `at`. */
  #grow(at: number, growth: number): boolean {
    const list = this.#list;
    const { cursor } = this;
    const size = this.#sizes[list] as number;
    const newSize = size + growth;
    if (newSize > LIST_BITS_MAX) {
      this.overflowCount++;
      return false;
    }
    const newBytes = (newSize + 7) >>> 3;
    if (newBytes > (this.#starts[list + 1] as number) - cursor.base) {
      if (!this.#makeRoom(list, newBytes)) return false;
      cursor.base = this.#starts[list] as number;
    }
    moveBitsUp(this.#view, cursor.base, at, at + growth, size - at);
    this.#sizes[list] = newSize;
    this.usedBits += growth;
    return true;
  }

  /** Removes the entry that the cursor is at. The cursor is then before the place where it was. */
  remove(): void {
    const { cursor } = this;
    const { base, offset, delta, key, previousKey, next } = cursor;
    const end = this.#sizes[this.#list] as number;
    const valueBits = this.#valueBits;
    let to = offset;
    let from = next;
    let followedBySame = cursor.isCollision;
    if (cursor.isCollision) this.collisionCount--;
    else if (from < end) {
      // The following entry takes over the delta; a collision entry becomes a plain one and loses its name.
      cursor.advance();
      followedBySame = cursor.isCollision;
      if (followedBySame) this.collisionCount--;
      const value = getBits(this.#view, base, from, valueBits);
      from = cursor.next;
      to = writeEntry(this.#view, base, offset, this.#code, valueBits, value, delta + cursor.delta);
    }
    moveBitsDown(this.#view, base, from, to, end - from);
    cursor.previousKey = previousKey;
    if (followedBySame) this.#moveMarks(key, to - from);
    else this.#removeBeforeMarks(key, offset, next, from - to);
    const size = end - (from - to);
    this.#sizes[this.#list] = size;
    this.usedBits -= from - to;
    this.recordCount--;
    this.discardCount++;
    cursor.end = size;
    cursor.next = offset;
    cursor.key = previousKey;
    cursor.found = false;
  }

  /**
   * Removes every entry of `list` whose payload is one of the `count` values from `first` upwards (modulo the payload
   * width). Returns the smallest distance of a remaining payload from `first`, at most `mask`.
   */
  expire(list: number, first: number, count: number, mask: number): number {
    const { cursor } = this;
    this.open(list);
    cursor.nearest = mask;
    while (cursor.advanceToPayload(first, count, mask)) this.remove();
    return cursor.nearest;
  }

  /** Spreads a window of lists so that `list` has `bytes` bytes. False when even the whole memory is too full. */
  #makeRoom(list: number, bytes: number): boolean {
    const { listCount } = this;
    const extra = bytes - (((this.#sizes[list] as number) + 7) >>> 3);
    for (let width = WINDOW_LISTS_MIN, share = SHARE_BYTES; ; width *= 2, share += SHARE_BYTES) {
      const first = width >= listCount ? 0 : list - (list % width);
      const last = Math.min(first + width, listCount);
      const free = this.#freeBytes(first, last) - extra;
      const whole = last - first === listCount;
      if (free < (whole ? 0 : share * (last - first))) {
        if (whole) return false;
        continue;
      }
      this.#spread(first, last, list, extra, Math.floor(free / (last - first)));
      return true;
    }
  }

  #freeBytes(first: number, last: number): number {
    let used = 0;
    for (let i = first; i < last; i++) used += ((this.#sizes[i] as number) + 7) >>> 3;
    return (this.#starts[last] as number) - (this.#starts[first] as number) - used;
  }

  /** Moves lists `first` to `last` - 1 so that `gap` bytes follow each, and `extra` more follow `list`. */
  #spread(first: number, last: number, list: number, extra: number, gap: number): void {
    const starts = this.#starts;
    const sizes = this.#sizes;
    const bytes = this.#bytes;
    // Lists that move down, from the left: each goes to where only lists already moved were.
    let to = starts[first] as number;
    for (let i = first; i < last; i++) {
      const length = ((sizes[i] as number) + 7) >>> 3;
      const from = starts[i] as number;
      if (to < from) {
        bytes.copyWithin(to, from, from + length);
        starts[i] = to;
      }
      to += length + gap + (i === list ? extra : 0);
    }
    // Lists that move up, from the right.
    for (let i = last - 1; i >= first; i--) {
      const length = ((sizes[i] as number) + 7) >>> 3;
      to -= length + gap + (i === list ? extra : 0);
      const from = starts[i] as number;
      if (to > from) {
        bytes.copyWithin(to, from, from + length);
        starts[i] = to;
      }
    }
  }

  /** Sets the sizes of all lists, to be filled by {@link load}. False when they do not fit. */
  reserve(sizes: Uint16Array): boolean {
    let used = 0;
    let bits = 0;
    for (let i = 0; i < sizes.length; i++) {
      used += ((sizes[i] as number) + 7) >>> 3;
      bits += sizes[i] as number;
    }
    if (used > this.#bytes.length - GUARD_BYTES) return false;
    this.#sizes.set(sizes);
    this.usedBits = bits;
    this.#placeEvenly();
    return true;
  }

  /**
   * Fills a list that was {@link reserve}d from `source`, where its bits start at bit `bitOffset` (0 to 7) and 8 more
   * bytes can be read behind it. False when the bits are no sound list.
   */
  load(list: number, source: DataView, byteOffset: number, bitOffset: number): boolean {
    const size = this.#sizes[list] as number;
    const start = this.#starts[list] as number;
    for (let done = 0; done < size; done += 24) {
      setBits(this.#view, start, done, Math.min(24, size - done), getBits(source, byteOffset, bitOffset + done, 24));
    }
    const { cursor } = this;
    this.open(list);
    const marks = list * MARKS;
    let mark = 0;
    while (cursor.advance()) {
      this.recordCount++;
      if (cursor.isCollision) this.collisionCount++;
      for (; mark < MARKS && cursor.key >= (mark + 1) << QUARTER_BITS; mark++) {
        this.#markOffsets[marks + mark] = cursor.offset;
        this.#markKeys[marks + mark] = cursor.previousKey;
      }
      // Addresses only rise, so one beyond 2^31 tells of damage before it can overflow.
      if (cursor.key >= 2 ** 31) return false;
    }
    for (; mark < MARKS; mark++) {
      this.#markOffsets[marks + mark] = size;
      this.#markKeys[marks + mark] = cursor.key;
    }
    return !cursor.damaged;
  }
}
