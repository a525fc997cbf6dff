/**
 * A chapter in memory: records in order of arrival, found through a hash table.
 *
 * Two of them take turns: the open chapter, which takes new records, and the writing chapter, closed most recently.
 * A removed record keeps its place; a replaced one is changed in place.
 */
import { NAME_BYTES, RECORD_BYTES } from "../constants.ts";
import { slotBits } from "../record-place.ts";

const WORDS = RECORD_BYTES / 4;

export class OpenChapter {
  readonly capacity: number;
  /** Places taken, removed records included. */
  size = 0;
  /** Removed records. */
  removed = 0;
  /** All records: 16 bytes of name and 16 of value each. */
  readonly records: Uint8Array;
  readonly #words: Uint32Array;
  readonly #removed: Uint8Array;
  /** Number of the record plus one; 0 is an empty slot. */
  readonly #slots: Int32Array;
  readonly #slotMask: number;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.records = new Uint8Array(capacity * RECORD_BYTES);
    this.#words = new Uint32Array(this.records.buffer);
    this.#removed = new Uint8Array(capacity);
    const slotCount = 2 ** (33 - Math.clz32(capacity * 2 - 1));
    this.#slots = new Int32Array(slotCount);
    this.#slotMask = slotCount - 1;
  }

  clear(): void {
    this.size = 0;
    this.removed = 0;
    this.#slots.fill(0);
    this.#removed.fill(0);
  }

  isRemoved(record: number): boolean {
    return this.#removed[record] !== 0;
  }

  /** The slot of the record of this name, or the empty slot where it would go. `words` begin with the name. */
  #slot(name: Uint8Array, words: Uint32Array): number {
    const mask = this.#slotMask;
    const slots = this.#slots;
    const records = this.#words;
    const a = words[0];
    const b = words[1];
    const c = words[2];
    const d = words[3];
    let slot = slotBits(name) & mask;
    for (let step = 1; ; step++) {
      const number = slots[slot] as number;
      if (number === 0) return slot;
      const at = (number - 1) * WORDS;
      if (
        records[at] === a &&
        records[at + 1] === b &&
        records[at + 2] === c &&
        records[at + 3] === d &&
        this.#removed[number - 1] === 0
      ) {
        return slot;
      }
      slot = (slot + step) & mask;
    }
  }

  /** Number of the record of this name, -1 when there is none. */
  find(name: Uint8Array, words: Uint32Array): number {
    return (this.#slots[this.#slot(name, words)] as number) - 1;
  }

  /** Copies the 16 bytes of value of a record into `target` (words, from `at`). */
  copyValue(record: number, target: Uint32Array, at: number): void {
    const from = record * WORDS + 4;
    const records = this.#words;
    target[at] = records[from] as number;
    target[at + 1] = records[from + 1] as number;
    target[at + 2] = records[from + 2] as number;
    target[at + 3] = records[from + 3] as number;
  }

  /**
   * Adds or replaces the record of this name; its value is the four words from `valueAt`. Returns the places left, which
   * is 0 when the chapter is full (whether or not the record found a place).
   */
  put(name: Uint8Array, words: Uint32Array, valueAt: number): number {
    if (this.size >= this.capacity) return 0;
    const slot = this.#slot(name, words);
    let record = (this.#slots[slot] as number) - 1;
    if (record < 0) {
      record = this.size++;
      this.#slots[slot] = record + 1;
    }
    const at = record * WORDS;
    const records = this.#words;
    for (let i = 0; i < 4; i++) {
      records[at + i] = words[i] as number;
      records[at + 4 + i] = words[valueAt + i] as number;
    }
    return this.capacity - this.size;
  }

  /** Removes the record of this name, if there is one. */
  remove(name: Uint8Array, words: Uint32Array): void {
    const record = this.find(name, words);
    if (record < 0) return;
    this.#removed[record] = 1;
    this.removed++;
  }

  nameOf(record: number): Uint8Array {
    return this.records.subarray(record * RECORD_BYTES, record * RECORD_BYTES + NAME_BYTES);
  }
}
