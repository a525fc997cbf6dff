/** Bitsets: arrays of 64-bit words, bit i in word i / 64. The application keeps root and length. (Linux 6.12, dm-bitset.) */
import { bytes } from "@vdo/base";
import type { BlockStore } from "../btree/tree-context.ts";
import type { Steps } from "../store/steps.ts";
import { PersistentArray } from "./persistent-array.ts";

const WORD_BITS = 64;
const CLEAR = new Uint8Array(8);
const FULL = new Uint8Array(8).fill(0xff);

/** All methods are steps. Lengths are in bits; bits of the last word past the length are not looked at. */
export class Bitset {
  readonly #words: PersistentArray<Uint8Array>;

  constructor(store: BlockStore, { name = "bitset" }: { name?: string } = {}) {
    this.#words = new PersistentArray(store, { type: { codec: bytes(8) }, name });
  }

  /** Root of a new bitset of length 0. */
  *empty(): Steps<number> {
    return yield* this.#words.empty();
  }

  /** Makes a bitset of `from` bits one of `to` bits. New words are all `value`. */
  *resize(root: number, { from, to, value }: { from: number; to: number; value: boolean }): Steps<number> {
    const words = { from: Math.ceil(from / WORD_BITS), to: Math.ceil(to / WORD_BITS), value: value ? FULL : CLEAR };
    return yield* this.#words.resize(root, words);
  }

  /** A bit; undefined past the end. */
  *test(root: number, index: number): Steps<boolean | undefined> {
    const place = yield* this.#words.place(root, Math.floor(index / WORD_BITS));
    if (place === undefined) return undefined;
    return ((place.view.getUint8(place.at + byteOf(index)) >>> (index % 8)) & 1) === 1;
  }

  /** Sets or clears a bit; returns the new root. A bit that is so already changes nothing. Throws `VDO_OUT_OF_RANGE`. */
  *put(root: number, index: number, value: boolean): Steps<number> {
    if ((yield* this.test(root, index)) === value) return root;
    const { view, at, root: newRoot } = yield* this.#words.change(root, Math.floor(index / WORD_BITS));
    const byte = view.getUint8(at + byteOf(index));
    const mask = 1 << (index % 8);
    view.setUint8(at + byteOf(index), value ? byte | mask : byte & ~mask);
    return newRoot;
  }

  /** Number of bits set among the first `length`. */
  *countSet(root: number, length: number): Steps<number> {
    const words = yield* this.#words.range(root, { to: Math.ceil(length / WORD_BITS) });
    let count = 0;
    words.forEach((word, i) => {
      for (let bit = 0; bit < WORD_BITS && i * WORD_BITS + bit < length; bit++) {
        count += ((word[bit >>> 3] as number) >>> (bit % 8)) & 1;
      }
    });
    return count;
  }

  /** Drops one holder of the bitset. */
  *drop(root: number): Steps<void> {
    yield* this.#words.drop(root);
  }
}

/** Byte of a bit within its word. */
function byteOf(index: number): number {
  return (index % WORD_BITS) >>> 3;
}
