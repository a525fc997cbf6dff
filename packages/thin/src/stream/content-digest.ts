/**
 * A digest of what a disk holds that follows changes: the sum, modulo 2^256, of SHA-256(number of the unit as u64, little
 * endian ▸ its 65536 bytes) over all units of 64 KiB that are not zero. Units may come in any order, and be taken away
 * again. It tells accidents from each other; it is not made to stand against somebody who looks for two disks with one digest.
 */
import { createHash } from "node:crypto";
import { isZero, setU64, viewOf } from "@vdo/base";
import { UNIT_BYTES } from "../format/stream.ts";

const LIMBS = 8;

export class ContentDigest {
  readonly #limbs: Uint32Array;

  constructor(value?: Uint8Array) {
    this.#limbs = new Uint32Array(LIMBS);
    if (value === undefined) return;
    const view = viewOf(value);
    for (let i = 0; i < LIMBS; i++) this.#limbs[i] = view.getUint32(4 * i, true);
  }

  /** Adds whole units from unit `begin` on. */
  addUnits(begin: number, content: Uint8Array): void {
    for (let at = 0; at < content.length; at += UNIT_BYTES) {
      const unit = content.subarray(at, at + UNIT_BYTES);
      if (!isZero(unit)) this.#addBytes(hashOf(begin + at / UNIT_BYTES, unit));
    }
  }

  add(other: ContentDigest): void {
    this.#addBytes(other.bytes());
  }

  subtract(other: ContentDigest): void {
    const view = viewOf(other.bytes());
    let borrow = 0;
    for (let i = 0; i < LIMBS; i++) {
      const difference = (this.#limbs[i] as number) - view.getUint32(4 * i, true) - borrow;
      borrow = difference < 0 ? 1 : 0;
      this.#limbs[i] = difference >>> 0;
    }
  }

  #addBytes(value: Uint8Array): void {
    const view = viewOf(value);
    let carry = 0;
    for (let i = 0; i < LIMBS; i++) {
      const sum = (this.#limbs[i] as number) + view.getUint32(4 * i, true) + carry;
      carry = sum > 0xffff_ffff ? 1 : 0;
      this.#limbs[i] = sum >>> 0;
    }
  }

  /** 32 bytes, little endian. */
  bytes(): Uint8Array {
    const value = new Uint8Array(4 * LIMBS);
    const view = viewOf(value);
    for (let i = 0; i < LIMBS; i++) view.setUint32(4 * i, this.#limbs[i] as number, true);
    return value;
  }

  equals(value: Uint8Array): boolean {
    return this.bytes().every((byte, i) => byte === value[i]);
  }
}

function hashOf(unit: number, content: Uint8Array): Uint8Array {
  const number = new Uint8Array(8);
  setU64(viewOf(number), 0, unit, true);
  return createHash("sha256").update(number).update(content).digest();
}
