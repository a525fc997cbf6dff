/**
 * Which file clusters of the top delta are free: one bit each, 1 is free. A delta never needs more clusters than header, BAT
 * and one per entry, so that is the size of the map. The lowest free cluster is taken first.
 */
import { invariant } from "@vdo/base";

export class HoleMap {
  #bits: Uint32Array;
  #count: number;
  /** No free bit below this word. */
  #from = 0;

  /** All free but the first `reserved`. */
  constructor(count: number, reserved: number) {
    this.#bits = new Uint32Array((count + 31) >>> 5);
    this.#count = 0;
    this.extend(count);
    for (let place = 0; place < reserved; place++) this.take(place);
  }

  get count(): number {
    return this.#count;
  }

  /** Adds clusters up to `count`, all of them free. */
  extend(count: number): void {
    const words = new Uint32Array((count + 31) >>> 5);
    words.set(this.#bits);
    const old = this.#count;
    this.#bits = words;
    this.#count = count;
    for (let place = old; place < count; place++) this.free(place);
  }

  isFree(place: number): boolean {
    return place < this.#count && (((this.#bits[place >>> 5] as number) >>> (place & 31)) & 1) === 1;
  }

  /** Marks as used; a cluster beyond the map has no bit. */
  take(place: number): void {
    if (place >= this.#count) return;
    const word = place >>> 5;
    this.#bits[word] = (this.#bits[word] as number) & ~(1 << (place & 31));
  }

  /** Marks as free; a cluster beyond the map is forgotten. */
  free(place: number): void {
    if (place >= this.#count) return;
    const word = place >>> 5;
    this.#bits[word] = (this.#bits[word] as number) | (1 << (place & 31));
    if (word < this.#from) this.#from = word;
  }

  /** Takes the lowest free cluster; undefined when there is none. */
  allocate(): number | undefined {
    const bits = this.#bits;
    for (let word = this.#from; word < bits.length; word++) {
      const value = bits[word] as number;
      if (value === 0) continue;
      this.#from = word;
      const place = word * 32 + (31 - Math.clz32(value & -value));
      invariant(place < this.#count, "a free bit lies inside the map");
      this.take(place);
      return place;
    }
    this.#from = bits.length;
    return undefined;
  }

  /** One past the highest used cluster. */
  usedEnd(): number {
    let place = this.#count;
    while (place > 0 && this.isFree(place - 1)) place--;
    return place;
  }
}
