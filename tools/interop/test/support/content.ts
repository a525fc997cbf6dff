/** Data with known content, mixing what a volume treats differently. */
import { createHash } from "node:crypto";
import { Random } from "@vdo/base";

export const BLOCK = 4096;

/** Blocks that the kinds below repeat with: a whole number of these keeps every kind's share. */
export const KINDS = 8;

/**
 * Block `i` of the data of `seed`. By i modulo 8: 0 and 1 unique; 2 as block i-2; 3 zeros; 4 and 5 compressible (three and
 * more fit in a block); 6 as an old unique block; 7 mildly compressible (does not share a block with two others).
 */
function fillBlock(target: Uint8Array, seed: number, i: number): void {
  const kind = i % KINDS;
  if (kind === 3) return void target.fill(0);
  if (kind === 2) return fillBlock(target, seed, i - 2);
  if (kind === 6) return fillBlock(target, seed, Math.floor(i / 3 / KINDS) * KINDS);
  const random = new Random(Math.imul(seed, 0x01000193) ^ Math.imul(i + 1, 0x9e3779b1));
  const length = kind < 2 ? BLOCK : kind === 7 ? 2400 : 64 + (i % 600);
  random.fill(target.subarray(0, length));
  target.fill((i % 251) + 1, length);
}

/** `count` blocks of the data of `seed`. */
export function content(seed: number, count: number): Uint8Array {
  const data = new Uint8Array(count * BLOCK);
  for (let i = 0; i < count; i++) fillBlock(data.subarray(i * BLOCK, (i + 1) * BLOCK), seed, i);
  return data;
}

/** `count` blocks that are all different and do not compress. */
export function uniqueContent(seed: number, count: number): Uint8Array {
  return new Random(seed).fill(new Uint8Array(count * BLOCK));
}

export function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** What a device must hold: written blocks, zeros elsewhere. */
export class ExpectedContent {
  readonly #blocks = new Map<number, Uint8Array>();

  write(start: number, data: Uint8Array): void {
    for (let i = 0; i * BLOCK < data.length; i++) {
      this.#blocks.set(start + i, data.slice(i * BLOCK, (i + 1) * BLOCK));
    }
  }

  clear(start: number, count: number): void {
    for (let i = 0; i < count; i++) this.#blocks.delete(start + i);
  }

  read(start: number, count: number): Uint8Array {
    const data = new Uint8Array(count * BLOCK);
    for (let i = 0; i < count; i++) data.set(this.#blocks.get(start + i) ?? new Uint8Array(0), i * BLOCK);
    return data;
  }
}
