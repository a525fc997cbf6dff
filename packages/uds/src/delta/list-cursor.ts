/**
 * A place in one delta list, found by decoding the list from its start (Linux 6.12, delta index entries).
 *
 *     entry = payload (valueBits) · code of the delta · only in a collision entry: the full name (128 bits)
 *
 * The first entry's delta is its address. A delta of 0 that is not first marks a collision entry: it has the address of
 * the entry before it. A list has no terminator; an entry that runs past its end is damage.
 *
 * One cursor serves any number of lists with the same code and payload width. Nothing is allocated by a search.
 */
import { COLLISION_BITS } from "../constants.ts";
import { getBits, nameEquals } from "./bits.ts";
import type { DeltaCode } from "./delta-code.ts";

export class ListCursor {
  readonly valueBits: number;
  readonly minBits: number;
  readonly minKeys: number;
  readonly increment: number;
  readonly #mask: number;

  view: DataView = new DataView(new ArrayBuffer(0));
  /** Byte of the view from which bit positions count. */
  base = 0;
  /** First bit of the list. */
  start = 0;
  /** The bit behind the list. */
  end = 0;
  /** First bit of the entry that the cursor is at; `end` when there is none. */
  offset = 0;
  /** First bit behind that entry. */
  next = 0;
  /** Delta of that entry. */
  delta = 0;
  /** Address of that entry. */
  key = 0;
  /** Address of the entry before it, 0 when it is the first. */
  previousKey = 0;
  /** The entry is a collision entry. */
  isCollision = false;
  /** The last search found an entry for the name. */
  found = false;
  /** Smallest distance of a payload that {@link advanceToPayload} passed. */
  nearest = 0;
  /** The list is damaged: an entry runs past its end. */
  damaged = false;

  constructor(code: DeltaCode, valueBits: number) {
    this.valueBits = valueBits;
    this.minBits = code.minBits;
    this.minKeys = code.minKeys;
    this.increment = code.increment;
    this.#mask = 2 ** code.minBits - 1;
  }

  /** Puts the cursor before the first entry of the list in bits `start` to `end` - 1. */
  open(view: DataView, base: number, start: number, end: number): void {
    this.view = view;
    this.base = base;
    this.start = start;
    this.end = end;
    this.offset = start;
    this.next = start;
    this.key = 0;
    this.delta = 0;
    this.previousKey = 0;
    this.isCollision = false;
    this.found = false;
    this.damaged = false;
  }

  /** Moves to the next entry. False at the end of the list, and when the list is damaged. */
  advance(): boolean {
    const at = this.next;
    this.offset = at;
    this.previousKey = this.key;
    this.isCollision = false;
    if (at >= this.end) {
      this.offset = this.end;
      return false;
    }
    this.#decode(at);
    this.isCollision = this.delta === 0 && at !== this.start;
    if (this.isCollision) this.next += COLLISION_BITS;
    if (this.next > this.end) {
      this.damaged = true;
      return false;
    }
    this.key += this.delta;
    return true;
  }

  /** Reads the code behind the payload at bit `at`, into `delta` and `next`. */
  #decode(at: number): void {
    const bit = at + this.valueBits;
    const word = this.view.getUint32(this.base + (bit >>> 3), true) >>> (bit & 7);
    const code = word & this.#mask;
    this.next = bit + this.minBits;
    this.delta = code;
    if (code < this.minKeys) return;
    const zeros = this.#zeros(word >>> this.minBits, this.next);
    this.delta = code + zeros * this.increment;
    this.next += zeros + 1;
  }

  /** Zero bits before the one bit at or behind `bit`; `rest` holds the first of them, as far as the load reached. */
  #zeros(rest: number, bit: number): number {
    if (rest !== 0) return 31 - Math.clz32(rest & -rest);
    const { view, base, end } = this;
    for (let at = bit; at < end; at += 24) {
      const part = getBits(view, base, at, 24);
      if (part !== 0) return at - bit + 31 - Math.clz32(part & -part);
    }
    return end - bit;
  }

  /**
   * Searches the list in bits `start` to `end` - 1 for `address`, and among the collision entries behind it for `name`.
   * Not found: the cursor is at the place where the address would be inserted. `from` is a plain entry, not behind the
   * address, that follows one of address `fromKey`: the search begins there.
   */
  find(
    view: DataView,
    base: number,
    start: number,
    end: number,
    address: number,
    name: Uint8Array,
    from = start,
    fromKey = 0,
  ): void {
    const { valueBits, minBits, minKeys, increment } = this;
    const mask = this.#mask;
    this.view = view;
    this.base = base;
    this.start = start;
    this.end = end;
    this.isCollision = false;
    this.damaged = false;
    let at = from;
    let next = from;
    let key = fromKey;
    let delta = 0;
    while (at < end) {
      const bit = at + valueBits;
      const word = view.getUint32(base + (bit >>> 3), true) >>> (bit & 7);
      const code = word & mask;
      const rest = word >>> minBits;
      // All ones when the code has a unary part: no branch here, because neither case is rare.
      const large = (minKeys - 1 - code) >> 31;
      let zeros = 31 - Math.clz32(rest & -rest);
      if ((zeros & large) < 0) zeros = this.#zeros(0, bit + minBits);
      delta = code + (Math.imul(zeros, increment) & large);
      next = bit + minBits + ((zeros + 1) & large);
      if (delta === 0 && at !== start) {
        at = next + COLLISION_BITS;
        continue;
      }
      key += delta;
      if (key >= address) break;
      at = next;
    }
    this.offset = Math.min(at, end);
    this.next = next;
    this.delta = delta;
    this.key = key;
    const stopped = at < end;
    this.previousKey = stopped ? key - delta : key;
    this.found = stopped && key === address;
    this.damaged = stopped ? next > end : at > end;
    if (this.damaged) this.found = false;
    else if (this.found && next < end) this.#findCollision(name);
  }

  #findCollision(name: Uint8Array): void {
    const { view, base, end, valueBits, minBits } = this;
    for (let at = this.next; at < end; at += valueBits + minBits + COLLISION_BITS) {
      if (getBits(view, base, at + valueBits, minBits) !== 0) return;
      const nameAt = at + valueBits + minBits;
      if (nameAt + COLLISION_BITS > end) {
        this.damaged = true;
        this.found = false;
        return;
      }
      if (nameEquals(view, base, nameAt, name)) {
        this.offset = at;
        this.next = nameAt + COLLISION_BITS;
        this.delta = 0;
        this.isCollision = true;
        return;
      }
    }
  }

  /** Payload of the entry that the cursor is at. */
  value(): number {
    return getBits(this.view, this.base, this.offset, this.valueBits);
  }

  /**
   * Looks from the cursor's place for the next entry whose payload is one of the `count` values from `first` upwards
   * (modulo `mask` + 1), and goes there; false at the end. Keeps in {@link nearest} how near the payloads passed came.
   */
  advanceToPayload(first: number, count: number, mask: number): boolean {
    const { view, base, start, end, valueBits, minBits, minKeys, increment } = this;
    const codeMask = this.#mask;
    let nearest = this.nearest;
    let key = this.key;
    for (let at = this.next; at < end; ) {
      const value = view.getUint32(base + (at >>> 3), true) >>> (at & 7);
      const distance = (value - first) & mask;
      const bit = at + valueBits;
      const word = view.getUint32(base + (bit >>> 3), true) >>> (bit & 7);
      const code = word & codeMask;
      const rest = word >>> minBits;
      const large = (minKeys - 1 - code) >> 31;
      let zeros = 31 - Math.clz32(rest & -rest);
      if ((zeros & large) < 0) zeros = this.#zeros(0, bit + minBits);
      const delta = code + (Math.imul(zeros, increment) & large);
      let next = bit + minBits + ((zeros + 1) & large);
      const isCollision = delta === 0 && at !== start;
      if (isCollision) next += COLLISION_BITS;
      if (distance < count) {
        this.nearest = nearest;
        this.offset = at;
        this.next = next;
        this.delta = delta;
        this.previousKey = key;
        this.key = key + delta;
        this.isCollision = isCollision;
        return true;
      }
      if (distance < nearest) nearest = distance;
      key += delta;
      at = next;
    }
    this.nearest = nearest;
    return false;
  }

  /** True when the whole list decodes exactly to its end with payloads below `valueLimit`. */
  isSound(view: DataView, base: number, start: number, end: number, valueLimit: number): boolean {
    this.open(view, base, start, end);
    while (this.advance()) if (this.value() >= valueLimit) return false;
    return !this.damaged;
  }
}
